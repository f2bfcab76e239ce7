"""A worker among others, by Horovod's collectives.

Only training.horovod_launcher imports this module, and only where a worker runs: a driver needs no Horovod for it.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import horovod.torch as hvd
import torch

from ganrec_spark.training.alone import torch_settings
from ganrec_spark.training.joined import JoinedWorker
from ganrec_spark.training.reports import Reporter
from ganrec_spark.training.worker import Worker


@contextmanager
def joined(reporter: Reporter, threads: int) -> Iterator[Worker]:
    """Join the other workers; give this one, whose reports carry its number from then on.

    `threads`: PyTorch's in this worker; 0 shares out the machine's cores.
    """
    hvd.init()
    reporter.worker = hvd.rank()
    reporter.beat()
    with torch_settings(threads or max(1, len(os.sched_getaffinity(0)) // hvd.local_size())):
        yield _HorovodWorker(reporter, hvd.rank(), hvd.size())


class _HorovodWorker(JoinedWorker):
    def __init__(self, reporter: Reporter, index: int, count: int) -> None:
        super().__init__(reporter, index, count)
        self._clipped: set[int] = set()
        enough = hvd.nccl_built() and torch.cuda.device_count() >= hvd.local_size()
        if self.mean(float(bool(enough)), "cuda") == 1:
            self.device = torch.device("cuda", hvd.local_rank())
            torch.cuda.set_device(self.device)

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

    def clip(self, optimizer: torch.optim.Optimizer, weights: Iterable[torch.Tensor], max_norm: float) -> None:
        for handle, _ in optimizer._handles.values():  # type: ignore[attr-defined]
            if handle is not None:
                self._wait_for(handle)
        optimizer.synchronize()  # type: ignore[attr-defined]
        super().clip(optimizer, weights, max_norm)
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

    def _result(self, handle: int) -> float:
        self._wait_for(handle)
        return float(hvd.synchronize(handle))

    def _wait_for(self, handle: int) -> None:
        self._wait(lambda: bool(hvd.poll(handle)))  # Horovod's own wait spins
