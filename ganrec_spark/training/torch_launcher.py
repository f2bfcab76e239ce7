"""Start workers of torch.distributed as the tasks of one barrier stage: Spark starts all of them at once, or none."""

import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark import BarrierTaskContext
from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.training.joined import be_worker
from ganrec_spark.training.reports import Address, ReportServer, python_error
from ganrec_spark.training.worker import Train

_REPORT_SECONDS = 2.0  # Spark may hear of a failed task before we do of the worker in it


class TorchLauncher:
    """Workers are the Python processes of Spark's tasks (docs/adr/0054: why not pyspark's TorchDistributor)."""

    def __init__(self, spark: SparkSession, config: Distributed) -> None:
        self._context, self._config = spark.sparkContext, config
        self.start_seconds = config.start_timeout_seconds
        self._tag = f"ganrec-training-{uuid.uuid4().hex}"

    def run(self, train: Train, arguments: dict[str, Any], reports: ReportServer) -> list[dict[str, object]]:
        """Return the results in the order of workers; see launcher.Launcher."""
        address, config = reports.address, self._config

        def work(_: Iterable[int]) -> Iterator[dict[str, object]]:
            yield _work(train, arguments, address, config)

        tasks = self._context.range(0, numSlices=config.workers).barrier()
        self._context.addJobTag(self._tag)
        try:
            return list(tasks.mapPartitions(work).collect())
        except Exception as error:
            reports.job_failure = python_error(str(error))
            deadline = time.monotonic() + _REPORT_SECONDS
            while not reports.failures and time.monotonic() < deadline:
                time.sleep(0.1)
            raise
        finally:
            self.cancel()  # where a signal broke in, it still runs
            self._context.removeJobTag(self._tag)

    def cancel(self) -> None:
        """Cancel the Spark job; Spark kills the tasks' processes."""
        self._context.cancelJobsWithTag(self._tag)


def _work(train: Train, arguments: dict[str, Any], address: Address, config: Distributed) -> dict[str, object]:
    """Be one worker; return the result of `train`."""
    from ganrec_spark.training.torch_worker import joined

    context = BarrierTaskContext.get()
    return be_worker(
        lambda reporter: joined(reporter, context, config.threads_per_worker, config.start_timeout_seconds),
        train,
        arguments,
        address,
    )
