"""A folder as a source of events: files that come into it, each read as `ganrec feedback` reads it.

Spark's stream says which files are new, and keeps that in its checkpoint. What is in them the door of all sources
reads, so that a file may be of any form, and one that is none is quarantined instead of ending the stream.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import GanrecError, InputError
from ganrec_spark.feedback.log import NOTHING, Taken, append_events, reject_file, require_readable, source_rows
from ganrec_spark.lake.files import is_remote
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.files import Files, located
from ganrec_spark.raw.readers import read_parquet
from ganrec_spark.raw.sources import explained
from ganrec_spark.raw.stand_ins import GLOB

_FILE = "path string, modificationTime timestamp, length long, content binary"
# Spark forgets what it has read after that time, and passes over what is older: nothing must be passed over.
_NEVER = "100000d"
_PACKED = (".gz", ".bz2", ".zst", ".zip")
_TEXT = (".csv", ".tsv", ".txt", ".dat", ".json", ".jsonl", ".ndjson")
_BAD = (InputError, ValueError, LookupError)
_LOG = logging.getLogger("ganrec")
_ADVICE = "mend it and give it to `ganrec feedback`"


@dataclass(frozen=True)
class Folder:
    """A folder, as an absolute path or a URI."""

    name: str

    @classmethod
    def at(cls, path: str) -> "Folder":
        """Return the folder at `path`. Raises InputError where there is none, or its name has signs of patterns."""
        local = Path(path).expanduser().absolute()
        if not is_remote(path) and not local.is_dir():
            found = "a file: take it with `ganrec feedback`" if local.exists() else "nothing there; make it first"
            raise InputError(f"source '{path}': expected a folder, or kafka://HOST:PORT/TOPIC, found {found}")
        name = path.rstrip("/") if is_remote(path) else str(local)
        if GLOB.search(name):
            raise InputError(f"source '{path}': expected a path without any of [ ] {{ }} * ?; give it another name")
        return cls(name)

    def wait(self, spark: SparkSession, seconds: float, ended: Callable[[], bool]) -> None:
        """Return: a folder is there, or reading it fails at once."""

    def opened(self, spark: SparkSession, limits: Config) -> DataFrame:
        """Return the stream of new files, in the order of their times: one row a file, without what is in it."""
        limit = str(limits.stream.max_files)
        reader = spark.readStream.format("binaryFile").schema(_FILE)
        reader = reader.options(recursiveFileLookup="true", maxFilesPerTrigger=limit, maxFileAge=_NEVER)
        with explained(self.name, "see SOURCE"):
            return reader.load(self.name).select("path", "modificationTime", "length")

    def take(self, lake: Lake, config: Config, frame: DataFrame) -> tuple[Taken, datetime | None]:
        """Append the events of a batch of files; return the counts, and since when the oldest of them is there."""
        files = frame.collect()
        groups = _alike(lake.spark, (row.path for row in files if row.length))
        taken = sum((self._take(lake, config, group) for group in groups), NOTHING)
        return taken, min((row.modificationTime for row in files), default=None)

    def is_away(self, failure: str) -> bool:
        """Return False: a folder does not come back by itself."""
        return False

    def explained(self, failure: str, checkpoint: str) -> GanrecError | None:
        """Return None: what can be said of a failure is said elsewhere."""
        return None

    def _take(self, lake: Lake, config: Config, paths: Sequence[str]) -> Taken:
        """Append the events of files in one commit, or of each by itself where one of them cannot be read."""
        try:
            with tempfile.TemporaryDirectory(prefix="ganrec-stream-") as scratch, explained(self.name, _ADVICE):
                return append_events(lake, config, self._rows(lake, config, paths, Path(scratch)))
        except _BAD as error:
            if len(paths) == 1:
                return self._rejected(lake, config, paths[0], error)
        return sum((self._take(lake, config, [path]) for path in paths), NOTHING)

    def _rows(self, lake: Lake, config: Config, paths: Sequence[str], scratch: Path) -> DataFrame:
        found = [located(lake.spark, path, scratch / str(number)) for number, path in enumerate(paths)]
        uris = tuple(uri for files in found for uri in files.uris)
        return source_rows(lake.spark, config, Files(paths[0] if len(paths) == 1 else self.name, uris))

    def _rejected(self, lake: Lake, config: Config, path: str, error: Exception) -> Taken:
        """Quarantine a file whose events could not be taken; raise `error` where that was no fault of the file."""
        try:
            with tempfile.TemporaryDirectory(prefix="ganrec-stream-") as scratch, explained(path, _ADVICE):
                require_readable(config, self._rows(lake, config, [path], Path(scratch)))
        except _BAD as found:
            _LOG.warning("%s is left out: %s", path, found)
            return reject_file(lake, path, str(found))
        raise error.__cause__ or error  # what went wrong before it was taken for the file's fault


def _alike(spark: SparkSession, paths: Iterable[str]) -> list[list[str]]:
    """Return the files in groups that may be read together: text of one suffix, Parquet of one schema."""
    groups: dict[str, list[str]] = {}
    for path in sorted(paths):
        path = path.removeprefix("file:") if path.startswith("file:/") else path
        names = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() not in _PACKED]
        kind = names[-1] if names and not GLOB.search(path) else ""
        if kind == ".parquet":
            groups.setdefault(_schema(spark, path), []).append(path)
        else:
            groups.setdefault(kind if kind in _TEXT else path, []).append(path)
    return list(groups.values())


def _schema(spark: SparkSession, path: str) -> str:
    """Return the schema of a Parquet file; of one that has none its path."""
    try:
        return read_parquet(spark, located(spark, path)).schema.json()
    except (InputError, PySparkException, Py4JError):
        return path
