"""A worker among others, by the collectives of torch.distributed: NCCL where each worker has a GPU, Gloo elsewhere."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from pyspark import BarrierTaskContext
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ganrec_spark.training.alone import torch_settings
from ganrec_spark.training.joined import JoinedWorker
from ganrec_spark.training.reports import Reporter
from ganrec_spark.training.worker import Worker

# The driver finds who stalls; one that waits for a worker with a longer training of its own has not failed.
_NO_LIMIT = timedelta(days=365)


class OthersLeftError(Exception):
    """Another worker broke off an exchange: it failed, or was ended."""


@contextmanager
def joined(reporter: Reporter, context: BarrierTaskContext, threads: int, start_seconds: int) -> Iterator[Worker]:
    """Join the other tasks of a barrier stage; give this worker, whose reports carry its number from then on.

    `threads`: PyTorch's in this worker; 0 shares out the machine's cores. Others must answer in `start_seconds`.
    """
    hosts = [info.address.rpartition(":")[0] for info in context.getTaskInfos()]
    index, count = context.partitionId(), len(hosts)
    reporter.worker = index
    reporter.beat()
    gpu = _own_gpu(context, hosts[:index].count(hosts[index]))
    store, everyone_has_gpu = _met(context, hosts[0], gpu is not None, timedelta(seconds=start_seconds))
    with torch_settings(threads or max(1, len(os.sched_getaffinity(0)) // hosts.count(hosts[index]))):
        if everyone_has_gpu:
            torch.cuda.set_device(gpu)
        backend = "cpu:gloo,cuda:nccl" if everyone_has_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=index, world_size=count, timeout=_NO_LIMIT)
        try:
            device = torch.device("cuda", gpu) if everyone_has_gpu and gpu is not None else torch.device("cpu")
            yield _TorchWorker(reporter, index, count, device)
        finally:
            dist.destroy_process_group()


def _own_gpu(context: BarrierTaskContext, place: int) -> int | None:
    """Return the GPU that Spark gave this task, or else that of its `place` among the tasks of its host, if any."""
    given = context.resources().get("gpu")
    gpu = int(given.addresses[0]) if given else place
    return gpu if dist.is_nccl_available() and gpu < torch.cuda.device_count() else None


def _met(context: BarrierTaskContext, host: str, has_gpu: bool, timeout: timedelta) -> tuple[TCPStore, bool]:
    """Return the store of the first task, on `host`, by which all find each other, and whether all have a GPU."""
    first = context.partitionId() == 0
    # The first task holds its port before it tells of it: nobody can take it in between.
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout) if first else None
    told = [json.loads(text) for text in context.allGather(json.dumps([store.port if store else None, has_gpu]))]
    if store is None:
        store = TCPStore(host, told[0][0], is_master=False, timeout=timeout)
    return store, all(has for _, has in told)


class _TorchWorker(JoinedWorker):
    def __init__(self, reporter: Reporter, index: int, count: int, device: torch.device) -> None:
        super().__init__(reporter, index, count)
        self.device = device
        self._averaged: set[int] = set()

    def broadcast(self, module: torch.nn.Module) -> None:
        for tensor in module.state_dict().values():
            self._finish(dist.broadcast(tensor, src=0, async_op=True))
        self._reporter.beat()

    def broadcast_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        state = [optimizer.state_dict() if self.index == 0 else None]
        dist.broadcast_object_list(state, src=0)
        if self.index > 0 and state[0] is not None:
            optimizer.load_state_dict(state[0])

    def wrap(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module, name: str) -> torch.optim.Optimizer:
        optimizer.register_step_pre_hook(lambda own, args, kwargs: self._average(own))
        return optimizer

    def clip(self, optimizer: torch.optim.Optimizer, weights: Iterable[torch.Tensor], max_norm: float) -> None:
        self._average(optimizer)
        super().clip(optimizer, weights, max_norm)
        self._averaged.add(id(optimizer))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        super().step(optimizer)
        self._averaged.discard(id(optimizer))
        self._reporter.beat()

    def mean(self, value: float, name: str) -> float:
        number = torch.tensor(value, dtype=torch.float64)
        self._finish(dist.all_reduce(number, async_op=True))
        return float(number) / self.count

    def from_first(self, value: float, name: str) -> float:
        number = torch.tensor(value, dtype=torch.float64)
        self._finish(dist.broadcast(number, src=0, async_op=True))
        return float(number)

    def _average(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the optimizer's gradients over workers, all in one exchange, unless `clip` has done so."""
        if id(optimizer) in self._averaged:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if parameter.grad is None:  # another worker may have one; Horovod, too, takes it to be 0
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        flat = torch.nn.utils.parameters_to_vector(gradients)
        self._finish(dist.all_reduce(flat, async_op=True))
        torch.nn.utils.vector_to_parameters(flat / self.count, gradients)

    def _finish(self, exchange: dist.Work) -> None:
        try:
            self._wait(exchange.is_completed)
            exchange.wait()
        except RuntimeError as error:
            raise OthersLeftError(" ".join(str(error).split())) from error
