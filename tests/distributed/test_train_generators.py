"""All generators in one launch of two Horovod workers, over Parquet read by Petastorm."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.config.models import Generator as Settings
from ganrec_spark.fills.generators.cgan import Start
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.fills.generators.training import GeneratorPlan
from ganrec_spark.fills.training import train_generators
from ganrec_spark.training.launcher import train_distributed

KINDS = ("agn", "vae", "cgan")
USERS, ITEMS, LENGTH, EPOCHS = 160, 40, 8, 3


def rows(folder: Path) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    items = np.stack([rng.permutation(20)[:LENGTH] + 20 * (user % 2) for user in range(USERS)]).astype(np.int32)
    weights = np.ones((USERS, LENGTH), np.float32)
    urls = []
    for number in range(4):
        part = slice(number * 40, number * 40 + 40)
        table = pa.table({"items": list(items[part]), "weights": list(weights[part])})
        pq.write_table(table, folder / f"{number}.parquet")
        urls.append(f"file://{folder}/{number}.parquet")
    return urls, items, weights


@pytest.mark.parametrize("kinds", [KINDS, ("cgan",)], ids=["side by side", "together"])
def test_two_workers_train_every_generator_and_resume(
    spark: SparkSession, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    urls, items, weights = rows(tmp_path)
    numbers = Settings(cgan_embedding_size=8, vae_hidden_size=16).model_dump().items()
    settings = {name: float(value) for name, value in numbers if isinstance(value, int | float)}
    start = Start(np.zeros((ITEMS, 8), np.float32), np.zeros(ITEMS, np.float32))
    plans = [
        GeneratorPlan(
            kind,
            ITEMS,
            EPOCHS,
            EPOCHS,
            5,
            42,
            settings,
            start,
            np.arange(ITEMS),
            Profiles(items[:32], weights[:32], np.zeros_like(items[:32])),
            items[32:64, :2],
        )
        for kind in kinds
    ]

    def launch() -> dict[str, Any]:
        return train_distributed(
            spark,
            train_generators,
            Distributed(workers=2),
            plans=plans,
            urls=urls,
            batch_size=32,
            checkpoint_dir=str(tmp_path / "checkpoints"),
            tensorboard_dir=None,
        )

    first = launch()
    assert set(first) == set(kinds)
    for result in first.values():
        assert result["stopped"] == "all epochs done"
        assert {epoch for epoch, _, _ in result["history"]} == {0, 1, 2, 3}
    losses = [value for _, name, value in first["cgan"]["history"] if name == "loss"]
    assert losses[-1] < losses[0]
    # The checkpoints say that all is done; nothing is trained again.
    again = launch()
    assert {kind: result["state"] for kind, result in again.items()} == {
        kind: result["state"] for kind, result in first.items()
    }
    assert again["cgan"]["history"] == first["cgan"]["history"]
