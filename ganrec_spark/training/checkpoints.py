"""Training checkpoints as files, local or by URI, written so that a crash leaves the last whole one."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ganrec_spark.lake.files import delete_folder, read_file, rename_file, write_file

_LOG = logging.getLogger("ganrec")


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a training survives its process: `load` returns the last saved bytes or None."""

    load: Callable[[], bytes | None] = lambda: None
    save: Callable[[bytes], None] = lambda content: None


def file_checkpoints(folder: str, name: str, warn: Callable[[str], None] = _LOG.warning) -> Checkpoints:
    """Return Checkpoints kept in one file of `folder`, an absolute path or a URI (lake.files).

    Where workers share neither disk nor store, a resumed worker 0 on another machine finds nothing and starts anew. So
    it does where the file is damaged, which is set aside as NAME.damaged; `warn` hears of it (Worker.warn: the driver).
    """
    file = f"{folder}/{name}"

    def load() -> bytes | None:
        stored = read_file(file)
        if stored is None:
            return None
        content, digest = _split(stored)
        if hashlib.sha256(content).digest() == digest:
            return content
        rename_file(file, f"{name}.damaged")
        warn(f"{file}: damaged, set aside as {name}.damaged; training starts anew")
        return None

    def save(content: bytes) -> None:
        write_file(file, content + hashlib.sha256(content).digest())

    return Checkpoints(load, save)


def _split(stored: bytes) -> tuple[bytes, bytes]:
    size = hashlib.sha256().digest_size
    return stored[:-size], stored[-size:]


def delete_checkpoints(folder: str) -> None:
    """Delete the folder, once what it served is in the lake."""
    delete_folder(folder)
