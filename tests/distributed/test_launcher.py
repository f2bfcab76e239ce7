"""Real workers, by Horovod and by torch.distributed, learn in step; whatever stops one ends all with a reason."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import cloudpickle
import pyspark.cloudpickle
import pytest
import torch
from pyspark import SparkConf
from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed, Launcher
from ganrec_spark.errors import TrainingError
from ganrec_spark.training.launcher import train_distributed
from ganrec_spark.training.worker import Worker, share

# Workers cannot import tests; what they run travels whole, by the pickler of each launcher.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pyspark.cloudpickle.register_pickle_by_value(sys.modules[__name__])

by_every_launcher = pytest.mark.parametrize("launcher", typing.get_args(Launcher))


def fit(worker: Worker, accident: str = "", at: int = 5) -> dict[str, object]:
    """Fit y = sum(x) on each worker's own points, starting from different weights; worker 1 has the accident."""
    torch.manual_seed(worker.index)
    model = torch.nn.Linear(4, 1)
    worker.broadcast(model)
    optimizer = worker.wrap(torch.optim.Adam(model.parameters(), lr=0.05), model, "model")
    # A second network with equal parameter names must not disturb the first.
    other = torch.nn.Linear(4, 1)
    worker.broadcast(other)
    other_optimizer = worker.wrap(torch.optim.SGD(other.parameters(), lr=0.01), other, "other")
    points = torch.Generator().manual_seed(worker.index)
    losses = []
    for step in range(60):
        x = torch.randn(32, 4, generator=points)
        for network, its_optimizer, sign in ((model, optimizer, 1), (other, other_optimizer, -1)):
            loss = ((network(x) - sign * x.sum(1, keepdim=True)) ** 2).mean()
            its_optimizer.zero_grad()
            loss.backward()
            worker.clip(its_optimizer, network.parameters(), 5.0)
            worker.step(its_optimizer)
            if sign == 1:
                losses.append(worker.mean(loss.item(), "loss"))
        if accident and step == at and worker.index == worker.count - 1:
            happen(accident)
    worker.broadcast_optimizer(optimizer)
    spread = worker.mean(model.weight.sum().item(), "sum") - model.weight.sum().item()
    worker.log(f"worker {worker.index} of {worker.count} is done")
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return {
        "losses": losses,
        "spread": spread,
        "first": worker.from_first(float(worker.index), "index"),
        "mean": worker.mean(float(worker.index), "index"),
        "state": buffer.getvalue(),
    }


def happen(accident: str) -> None:
    if accident == "raise":
        raise ValueError("the data of worker 1 is sick")
    if accident == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


