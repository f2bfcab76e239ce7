"""What workers of all launchers have in common: reports to the driver, and a worker's life from joining to leaving."""

import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from ganrec_spark.training.alone import compiler_files_removed
from ganrec_spark.training.reports import Address, Reporter
from ganrec_spark.training.worker import Train, Worker

_WAIT_SECONDS = 0.0002
# What a worker sees of another that left; only the first to fail knows why.
_OTHERS_LEFT = ("HorovodInternalError", "OthersLeftError")


class JoinedWorker(Worker):
    """One of several workers; every method but `log` and `warn` must be called by all of them in the same order."""

    def __init__(self, reporter: Reporter, index: int, count: int) -> None:
        self._reporter, self.index, self.count = reporter, index, count

    def alone(self) -> Worker:
        """Return this worker with its reports, as the only one of a training of its own."""
        return _LoneWorker(self._reporter, self.device)

    def log(self, message: str) -> None:
        """Send worker 0's line to the driver."""
        if self.index == 0:
            self._reporter.send("log", message)

    def warn(self, message: str) -> None:
        """Send the line to the driver."""
        self._reporter.send("warn", message)

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for an exchange without taking the core that it needs; who waits for another has not stalled."""
        while not done():
            time.sleep(_WAIT_SECONDS)
            self._reporter.beat()


class _LoneWorker(Worker):
    """A worker among others with a training of its own."""

    def __init__(self, reporter: Reporter, device: torch.device) -> None:
        self._reporter, self.device = reporter, device

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        super().step(optimizer)
        self._reporter.beat()

    def mean(self, value: float, name: str) -> float:
        self._reporter.beat()
        return value

    def log(self, message: str) -> None:
        self._reporter.send("log", message)

    def warn(self, message: str) -> None:
        self._reporter.send("warn", message)


def be_worker(
    join: Callable[[Reporter], AbstractContextManager[Worker]],
    train: Train,
    arguments: dict[str, Any],
    address: Address,
) -> dict[str, object]:
    """Join the others, return the result of `train`, and tell the driver at `address` how it ended."""
    reporter = Reporter(address)
    with ExitStack() as left_at_the_end:
        try:
            worker = left_at_the_end.enter_context(join(reporter))
            with compiler_files_removed():
                result = train(worker, **arguments)
            worker.mean(0.0, "end")  # one that trained alone must not leave before the others
            reporter.send("end", "")
            return result
        except BaseException as error:
            if type(error).__name__ in _OTHERS_LEFT:
                reporter.send("end", "")
            else:
                reporter.send("warn", f"worker {reporter.worker}: {traceback.format_exc(limit=-3)}")
                reporter.send("failure", f"{type(error).__name__}: {' '.join(str(error).split())}")
            raise
