"""Where raw ratings come from: reading files and tables as they are."""

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.lake.files import require_up
from ganrec_spark.lake.iceberg import reason
from ganrec_spark.raw.files import SAMPLE_BYTES, Files, located, part_value, sampled
from ganrec_spark.raw.json_files import read_json
from ganrec_spark.raw.names import plain, present, quoted, resolve
from ganrec_spark.raw.readers import MALFORMED, read_parquet, read_text
from ganrec_spark.raw.text import decoded, is_json, layout, lines

_FILES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".gz", ".bz2", ".dat")
_PATH = "_metadata.file_path"


def wanted_columns(ingest: Ingest) -> dict[str, str | int]:
    """Return role -> column of what is read: user, item, and rating, timestamp, event if used.

    The order is that of a file without header. With implicit feedback the event's weight takes the rating's place.
    """
    columns = ingest.columns
    by_event = ingest.feedback == "implicit" and columns.event is not None
    roles = {
        "user": columns.user,
        "item": columns.item,
        "rating": None if by_event else columns.rating,
        "timestamp": columns.timestamp,
        "event": columns.event if by_event else None,
    }
    return {role: name for role, name in roles.items() if name is not None}


def read_source(spark: SparkSession, ingest: Ingest, source: str, scratch: Path | None = None) -> DataFrame:
    """Return every row of a file, folder or table: a column per role of `wanted_columns`, `source` and `raw`.

    The metadata of a role's column has the name of its `column` in `raw`, the whole row as a struct, text files as
    strings; `source` the file (or table) it came from. With
    ingest.tie_order=source there is `position`, which orders the rows as the files, by path, have them. zip and zst
    are unpacked into `scratch`. Raises InputError where the source is missing, unreadable, empty, or lacks a column.
    """
    return _read(spark, ingest, source, wanted_columns(ingest), scratch)


# What columns of other sources than ratings stand for, where names are looked for and JSON is read.
_ROLES = {"user_id": "user", "item_id": "item", "factor": "rating", "category": "event"}


def read_columns(
    spark: SparkSession, source: str, names: Sequence[str], advice: str, optional: Sequence[str] = ()
) -> DataFrame:
    """Return columns of a file, folder or table, as they are: `names`, and those of `optional` that it has.

    The names are of _ROLES. Raises InputError that ends with `advice`.
    """
    table = not _is_path(source)
    with explained(source, advice):
        wanted: dict[str, str | int] = {_ROLES[name]: name for name in names}
        frame = _read(spark, Ingest(format="table" if table else "auto"), source, wanted, None)
        given = {plain(name): name for name in cast(StructType, frame.schema["raw"].dataType).names}
        if plain(MALFORMED) in given:
            malformed = F.count_if(F.col(f"raw.{MALFORMED}").isNotNull()).alias("malformed")
            odd = frame.agg(malformed, F.count("item")).collect()[0]["malformed"]  # Spark reads no such column alone
            if odd:
                raise InputError(f"source '{source}': expected rows of one length, found {odd} others; mend them")
    more = [F.col(f"raw.{quoted(given[name])}").alias(name) for name in optional if name in given]
    return frame.select(*(F.col(_ROLES[name]).alias(name) for name in names), *more)


def read_attributes(
    spark: SparkSession, source: str, role: str, column: str | int, advice: str, scratch: Path | None = None
) -> DataFrame:
    """Return every row of a file, folder or table with an id in `column`: columns `role` (user, item), `file`, `raw`.

    Raises InputError that ends with `advice`.
    """
    with explained(source, advice):
        return _read(spark, Ingest(format="auto" if _is_path(source) else "table"), source, {role: column}, scratch)


def read_events(
    spark: SparkSession,
    ingest: Ingest,
    source: str | Files,
    wanted: dict[str, str | int],
    optional: dict[str, str | int],
    scratch: Path | None = None,
) -> DataFrame:
    """Return every row of files, a folder or table of events, as read_source does: a column per role, `file`, `raw`.

    A role of `optional` whose column is not there has none in the result.
    """
    table = isinstance(source, str) and not _is_path(source)
    return _read(
        spark, ingest.model_copy(update={"format": "table" if table else "auto"}), source, wanted, scratch, optional
    )


def event_rows(
    frame: DataFrame,
    ingest: Ingest,
    source: str,
    wanted: dict[str, str | int],
    optional: dict[str, str | int],
    origin: str | None = None,
) -> DataFrame:
    """Return the rows of a frame, such as a micro-batch of a stream, in the form of read_events.

    Column `origin`, which is no part of the rows, says where each is from; without one all are from `source`.
    """
    names = [name for name in frame.columns if name != origin]
    roles = resolve(source, wanted, names) | present(optional, names)
    return _in_roles(frame, ingest, roles, names, F.lit(source) if origin is None else F.col(origin), [])


def _is_path(source: str) -> bool:
    return Path(source).suffix.lower() in _FILES or "/" in source or Path(source).expanduser().exists()


