"""Start workers with Horovod on Spark; no modules but those named horovod_* import Horovod."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.training.horovod_task import task
from ganrec_spark.training.joined import be_worker
from ganrec_spark.training.reports import Address, ReportServer, python_error
from ganrec_spark.training.worker import Train

_CYCLE_MS, _IDLE_CYCLE_MS = 1, 100  # between Horovod's rounds: where each step waits for them, and where none does


class HorovodLauncher:
    """Workers are processes that Horovod starts in Spark tasks.

    Its threads take a quarter of a core's time to ask each other for work; where each of `n_models` is trained by one
    worker alone, they are let sleep.
    """

    def __init__(self, spark: SparkSession, config: Distributed, n_models: int) -> None:
        self._spark, self._config = spark, config
        # Horovod gives up by itself where it gets no tasks in time; what its workers load comes on top.
        self.start_seconds = config.start_timeout_seconds + config.stall_timeout_seconds
        self._cycle_ms = _CYCLE_MS if n_models < config.workers else _IDLE_CYCLE_MS

    def run(self, train: Train, arguments: dict[str, Any], reports: ReportServer) -> list[dict[str, object]]:
        """Return the results in the order of workers; see launcher.Launcher."""
        import horovod.spark

        start_seconds = str(self._config.start_timeout_seconds)
        with (
            open(os.devnull, "w") as silence,  # noqa: PTH123
            _quiet_threads(reports),
            _signals_left_alone(),
            _tasks_that_leave(),
        ):
            return list(
                horovod.spark.run(
                    _work,
                    args=(train, arguments, reports.address, self._config.threads_per_worker),
                    num_proc=self._config.workers,
                    start_timeout=self._config.start_timeout_seconds,
                    use_gloo=True,
                    env={
                        "HOROVOD_GLOO_TIMEOUT_SECONDS": start_seconds,
                        "HOROVOD_SPARK_START_TIMEOUT": start_seconds,
                        "HOROVOD_LOG_LEVEL": "fatal",
                        "HOROVOD_CYCLE_TIME": str(self._cycle_ms),
                    },
                    stdout=silence,
                    stderr=silence,
                    verbose=0,
                    executable=os.environ.get("PYSPARK_PYTHON") or sys.executable,
                )
            )

    def cancel(self) -> None:
        """Cancel Horovod's Spark job."""
        from horovod.spark.driver import job_id

        self._spark.sparkContext.cancelJobGroup(f"horovod.spark.run.{job_id.JOB_ID}")


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Keep the driver's handlers: Horovod's own would take SIGTERM, and tell of workers that died without a message."""
    from horovod.runner import gloo_run

    ended: list[threading.Event] = []

    def event() -> threading.Event:
        ended.append(threading.Event())
        return ended[-1]

    original = gloo_run.register_shutdown_event
    gloo_run.register_shutdown_event = event
    try:
        yield
    finally:
        gloo_run.register_shutdown_event = original
        for each in ended:
            each.set()


@contextmanager
def _tasks_that_leave() -> Iterator[None]:
    """Let Horovod start `task` in place of its own, which it looks up by name."""
    from horovod.spark import runner

    original = runner._task_fn
    runner._task_fn = task
    try:
        yield
    finally:
        runner._task_fn = original


@contextmanager
def _quiet_threads(reports: ReportServer) -> Iterator[None]:
    """Keep the cause of a failed Spark job for the error that is raised; Horovod's thread would print its trace."""
    hook = threading.excepthook

    def keep_cause(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or "run_spark" not in failure.thread.name:
            hook(failure)
        else:
            reports.job_failure = python_error(str(failure.exc_value))

    threading.excepthook = keep_cause
    # Py4J logs a trace for each connection that a finished thread of Horovod's leaves behind.
    py4j = logging.getLogger("py4j")
    level = py4j.level
    py4j.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        py4j.setLevel(level)
        threading.excepthook = hook


def _work(train: Train, arguments: dict[str, Any], address: Address, threads: int) -> dict[str, object]:
    """Be one worker; return the result of `train`."""
    # Killed by a signal, the shell above would say so to a stream that is closed by then, and leave a trace.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from ganrec_spark.training.horovod_worker import joined

    return be_worker(lambda reporter: joined(reporter, threads), train, arguments, address)
