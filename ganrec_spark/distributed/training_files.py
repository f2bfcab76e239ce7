"""Files that outlive a training process: its last checkpoint and TensorBoard's scalars, on any fsspec file system."""

import uuid
from collections.abc import Callable

import fsspec


def load_checkpoint(uri: str) -> bytes | None:
    """Return what `save_checkpoint` wrote last, or None."""
    system, path = fsspec.core.url_to_fs(uri)
    return bytes(system.cat_file(path)) if system.exists(path) else None


def save_checkpoint(uri: str, content: bytes) -> None:
    """Replace the checkpoint; a crash leaves the old one or the new one, never half of it."""
    system, path = fsspec.core.url_to_fs(uri)
    system.makedirs(system._parent(path), exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    system.pipe_file(partial, content)
    system.mv(partial, path)  # a rename on local disks; object stores copy, and show whole objects only


def remove_checkpoint(uri: str) -> None:
    """Delete the checkpoint of a finished training, if there is one."""
    system, path = fsspec.core.url_to_fs(uri)
    if system.exists(path):
        system.rm_file(path)


def scalar_writer(folder: str) -> Callable[[int, dict[str, float]], None]:
    """Return a function of (epoch, values) that writes TensorBoard scalars under `folder`."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def write(epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return write
