"""What a training came to, and how one that was stopped goes on: saved after each epoch, resumed to the last bit."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import torch

from ganrec_spark.training.checkpoints import Checkpoints
from ganrec_spark.training.worker import Worker

History = list[tuple[int, str, float]]
VALIDATION_NDCG = "validation_ndcg"  # what tells in a history which epoch is the best


@dataclass
class Trained:
    """The state dict of the kept epoch as bytes, the history (epoch, name, value), and why training ended."""

    state: bytes = b""
    epoch: int = 0
    history: History = field(default_factory=list)
    stopped: str = "all epochs done"

    def validated(self) -> list[float]:
        """Return the NDCG@10 on validation users of the epochs that had one, in order."""
        return [value for _, name, value in self.history if name == VALIDATION_NDCG]


@dataclass(frozen=True)
class Parts:
    """All that changes while a model is trained, by name."""

    modules: Mapping[str, torch.nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]

    def resume(self, worker: Worker, checkpoints: Checkpoints, result: Trained, name: str) -> int:
        """Bring every worker to the state that worker 0 has, saved or new; return the number of finished epochs.

        `result` becomes what it was after them, on worker 0 alone. `name` must differ between models.
        """
        content = checkpoints.load() if worker.index == 0 else None
        done = 0
        if content is not None:
            saved = state_of(content, worker.device)
            for key, module in self.modules.items():
                module.load_state_dict(saved["modules"][key])
            for key, optimizer in self.optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][key])
            done, result.state, result.epoch = int(saved["epoch"]), saved["kept"], int(saved["kept_epoch"])
            result.history = [(int(epoch), str(key), float(value)) for epoch, key, value in saved["history"]]
        done = int(worker.from_first(float(done), f"{name}.resume"))
        for module in self.modules.values():
            worker.broadcast(module)
        if done:
            for optimizer in self.optimizers.values():
                worker.broadcast_optimizer(optimizer)
        return done

    def snapshot(self, epoch: int, result: Trained) -> bytes:
        """Return what `resume` reads, after an epoch."""
        return bytes_of(
            {
                "epoch": epoch,
                "history": [list(row) for row in result.history],
                "kept_epoch": result.epoch,
                "kept": result.state,
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            }
        )


def skip(batches: Iterator[Any], n: int) -> None:
    """Take n batches, those of finished epochs, and drop them."""
    next(islice(batches, n, n), None)


def bytes_of(content: Mapping[str, Any]) -> bytes:
    """Return a state dict, or what holds several, as bytes."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def state_of(content: bytes, device: torch.device | None = None) -> dict[str, Any]:
    """Return what `bytes_of` was given, tensors on `device` (CPU); nothing but tensors and plain values is read."""
    return cast(dict[str, Any], torch.load(io.BytesIO(content), weights_only=True, map_location=device))
