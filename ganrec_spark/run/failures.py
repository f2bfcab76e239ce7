"""What a stage may fail with that a person can mend, in one line: disk, rights, store, catalog, files, clock."""

import re

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from ganrec_spark.errors import GanrecError, LakeError, StoreError
from ganrec_spark.lake.files import OUTAGES, REFUSALS
from ganrec_spark.lake.iceberg import causes
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.plan.tables import EDITIONS, TABLE_BY_NAME

# A sign in the trace, what it means, what to do.
_KINDS = (
    ("No space left on device", "a disk is full", "free some (the lake, spark.local.dir), then run it again"),
    ("Disk quota exceeded", "a disk quota is used up", "free some, then run it again"),
    ("Read-only file system", "a file system is mounted for reading only", "mount it for writing, or set lake.root"),
    ("Permission denied", "a file or folder may not be written or read", "give it to the user who runs this"),
    ("Operation not permitted", "a file or folder may not be changed", "give it to the user who runs this"),
    ("SQLITE_BUSY", "the catalog is locked by another process", "run it again; many writers want PostgreSQL"),
    ("database is locked", "the catalog is locked by another process", "run it again; many writers want PostgreSQL"),
    ("SQLITE_READONLY", "the catalog's file may not be written", "give it to the user who runs this"),
    ("SQLITE_CORRUPT", "the catalog's file is damaged", "restore it from a backup of the lake"),
    ("not a database", "the catalog's file is damaged", "restore it from a backup of the lake"),
    ("Expected sorted snapshot log entries", "this machine's clock is behind the newest commit", "set it (NTP)"),
    ("Connection refused", "a server does not answer", "see whether the catalog runs, and lake.properties"),
    ("The connection attempt failed", "the catalog does not answer", "see whether it runs, and its address"),
    ("password authentication failed", "the catalog refused the password", "see lake.properties"),
    ("OutOfMemoryError", "memory ran out", "raise spark.driver_memory or executor memory; see `ganrec doctor`"),
)
_MISSING = (
    "FileNotFoundException",
    "NotFoundException",
    "is not a Parquet file",
    "FAILED_READ_FILE",
    "ParquetDecodingException",
    "RuntimeIOException",
    "TProtocolException",
    "InvalidAvroMagicException",
    "Not an Avro data file",
)
_DATA = re.compile(r"/(?P<table>\w+)/(?P<what>data|metadata)/(?P<path>[^\s,'\")]*)")


def explained(error: Exception, stage: str) -> GanrecError | None:
    """Return the error in one line with what to do, or None where it is none of those that a person can mend."""
    text = _trace(error)
    kinds = [(StoreError, *kind) for kind in (*REFUSALS, *OUTAGES)] + [(LakeError, *kind) for kind in _KINDS]
    for told, sign, meaning, advice in kinds:
        if sign in text:
            where = re.search(rf"[^\n]*{re.escape(sign)}[^\n]*", text)
            line = where.group(0).strip()[:300] if where else sign
            return told(f"stage '{stage}': {meaning}, found: {line}; {advice}")
    return _damaged_table(text)


def _damaged_table(text: str) -> LakeError | None:
    """Return what to run again where a file of one of our tables is missing or damaged."""
    if not any(sign in text for sign in _MISSING):
        return None
    for match in _DATA.finditer(text):
        writers = [stage for stage in STAGES if match["table"] in stage.writes]
        scope = TABLE_BY_NAME[match["table"]].scope if match["table"] in TABLE_BY_NAME else ""
        if not writers and scope != "events":
            continue
        phase = re.search(r"phase=(\w+)", match["path"])
        run = re.search(r"run_id=([\w.-]+)", match["path"])
        what = f"table '{match['table']}'" + (f", run '{run[1]}'" if run else "")
        file = match.group(0).rsplit("/", 1)[-1]
        if match["table"] in {table.name for table in EDITIONS}:
            advice = "`ganrec rollback` to another edition, then run the date again"
        elif match["what"] == "metadata" or scope in ("append", "events"):
            advice = "restore the table from a backup of the lake: nothing else has these rows"
        else:
            stage = next((one for one in writers if phase is None or one.phase in (None, phase[1])), writers[0])
            advice = f"run stage '{stage.name}' again (`ganrec stage --stage {stage.name}`), then those after it"
        return LakeError(f"{what}: expected its files, found one missing or damaged ({file}); {advice}")
    return None


def _trace(error: Exception) -> str:
    if isinstance(error, Py4JJavaError):
        return "\n".join(f"{name}: {message}" for name, message in causes(error)) + f"\n{error}"
    if isinstance(error, PySparkException):
        return f"{error}\n{error.getCondition() or ''}"
    return f"{type(error).__name__}: {error}"
