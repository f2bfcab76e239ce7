"""Checkpoints: files while training goes on, of which a crash leaves the last whole one; rows once it has ended."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ganrec_spark.lake.files import delete_folder, read_file, rename_file, write_file

_LOG = logging.getLogger("ganrec")
_CHUNK_BYTES = 8 << 20  # of a state dict in one row; a row has to fit into a message of Spark's many times over


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a training survives its process: `load` returns the last saved bytes or None."""

    load: Callable[[], bytes | None] = lambda: None
    save: Callable[[bytes], None] = lambda content: None


NO_CHECKPOINTS = Checkpoints()


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


def checkpoint_rows(card: dict[str, Any], state: bytes) -> Iterator[tuple[str, int, bytearray]]:
    """Return (card, part, content) of each chunk of a state dict; the card, as JSON, says what the model is."""
    text = json.dumps(card, sort_keys=True)
    for part, start in enumerate(range(0, len(state), _CHUNK_BYTES)):
        yield text, part, bytearray(state[start : start + _CHUNK_BYTES])


def stored_checkpoints(rows: Iterable[Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Return card and state dict of each version, from rows (version, card, part, content) ordered by version and part.

    Memory: one model at a time.
    """
    for _, parts in groupby(rows, key=lambda row: row.version):
        whole = list(parts)
        yield json.loads(whole[0].card), b"".join(bytes(row.content) for row in whole)
