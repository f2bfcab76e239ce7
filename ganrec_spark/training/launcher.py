"""Run a training function on workers inside Spark tasks, by Horovod or by torch.distributed, and end them together.

What starts workers is imported only once several are wanted: a driver that trains with one needs none of it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.errors import TrainingError
from ganrec_spark.training.alone import train_alone
from ganrec_spark.training.reports import ReportServer, failure_in_words
from ganrec_spark.training.slots import require_slots
from ganrec_spark.training.worker import Train

_POLL_SECONDS = 0.5
_LEAVE_SECONDS = 5.0  # time for the others to notice by themselves that one failed


class Launcher(Protocol):
    """Starts `config.workers` workers at once; used for one training.

    `start_seconds`: for how long it may be that no worker has reported.
    """

    start_seconds: int

    def run(self, train: Train, arguments: dict[str, Any], reports: ReportServer) -> list[dict[str, object]]:
        """Return the result of each worker, in their order; raise whatever says that one of them failed."""

    def cancel(self) -> None:
        """End all workers, from another thread; `run` then raises."""


def train_distributed(
    spark: SparkSession, train: Train, config: Distributed, n_models: int = 1, **arguments: object
) -> dict[str, object]:
    """Return the results of `train(worker, **arguments)` on `config.workers` workers as one; worker 0's come first.

    `n_models`: how many `train` trains (training.worker.share): of as many as workers each is trained by one alone.

    `train` and `arguments` are sent by cloudpickle, so `train` must be importable where workers run. Workers that
    train together must make the same number of steps. With one worker `train` is called here, without a launcher.

    Raises TrainingError where Spark has too few slots, or a worker raises, dies, or makes no progress for
    `config.stall_timeout_seconds`; the others are ended, whatever they are at.
    """
    if config.workers == 1:
        return train_alone(train, config, arguments)
    require_slots(spark, config)
    launcher = _launcher(spark, config, n_models)
    host = str(spark.sparkContext.getConf().get("spark.driver.host", "localhost"))
    with ReportServer(host) as reports:
        try:
            with _watched(launcher, reports, config):
                results = launcher.run(train, arguments, reports)
        except Exception as error:
            raise TrainingError(failure_in_words(reports, config.workers, error)) from error
    return {name: value for result in reversed(results) for name, value in result.items()}


def _launcher(spark: SparkSession, config: Distributed, n_models: int) -> Launcher:
    if config.launcher == "torchrun":
        from ganrec_spark.training.torch_launcher import TorchLauncher

        return TorchLauncher(spark, config)
    from ganrec_spark.training.horovod_launcher import HorovodLauncher

    return HorovodLauncher(spark, config, n_models)


@contextmanager
def _watched(launcher: Launcher, reports: ReportServer, config: Distributed) -> Iterator[None]:
    stopped = threading.Event()
    watch = threading.Thread(target=_watch, args=(launcher, reports, config, stopped), daemon=True)
    watch.start()
    try:
        yield
    finally:
        stopped.set()
        watch.join()


def _watch(launcher: Launcher, reports: ReportServer, config: Distributed, stopped: threading.Event) -> None:
    """End the training once a worker stalls, fails or dies."""
    while not stopped.wait(_POLL_SECONDS):
        worker, seconds = reports.longest_silent()
        if not reports.started and seconds > launcher.start_seconds:
            reports.fail(
                worker,
                f"none has started within {launcher.start_seconds} s (distributed.start_timeout_seconds); see whether "
                "other jobs hold the task slots, or raise the limit if executors take so long",
            )
        elif reports.started and seconds > config.stall_timeout_seconds:
            reports.fail(
                worker,
                f"made no progress for {config.stall_timeout_seconds} s (distributed.stall_timeout_seconds); see "
                "whether it waits for data or for memory, or raise the limit if one step or one validation takes so "
                "long",
            )
        elif reports.failing_seconds() < _LEAVE_SECONDS:
            continue
        launcher.cancel()
        return
