"""Two real workers train one SASRec together, and go on from a checkpoint as if they had never stopped."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.training import Batch, SasRecPlan, train_sasrec
from ganrec_spark.training.checkpoints import file_checkpoints
from ganrec_spark.training.launcher import train_distributed
from ganrec_spark.training.worker import Worker

# Workers cannot import tests; what they run travels whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ITEMS, LENGTH, STEPS = 12, 6, 3


def stream(worker: Worker) -> Iterator[Batch]:
    """Yield this worker's own users, who walk around the items, for ever."""
    rng = np.random.default_rng(worker.index)
    while True:
        starts = torch.from_numpy(rng.integers(ITEMS, size=16))
        yield (starts[:, None] + torch.arange(LENGTH)) % ITEMS, torch.full((16,), LENGTH)


def train(worker: Worker, epochs: int, folder: str) -> dict[str, object]:
    plan = SasRecPlan(
        Shape(ITEMS, LENGTH, embedding_size=8, blocks=1, heads=1, dropout=0.0),
        epochs=epochs,
        steps=STEPS,
        batch_size=32,
        seed=3,
        learning_rate=0.01,
        negatives=8,
        gradient_clip=5.0,
        averaging=2.0,
        catalogue=np.arange(ITEMS),
    )
    files = file_checkpoints(folder, "sasrec.pt", worker.warn)
    trained = train_sasrec(worker, plan, stream(worker), files)
    return {"state": trained.state, "epochs": len(trained.history)} if worker.index == 0 else {}


def test_two_workers_resume_to_the_state_of_a_whole_training(spark: SparkSession, tmp_path: Path) -> None:
    def state(epochs: int, folder: str) -> dict[str, torch.Tensor]:
        found = train_distributed(spark, train, Distributed(workers=2), epochs=epochs, folder=str(tmp_path / folder))
        assert found["epochs"] == epochs
        loaded: dict[str, torch.Tensor] = torch.load(io.BytesIO(found["state"]), weights_only=True)  # type: ignore[arg-type]
        return loaded

    whole = state(4, "whole")
    halfway = state(2, "stopped")
    resumed = state(4, "stopped")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)
    assert not torch.allclose(halfway["items.weight"], whole["items.weight"])


def test_workers_say_that_a_damaged_checkpoint_is_set_aside(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sasrec.pt").write_bytes(b"half of a state")
    with caplog.at_level(logging.WARNING, "ganrec"):
        found = train_distributed(spark, train, Distributed(workers=2), epochs=1, folder=str(tmp_path))
    assert found["epochs"] == 1
    assert "sasrec.pt: damaged, set aside as sasrec.pt.damaged; training starts anew" in caplog.text