def _read(
    spark: SparkSession,
    ingest: Ingest,
    given: str | Files,
    wanted: dict[str, str | int],
    scratch: Path | None,
    optional: dict[str, str | int] | None = None,
) -> DataFrame:
    source, files = (given.source, given) if isinstance(given, Files) else (given, None)
    with explained(source):
        if ingest.format == "table":
            frame = spark.table(source)
            origin, names = F.lit(source), frame.columns
            place: list[Column] = []
        else:
            files = files or located(spark, source, scratch, ordered=ingest.tie_order == "source")
            frame, names = _read_files(spark, ingest, files, wanted, optional)
            hidden = frame.metadataColumn("_metadata")
            origin = hidden["file_path"]
            place = [origin, hidden["file_block_start"], F.monotonically_increasing_id()]
    roles = resolve(source, wanted, names) | present(optional or {}, names)
    return _in_roles(frame, ingest, roles, names, origin, place)


def _in_roles(
    frame: DataFrame, ingest: Ingest, roles: dict[str, str], names: list[str], origin: Column, place: list[Column]
) -> DataFrame:
    if ingest.pseudonym_salt:  # a folder's part may be the user's id
        origin = F.regexp_replace(origin, f"/{re.escape(roles['user'])}=[^/]*", f"/{roles['user']}=withheld")
    kept = [*names, *([MALFORMED] if MALFORMED in frame.columns and MALFORMED not in names else [])]
    # A task may read several pieces of files, each of them in the order of its rows.
    position = [F.struct(*place).alias("position")] if ingest.tie_order == "source" else []
    return frame.select(
        *[F.col(quoted(name)).alias(role, metadata={"column": name}) for role, name in roles.items()],
        origin.alias("file"),
        F.struct(*[F.col(quoted(name)) for name in kept]).alias("raw"),
        *position,
    )


@contextmanager
def explained(source: str, advice: str = "check ingest.source, ingest.test_source and ingest.format") -> Iterator[None]:
    """Turn Spark's failure to read `source` into an InputError that ends with `advice`."""
    try:
        yield
    except AnalysisException as error:
        raise InputError(
            f"source '{source}': expected a readable file, folder or table, found: {_first_line(error)}; {advice}"
        ) from error
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"source '{source}': expected readable, complete files, found: {error}; check permissions, "
            f"deliver the file again, or {advice}"
        ) from error
    except (PySparkException, Py4JError) as error:
        text = _whole(error)
        require_up(text, f"source '{source}'")
        # A disk that fills up while rows are kept is no fault of the source.
        if "No space left on device" not in text and any(sign in text for sign in _UNREADABLE):
            raise InputError(
                f"source '{source}': expected readable, complete files, found: {_reason(text)}; "
                f"check permissions, deliver the file again, or {advice}"
            ) from error
        raise


_UNREADABLE = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "is not a Parquet file",
    "EOFException",
    "not a gzip file",
    "ZipException",
    "IOException",
    "FileNotFoundException",
    "ParquetDecodingException",
    "ArrayIndexOutOfBoundsException",
    "SchemaColumnConvertNotSupportedException",
    "UnsupportedOperationException",
)


def _read_files(
    spark: SparkSession,
    ingest: Ingest,
    files: Files,
    wanted: dict[str, str | int],
    optional: dict[str, str | int] | None,
) -> tuple[DataFrame, list[str]]:
    """Return the rows of all files, and the names of their columns; text has MALFORMED besides."""
    source, kind, parts = files.source, str(ingest.format), {plain(name) for name in files.parts}
    first, sample = sampled(spark, files) if kind != "parquet" else (files.uris[0], b"")
    if kind == "auto" and (sample.startswith(b"PAR1") or first.endswith(".parquet")):
        kind = "parquet"
    if kind == "parquet":
        frame = read_parquet(spark, files)
        names = frame.columns
    else:
        text, encoding = decoded(sample, ingest, source)
        head = lines(text, len(sample) < SAMPLE_BYTES)
        if not head:
            raise InputError(f"source '{source}': expected ratings, found an empty file; check the delivery")
        wanted = {role: name for role, name in wanted.items() if plain(name) not in parts}
        if is_json(head, kind):
            frame, names = read_json(spark, ingest, files, first, head, encoding, wanted, optional)
        else:
            where = source if len(files.uris) == 1 else f"{source} ({first})"
            found = layout(head, encoding, ingest, where, wanted)
            frame, names = read_text(spark, ingest, files, first, found, wanted)
    names = [name for name in names if plain(name) not in parts]  # what a folder says counts
    if parts:
        said = [F.expr(part_value(_PATH, name)).alias(name) for name in files.parts]
        frame = frame.select(*[F.col(quoted(name)) for name in frame.columns if plain(name) not in parts], *said)
    return frame, [*names, *files.parts]


def _whole(error: BaseException) -> str:
    if isinstance(error, Py4JJavaError):
        return str(error)
    return f"{error} {getattr(error, 'getErrorClass', lambda: '')() or ''}"


def _reason(text: str) -> str:
    """Return the innermost cause that a trace tells, with the file where it is named."""
    causes = re.findall(r"^Caused by: (.+)$", text, re.MULTILINE)
    found = causes[-1] if causes else text.strip().splitlines()[0]
    file = re.search(r"(?:file|s3a?|hdfs|abfss?|gs):/[^\s,'\"]+", text)
    where = f" (in {file.group(0)})" if file and file.group(0) not in found else ""
    return found[:300] + where


def _first_line(error: BaseException) -> str:
    return reason(error)
