"""Noticing that files or tables outside the lake have changed, without reading them."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.raw.files import local_files, remote_files


def source_state(spark: SparkSession, sources: Iterable[str | None]) -> str:
    """Return a text that changes when one of the sources does.

    Files count by path, size, modification time and, where their store has one, etag; folders and globs by all their
    files; Iceberg tables by snapshot, other tables by their files. What cannot be found, or has no files (a view), is
    taken as changed every time.
    """
    return " ".join("none" if source is None else _state(spark, source) for source in sources)


def _state(spark: SparkSession, source: str) -> str:
    local = Path(source).expanduser()
    try:
        if "://" not in source and local.exists():
            facts = list(_local_files(local))
        elif "/" in source or "*" in source:
            facts = list(_files(spark, source))
        else:
            return f"table {source} {_table_state(spark, source)}"
    except (Py4JError, PySparkException, OSError):
        facts = []
    if not facts:
        return f"{source} {time.time_ns()}"
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()


def _local_files(path: Path) -> Iterator[str]:
    files = local_files(path) if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            yield f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}"


def _table_state(spark: SparkSession, name: str) -> str:
    try:
        return str(current_snapshot(spark, name))
    except (Py4JError, PySparkException):  # no Iceberg table
        files = [fact for url in spark.table(name).inputFiles() for fact in _files(spark, url)]
        return hashlib.sha256("\n".join(sorted(files or [str(time.time_ns())])).encode()).hexdigest()


def _files(spark: SparkSession, uri: str) -> Iterator[str]:
    """Yield path, size, time and etag of the files at a path, under a folder or matched by a glob."""
    for status, _ in remote_files(spark, uri):
        yield _facts(status)


def _facts(status: Any) -> str:
    etag = status.getEtag() if "getEtag" in dir(status) else ""
    return f"{status.getPath()}:{status.getLen()}:{status.getModificationTime()}:{etag}"
