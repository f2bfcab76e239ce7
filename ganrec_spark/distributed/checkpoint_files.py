"""Training checkpoints as files, local or by URI, written so that a crash leaves the last whole one."""

import hashlib
import logging
from collections.abc import Callable

from pyarrow import fs

from ganrec_spark.models.generator_training import Checkpoints

_LOG = logging.getLogger("ganrec")


def file_checkpoints(folder: str, name: str, log: Callable[[str], None] = _LOG.warning) -> Checkpoints:
    """Return Checkpoints kept in one file of `folder`, an absolute path or a URI that pyarrow knows.

    Where workers share no disk, a resumed worker 0 on another machine finds nothing and starts anew. So it does where
    the file is damaged, which is set aside as NAME.damaged; `log` hears of it (a worker's reaches the driver).
    """

    def load() -> bytes | None:
        system, path = fs.FileSystem.from_uri(folder)
        file = f"{path}/{name}"
        if system.get_file_info(file).type != fs.FileType.File:
            return None
        with system.open_input_stream(file) as stream:
            content, digest = _split(bytes(stream.read()))
        if hashlib.sha256(content).digest() == digest:
            return content
        system.move(file, f"{file}.damaged")
        log(f"{file}: damaged, set aside as {name}.damaged; training starts anew")
        return None

    def save(content: bytes) -> None:
        system, path = fs.FileSystem.from_uri(folder)
        system.create_dir(path, recursive=True)
        # Written aside and renamed: a reader never meets half a file.
        with system.open_output_stream(f"{path}/{name}.partial") as stream:
            stream.write(content + hashlib.sha256(content).digest())
        system.move(f"{path}/{name}.partial", f"{path}/{name}")

    return Checkpoints(load, save)


def _split(stored: bytes) -> tuple[bytes, bytes]:
    size = hashlib.sha256().digest_size
    return stored[:-size], stored[-size:]


def delete_checkpoints(folder: str) -> None:
    """Delete the folder, once what it served is in the lake."""
    system, path = fs.FileSystem.from_uri(folder)
    if system.get_file_info(path).type == fs.FileType.Directory:
        system.delete_dir(path)