@by_every_launcher
def test_two_workers_learn_in_step(
    spark: SparkSession, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], launcher: Launcher
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with caplog.at_level(logging.DEBUG, "ganrec"):
        result = train_distributed(spark, fit, Distributed(workers=2, launcher=launcher))
    losses = result["losses"]
    assert losses[-1] < losses[0] / 3
    assert (result["spread"], result["first"], result["mean"]) == (0, 0, 0.5)
    assert isinstance(torch.load(io.BytesIO(result["state"]), weights_only=True), dict)
    ours = [record.message for record in caplog.records if record.name == "ganrec"]  # py4j writes to the root logger
    assert ours == ["worker 0 of 2 is done"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr().out == ""


def fit_side_by_side(worker: Worker, models: int) -> dict[str, object]:
    trainer, own = share(worker, models)
    return {f"model {number}": fit(trainer) | {"worker": worker.index} for number in own}


@by_every_launcher
def test_as_many_models_as_workers_are_trained_side_by_side_as_if_each_were_alone(
    spark: SparkSession, launcher: Launcher
) -> None:
    config = Distributed(workers=2, launcher=launcher)
    found = train_distributed(spark, fit_side_by_side, config, n_models=3, models=3)
    assert [found[f"model {number}"]["worker"] for number in range(3)] == [0, 1, 1]
    alone = fit(Worker())["losses"]
    for number in range(3):
        assert found[f"model {number}"]["losses"] == pytest.approx(alone, rel=1e-4)


def fail_beside_a_long_training(worker: Worker, accident: str) -> dict[str, object]:
    trainer, _ = share(worker, 2)
    if worker.index == 1:
        happen(accident)
    trainer.log(str(os.getpid()))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for _ in range(3000):  # five minutes
        trainer.step(optimizer)
        time.sleep(0.1)
    return {}


@by_every_launcher
@pytest.mark.parametrize(
    ("accident", "stall_timeout", "says"),
    [
        ("raise", 300, "worker 1: ValueError: the data"),
        ("kill", 300, "worker 1: died without a message"),
        ("stall", 12, "worker 1: made no progress for 12 s"),
    ],
)
def test_a_worker_that_fails_ends_the_training_of_the_others_beside_it(
    spark: SparkSession,
    caplog: pytest.LogCaptureFixture,
    launcher: Launcher,
    accident: str,
    stall_timeout: int,
    says: str,
) -> None:
    config = Distributed(workers=2, launcher=launcher, stall_timeout_seconds=stall_timeout)
    started = time.monotonic()
    with caplog.at_level(logging.DEBUG, "ganrec"), pytest.raises(TrainingError, match=says):
        train_distributed(spark, fail_beside_a_long_training, config, n_models=2, accident=accident)
    assert time.monotonic() - started < 120
    # The log has the trace of one that raised, too.
    [other] = [int(record.message) for record in caplog.records if record.message.isdigit()]
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{other}"):  # noqa: PTH110
        assert time.monotonic() < deadline, "the worker beside the failed one lives on"
        time.sleep(0.5)


def test_one_worker_is_a_call(spark: SparkSession) -> None:
    assert train_distributed(spark, fit, Distributed(workers=1)) == fit(Worker())
    with pytest.raises(ValueError, match="sick"):
        train_distributed(spark, fit, Distributed(workers=1), accident="raise")


def test_one_worker_loads_no_horovod_and_torch_leaves_no_files_behind(tmp_path: Path) -> None:
    # In a process of its own: Torch makes its compiler's folder once, with the first optimizer.
    program = """
import sys
import torch
from ganrec_spark.config.cluster import Distributed, Launcher
from ganrec_spark.training.launcher import train_distributed

def train(worker):
    torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    return {"done": True}

print(train_distributed(None, train, Distributed(workers=1)), 'horovod' in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "{'done': True} False", done.stderr
    assert list(tmp_path.iterdir()) == []


@by_every_launcher
@pytest.mark.parametrize(
    ("accident", "stall_timeout", "says"),
    [
        ("raise", 300, "worker 1: ValueError: the data of worker 1 is sick"),
        ("kill", 300, "worker 1: died without a message"),
        ("stall", 12, "worker 1: made no progress for 12 s"),
    ],
)
def test_whatever_stops_a_worker_ends_the_training(
    spark: SparkSession, launcher: Launcher, accident: str, stall_timeout: int, says: str
) -> None:
    config = Distributed(workers=2, launcher=launcher, stall_timeout_seconds=stall_timeout)
    with pytest.raises(TrainingError, match=says):
        train_distributed(spark, fit, config, accident=accident)
    assert spark.range(3).count() == 3


@by_every_launcher
def test_too_few_slots_are_refused_at_once(spark: SparkSession, launcher: Launcher) -> None:
    started = time.monotonic()
    with pytest.raises(TrainingError, match=r"3 workers .* Spark has 2 .*lower distributed.workers to 2"):
        train_distributed(spark, fit, Distributed(workers=3, launcher=launcher))
    assert time.monotonic() - started < 5


def test_torchrun_under_dynamic_allocation_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = SparkConf(loadDefaults=False).set("spark.dynamicAllocation.enabled", "true")
    monkeypatch.setattr(type(spark.sparkContext), "getConf", lambda _: conf)
    with pytest.raises(TrainingError, match=r"torchrun .*spark\.profiles\.training"):
        train_distributed(spark, fit, Distributed(workers=2, launcher="torchrun"))
