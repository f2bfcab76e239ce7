"""Send arrays to executors once per machine, as files that every Python worker maps into memory.

A broadcast variable would be unpickled into each Python worker: at 12,000 x 12,000 items that is 580 MB times the
number of cores.
"""

import tempfile
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import SparkFiles
from pyspark.sql import SparkSession

_OPEN: dict[str, NDArray[Any]] = {}


class Shipped:
    """Handle of arrays that were shipped; small, travels in a closure, opens the arrays where it arrives."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def file(self, name: str) -> str:
        """Return the name of the array's file, unique to what was shipped: a key for what a worker builds of it."""
        return self._files[name]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return the named array, read-only, mapped from this machine's copy."""
        file = self._files[name]
        if file not in _OPEN:
            _OPEN[file] = np.load(SparkFiles.get(file), mmap_mode="r", allow_pickle=False)
        return _OPEN[file]


def ship(spark: SparkSession, **arrays: NDArray[Any]) -> Shipped:
    """Write each array to a file that Spark copies to every executor; return the handle to use in a UDF."""
    files = {}
    folder = Path(_folder().name)
    for name, array in arrays.items():
        file = f"{name}-{uuid.uuid4().hex}.npy"
        np.save(folder / file, array, allow_pickle=False)
        spark.sparkContext.addFile(str(folder / file))
        files[name] = file
    return Shipped(files)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return the driver's folder of shipped files, which goes with the process: executors that join fetch from it."""
    return tempfile.TemporaryDirectory(prefix="ganrec-shipped-")
