"""What a training loop needs to know of the other workers; alone, nothing happens."""

import logging
from collections.abc import Callable, Iterable

import torch


class Worker:
    """One of `count` workers that train together; this class is the only one, training.joined has the others.

    A training loop is written once against these methods and runs on a laptop without a launcher.
    """

    index: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")

    def alone(self) -> "Worker":
        """Return this worker as the only one of a training of its own; the others do not wait for it."""
        return self

    def broadcast(self, module: torch.nn.Module) -> None:
        """Give every worker the parameters and buffers of worker 0."""

    def broadcast_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give every worker the optimizer state of worker 0, after a resume."""

    def wrap(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module, name: str) -> torch.optim.Optimizer:
        """Return an optimizer whose `step` averages gradients over workers; `name` must differ between models."""
        return optimizer

    def clip(self, optimizer: torch.optim.Optimizer, weights: Iterable[torch.Tensor], max_norm: float) -> None:
        """Clip the global norm of the weights' gradients after they were averaged; call between backward and step."""
        torch.nn.utils.clip_grad_norm_(weights, max_norm)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply the gradients; use instead of optimizer.step(), since they may have been averaged for clipping."""
        optimizer.step()

    def mean(self, value: float, name: str) -> float:
        """Return the mean of `value` over workers."""
        return value

    def from_first(self, value: float, name: str) -> float:
        """Return worker 0's `value` on every worker: decisions such as early stopping."""
        return value

    def log(self, message: str) -> None:
        """Write one progress line, on the driver; lines of other workers than 0 are dropped."""
        logging.getLogger("ganrec").debug("%s", message)

    def warn(self, message: str) -> None:
        """Write one line that somebody should read, on the driver, from whichever worker."""
        logging.getLogger("ganrec").warning("%s", message)


def share(worker: Worker, n_models: int) -> tuple[Worker, list[int]]:
    """Return as whom, and which of `n_models`, this worker trains.

    Where there are at least as many models as workers, each worker trains its own ones alone, side by side with the
    others: no gradient has to travel. They are dealt out to and fro (0, 1, 1, 0, 0, ...), which evens out the work
    where costly ones come first. Otherwise all train every model together.
    """
    if n_models < worker.count:
        return worker, list(range(n_models))
    dealt = [*range(worker.count), *reversed(range(worker.count))]
    return worker.alone(), [model for model in range(n_models) if dealt[model % len(dealt)] == worker.index]


Train = Callable[..., dict[str, object]]
