"""Rank the catalogue for every user by the mean of several models."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories, lists
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.catalogue import Score, rank_catalogue
from ganrec_spark.recommenders.transformer.network import SASRec, Shape
from ganrec_spark.recommenders.transformer.training import SasRecPlan
from ganrec_spark.run.context import Context
from ganrec_spark.training.resume import state_of

_SCORERS: dict[tuple[str, ...], list[SASRec]] = {}
_TOGETHER = 32  # histories of one width that go through the networks at once


def candidates(
    context: Context, plan: SasRecPlan, states: list[bytes], sequences: DataFrame, ratings: DataFrame
) -> DataFrame:
    """Return table transformer_candidates: users' best items of the catalogue, no observed or disliked ones.

    Of all users, in phase choose of those who judge the lists and of those whose lists may be fills.
    A score is the mean over models of the log probability of the item among the catalogue's.
    """
    score = ship_models(context.spark, plan.shape, plan.catalogue, states)
    disliked = dislikes.of_phase(context.lake.read("known_dislikes"), ratings, str(context.phase))
    own = of_listed(context, ratings, may_fill=True)
    return ranked_by(sequences, own, score, disliked, context.config.recommend.n_candidates)


def ship_models(spark: SparkSession, shape: Shape, catalogue: NDArray[np.int64], states: list[bytes]) -> Score:
    """Return the score of the models with these state dicts, which travel once per machine, for items they saw."""
    bias = np.full(shape.n_items, -np.inf, dtype=np.float32)
    bias[catalogue] = 0
    shipped = [
        ship(spark, catalogue_bias=bias, **{name: tensor.numpy() for name, tensor in loaded.items()})
        for loaded in (state_of(state) for state in states)
    ]
    return _scorer(shipped, shape, sorted(state_of(states[0])))


def ranked_by(
    sequences: DataFrame,
    ratings: DataFrame,
    score: Score,
    disliked: DataFrame | None,
    n: int,
    run: Mapper = by_tasks,
) -> DataFrame:
    """Return `candidates` by a score of the catalogue."""
    users = (
        sequences.where(F.col("length") > 0)
        .select("user_idx", F.expr("slice(items, 1, length)").alias("sequence"))
        .join(dislikes.never_listed(histories(ratings), disliked), "user_idx")
        .repartition(max(sequences.sparkSession.sparkContext.defaultParallelism, 2), "user_idx")
    )
    ranked = rank_catalogue(users, score, n, run=run)
    return ranked.withColumn("fill", F.lit(NONE))


def _scorer(models: list[Shipped], shape: Shape, names: list[str]) -> Score:
    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        histories = [history[-shape.max_length :] for history in lists(block, "sequence")]
        widths = np.array([_width(len(history), shape.max_length) for history in histories])
        total = np.zeros((len(histories), shape.n_items), dtype=np.float32)
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            for part in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER)):
                total[part] = alike([histories[row] for row in part], int(width))
        return total / np.float32(len(models))

    def alike(histories: list[NDArray[np.integer[Any]]], width: int) -> NDArray[np.float32]:
        # Always as many rows, the last ones empty, and all by Torch: its kernels round by the number of rows, and
        # NumPy's, on some processors, by a row's place, so that scores would hang on who stands beside.
        items = np.full((_TOGETHER, width), -1, dtype=np.int32)
        for row, history in enumerate(histories):
            items[row, : len(history)] = history
        lengths = np.ones(_TOGETHER, dtype=np.int32)
        lengths[: len(histories)] = [len(history) for history in histories]
        total = np.zeros((_TOGETHER, shape.n_items), dtype=np.float32)
        for shipped, network in zip(models, _networks(models, shape, names), strict=True):
            with torch.no_grad():
                last = network.last_states(torch.from_numpy(items), torch.from_numpy(lengths))
                scores = (last @ network.item_vectors().T).numpy()
            scores += shipped["catalogue_bias"]
            total += torch.log_softmax(torch.from_numpy(scores), dim=1).numpy()
        return total[: len(histories)]

    return score


def _width(length: int, longest: int) -> int:
    """Return what a history is padded to, by its own length alone: attention rounds by it, so not by its block's."""
    return min(1 << (length - 1).bit_length(), longest)


def _networks(models: list[Shipped], shape: Shape, names: list[str]) -> list[SASRec]:
    """Return the networks, built once per Python worker; those of an earlier phase or run are let go."""
    key = tuple(shipped.file("items.weight") for shipped in models)
    if key not in _SCORERS:
        torch.set_num_threads(1)  # Spark runs a Python worker per core
        networks = [SASRec(shape) for _ in models]
        for network, shipped in zip(networks, models, strict=True):
            network.load_state_dict({name: torch.from_numpy(np.array(shipped[name])) for name in names})
            network.eval()
        _SCORERS.clear()
        _SCORERS[key] = networks
    return _SCORERS[key]
