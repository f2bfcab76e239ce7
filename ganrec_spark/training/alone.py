"""Training in the driver's own process, without other workers."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.training.worker import Train, Worker


def train_alone(train: Train, config: Distributed, arguments: dict[str, Any]) -> dict[str, object]:
    """Return the result of `train` on one worker, in this process, on a GPU where there is one."""
    worker = Worker()
    if torch.cuda.is_available():
        worker.device = torch.device("cuda", 0)
    with torch_settings(config.threads_per_worker or torch.get_num_threads()), compiler_files_removed():
        return train(worker, **arguments)


@contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """Let PyTorch train with so many threads; leave it as it was, for what the process does next."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # Numbers below 1e-38 cost CPUs ten times as much; a generator that collapses is full of them.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


@contextmanager
def compiler_files_removed() -> Iterator[None]:
    """Give Torch's compiler, which makes a folder with the first optimizer, one that goes with the training."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ganrec-torch-") as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]
