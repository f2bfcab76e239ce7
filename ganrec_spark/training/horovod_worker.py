"""A worker among others, by Horovod's collectives.

Only training.launcher imports this module, and only where a worker runs: a driver needs no Horovod for the launcher.
"""

import os
import time

import horovod.torch as hvd
import torch

from ganrec_spark.training.reports import Reporter
from ganrec_spark.training.worker import Worker

_WAIT_SECONDS = 0.0002


def joined(reporter: Reporter, threads: int) -> Worker:
    """Join the other workers; return this one, whose reports carry its number from then on.

    `threads`: PyTorch's in this worker; 0 shares out the machine's cores.
    """
    hvd.init()
    reporter.worker = hvd.rank()
    reporter.beat()
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // hvd.local_size()))
    # Numbers below 1e-38 cost CPUs ten times as much; a generator that collapses is full of them.
    torch.set_flush_denormal(True)
    return _HorovodWorker(reporter)


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


class _HorovodWorker(Worker):
    """One of several workers; every method but `log` must be called by all of them in the same order."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.index = hvd.rank()
        self.count = hvd.size()
        self._clipped: set[int] = set()
        enough = hvd.nccl_built() and torch.cuda.device_count() >= hvd.local_size()
        if self.mean(float(bool(enough)), "cuda") == 1:
            self.device = torch.device("cuda", hvd.local_rank())
            torch.cuda.set_device(self.device)

    def alone(self) -> Worker:
        return _LoneWorker(self._reporter, self.device)

    def broadcast(self, module: torch.nn.Module) -> None:
        hvd.broadcast_parameters(module.state_dict(), root_rank=0)
        self._reporter.beat()

    def broadcast_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        # Named, because the default is the object's type, which differs between worker 0 and the others.
        state = hvd.broadcast_object(optimizer.state_dict() if self.index == 0 else None, root_rank=0, name="optimizer")
        if self.index > 0:
            optimizer.load_state_dict(state)

    def wrap(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module, name: str) -> torch.optim.Optimizer:
        # Equal names of two models' parameters would average the one's gradients into the other's.
        named = [(f"{name}.{key}", parameter) for key, parameter in module.named_parameters()]
        wrapped: torch.optim.Optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=named)
        return wrapped

    def clip(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module, max_norm: float) -> None:
        for handle, _ in optimizer._handles.values():  # type: ignore[attr-defined]
            if handle is not None:
                self._wait(handle)
        optimizer.synchronize()  # type: ignore[attr-defined]
        super().clip(optimizer, module, max_norm)
        self._clipped.add(id(optimizer))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if id(optimizer) in self._clipped:
            self._clipped.remove(id(optimizer))
            with optimizer.skip_synchronize():  # type: ignore[attr-defined]
                optimizer.step()
        else:
            optimizer.step()
        self._reporter.beat()

    def mean(self, value: float, name: str) -> float:
        number = torch.tensor(value, dtype=torch.float64)
        return self._result(hvd.allreduce_async(number, name=f"mean.{name}", op=hvd.Average))

    def from_first(self, value: float, name: str) -> float:
        number = torch.tensor(value, dtype=torch.float64)
        return self._result(hvd.broadcast_async(number, 0, name=f"first.{name}"))

    def log(self, message: str) -> None:
        if self.index == 0:
            self._reporter.send("log", message)

    def warn(self, message: str) -> None:
        self._reporter.send("warn", message)

    def _result(self, handle: int) -> float:
        self._wait(handle)
        return float(hvd.synchronize(handle))

    def _wait(self, handle: int) -> None:
        """Wait until `handle` is done; Horovod's own wait spins, and takes the core that its exchange needs."""
        while not hvd.poll(handle):
            time.sleep(_WAIT_SECONDS)
            self._reporter.beat()
