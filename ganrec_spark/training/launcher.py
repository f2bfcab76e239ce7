"""Run a training function on Horovod workers inside Spark tasks.

No module but this one and horovod_worker.py imports Horovod, and this one only once several workers are wanted: a
driver that trains with one worker needs none.
"""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Distributed
from ganrec_spark.errors import TrainingError
from ganrec_spark.training.alone import compiler_files_removed, train_alone
from ganrec_spark.training.reports import Address, Reporter, ReportServer, failure_in_words, python_error
from ganrec_spark.training.slots import require_slots
from ganrec_spark.training.worker import Train

_POLL_SECONDS = 0.5
_CYCLE_MS, _IDLE_CYCLE_MS = 1, 100  # between Horovod's rounds: where each step waits for them, and where none does
_LEAVE_SECONDS = 5.0  # time for the others to notice by themselves that one failed


def train_distributed(
    spark: SparkSession, train: Train, config: Distributed, n_models: int = 1, **arguments: object
) -> dict[str, object]:
    """Return the results of `train(worker, **arguments)` on `config.workers` workers as one; worker 0's come first.

    `n_models`: how many `train` trains (training.worker.share): of as many as workers each is trained by one alone, and
    Horovod's threads, which take a quarter of a core's time to ask each other for work, are let sleep.

    `train` and `arguments` are sent by cloudpickle, so `train` must be importable where workers run. Workers that
    train together must make the same number of steps. With one worker `train` is called here, without Horovod.

    Raises TrainingError where Spark has too few slots, or a worker raises, dies, or makes no progress for
    `config.stall_timeout_seconds`; the others are ended, whatever they are at.
    """
    if config.workers == 1:
        return train_alone(train, config, arguments)
    require_slots(spark, config)
    host = str(spark.sparkContext.getConf().get("spark.driver.host", "localhost"))
    with ReportServer(host) as reports, _quiet_threads(reports):
        stopped = threading.Event()
        watch = threading.Thread(target=_watch, args=(spark, reports, config, stopped), daemon=True)
        watch.start()
        try:
            results = _run_horovod(train, arguments, config, n_models, reports.address)
        except Exception as error:
            raise TrainingError(failure_in_words(reports, config.workers, error)) from error
        finally:
            stopped.set()
            watch.join()
    return {name: value for result in reversed(results) for name, value in result.items()}


def _run_horovod(
    train: Train, arguments: dict[str, Any], config: Distributed, n_models: int, address: Address
) -> list[dict[str, object]]:
    import horovod.spark

    with open(os.devnull, "w") as silence, _signals_left_alone():  # noqa: PTH123
        return list(
            horovod.spark.run(
                _work,
                args=(train, arguments, address, config.threads_per_worker),
                num_proc=config.workers,
                start_timeout=config.start_timeout_seconds,
                use_gloo=True,
                env={
                    "HOROVOD_GLOO_TIMEOUT_SECONDS": str(config.start_timeout_seconds),
                    "HOROVOD_SPARK_START_TIMEOUT": str(config.start_timeout_seconds),
                    "HOROVOD_LOG_LEVEL": "fatal",
                    "HOROVOD_CYCLE_TIME": str(_CYCLE_MS if n_models < config.workers else _IDLE_CYCLE_MS),
                },
                stdout=silence,
                stderr=silence,
                verbose=0,
                executable=os.environ.get("PYSPARK_PYTHON") or sys.executable,
            )
        )


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


def _watch(spark: SparkSession, reports: ReportServer, config: Distributed, stopped: threading.Event) -> None:
    """Cancel Horovod's Spark job once a worker stalls, fails or dies; Horovod then raises in the main thread."""
    from horovod.spark.driver import job_id

    while not stopped.wait(_POLL_SECONDS):
        worker, seconds = reports.longest_silent()
        limit = config.stall_timeout_seconds + (config.start_timeout_seconds if worker < 0 else 0)
        if seconds > limit:
            reports.fail(
                worker,
                f"made no progress for {limit} s (distributed.stall_timeout_seconds); see whether it waits for data or "
                "for memory, or raise the limit if one step or one validation takes so long",
            )
        elif reports.failing_seconds() < _LEAVE_SECONDS:
            continue
        spark.sparkContext.cancelJobGroup(f"horovod.spark.run.{job_id.JOB_ID}")
        return


@contextmanager
def _quiet_threads(reports: ReportServer) -> Iterator[None]:
    """Keep the cause of a failed Spark job for the error that we raise; a thread of Horovod's would print its trace."""
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
    reporter = Reporter(address)
    try:
        from ganrec_spark.training.horovod_worker import joined

        worker = joined(reporter, threads)
        with compiler_files_removed():
            result = train(worker, **arguments)
        worker.mean(0.0, "end")  # one that trained alone must not leave before the others
        reporter.send("end", "")
        return result
    except BaseException as error:
        # The others are told by Horovod that one left; only the first to fail knows why.
        if "HorovodInternalError" in type(error).__name__:
            reporter.send("end", "")
        else:
            reporter.send("warn", f"worker {reporter.worker}: {traceback.format_exc(limit=-3)}")
            reporter.send("failure", f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise
