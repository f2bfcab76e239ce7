"""What benchmarks/speed.py measures: each function returns what takes ours, and what takes the peer, in seconds."""

import itertools
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.frames.histories import histories
from ganrec_spark.recommenders.als.factors import AlsFactors, by_factors
from ganrec_spark.recommenders.als.solver import Objective, fit_als
from ganrec_spark.recommenders.catalogue import rank_by
from ganrec_spark.recommenders.transformer.fit import fit
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.training import Batch, SasRecPlan, train_sasrec
from ganrec_spark.training.alone import torch_settings
from ganrec_spark.training.launcher import train_distributed
from ganrec_spark.training.worker import Worker

LISTED, LENGTH, THREADS = 20, 8, 2
_FILES = 4
_REGULARISATION, _ALPHA = 0.2, 20.0

Timed = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Bench:
    """What measures are made with: the session, (user_idx, item_idx, rating), a folder, and the command line."""

    spark: SparkSession
    ratings: DataFrame
    folder: Path
    options: Namespace


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def top_n(bench: Bench) -> tuple[Timed, Timed]:
    """Return what writes all lists, by our ranking and by MLlib's, of the same vectors."""
    model = mllib(bench, 1).fit(bench.ratings)
    items = model.itemFactors.orderBy("id").toArrow()
    matrix = np.stack(items["features"].to_numpy()).astype(np.float32)
    axis = items["id"].to_numpy().astype(np.int32)
    users = model.userFactors.select(F.col("id").alias("user_idx"), F.col("features").alias("factors")).cache()
    seen = histories(bench.ratings).join(users, "user_idx").cache()
    seen.count()
    best = by_factors(bench.spark, AlsFactors(users, axis, matrix))
    return (
        lambda: seconds(lambda: write(bench, rank_by(seen, best, LISTED))),
        lambda: seconds(lambda: write(bench, model.recommendForAllUsers(LISTED))),
    )


def als(bench: Bench) -> tuple[Timed, Timed]:
    """Return what fits ten iterations, users' vectors included."""
    objective = Objective(bench.options.size, 10, _REGULARISATION, _ALPHA, True, 42)
    return (
        lambda: seconds(lambda: fit_als(bench.ratings, objective, "numpy").users.count()),
        lambda: seconds(lambda: mllib(bench, 10).fit(bench.ratings).userFactors.count()),
    )


def mllib(bench: Bench, iterations: int) -> ALS:
    """Return MLlib's ALS of the same objective."""
    columns = {"userCol": "user_idx", "itemCol": "item_idx", "ratingCol": "rating"}
    setting = {"regParam": _REGULARISATION, "alpha": _ALPHA, "implicitPrefs": True, "seed": 42}
    return ALS(rank=bench.options.size, maxIter=iterations, **columns, **setting)


def write(bench: Bench, frame: DataFrame) -> None:
    """Write rows to Parquet."""
    frame.write.mode("overwrite").parquet(f"file://{bench.folder}/lists")


def catalogue(bench: Bench) -> tuple[Timed, Timed]:
    """Return what takes steps of the same batches, with many items and with few."""
    few, many = bench.options.items
    return tuple(lambda n=n: from_memory(plan_of(bench, n), few) for n in (many, few))  # type: ignore[return-value]


def readers(bench: Bench) -> tuple[Timed, Timed]:
    """Return what takes steps fed by Petastorm, and fed from memory."""
    few, _ = bench.options.items
    urls = sequences(bench, few)
    return (
        lambda: launched(bench, urls, few, Distributed(workers=1, threads_per_worker=THREADS)),
        lambda: from_memory(plan_of(bench, few), few),
    )


def workers(bench: Bench) -> tuple[Timed, Timed]:
    """Return what trains an epoch by two workers, and by one of as many threads."""
    few, _ = bench.options.items
    urls = sequences(bench, few)
    return (
        lambda: launched(bench, urls, few, Distributed(workers=THREADS, threads_per_worker=1)),
        lambda: launched(bench, urls, few, Distributed(workers=1, threads_per_worker=THREADS)),
    )


def plan_of(bench: Bench, n_items: int) -> SasRecPlan:
    """Return one epoch of the shipped network's steps."""
    return SasRecPlan(
        Shape(n_items, LENGTH, embedding_size=64, blocks=1, heads=1, dropout=0.2),
        epochs=1,
        steps=bench.options.steps,
        batch_size=512,
        seed=1,
        learning_rate=0.004,
        negatives=1024,
        gradient_clip=5.0,
        averaging=2.0,
        catalogue=np.arange(n_items),
    )


def from_memory(plan: SasRecPlan, n_items: int) -> float:
    """Return the seconds of an epoch of batches of the first `n_items`, each at hand before it is asked for."""
    rng = np.random.default_rng(2)
    made: list[Batch] = []
    for _ in range(8):
        items = drawn(rng, plan.batch_size, n_items)
        made.append((torch.from_numpy(items), torch.full((len(items),), LENGTH, dtype=torch.int32)))
    batches: Iterator[Batch] = itertools.cycle(made)
    with torch_settings(THREADS):
        return train_sasrec(Worker(), plan, batches).seconds_per_epoch


def launched(bench: Bench, urls: list[str], n_items: int, config: Distributed) -> float:
    """Return the seconds of an epoch of rows that are read from Parquet, by workers of `config`."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        arguments: dict[str, Any] = {
            "plans": [plan_of(bench, n_items)],
            "urls": urls,
            "checkpoint_dir": folder,
            "checkpoints": ["sasrec.pt"],
            "tensorboard_dir": f"{folder}/tensorboard",
        }
        found: Any = train_distributed(bench.spark, fit, config, **arguments)
    return float(found["sasrec"]["seconds_per_epoch"])


def sequences(bench: Bench, n_items: int) -> list[str]:
    """Write histories as table user_sequences has them; return their files."""
    rng, urls = np.random.default_rng(3), []
    for number in range(_FILES):
        items = drawn(rng, 20_000, n_items)
        lengths = pa.array(np.full(len(items), LENGTH, np.int32))
        path = bench.folder / f"{number}.parquet"
        pq.write_table(pa.table({"items": pa.array(list(items), pa.list_(pa.int32())), "length": lengths}), path)
        urls.append(f"file://{path}")
    return urls


def drawn(rng: np.random.Generator, users: int, n_items: int) -> "np.ndarray":
    """Return histories of items of which some are popular."""
    return (n_items * rng.random((users, LENGTH)) ** 2).astype(np.int32)
