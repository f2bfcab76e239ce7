"""Where raw ratings come from: reading files and tables as they are, and noticing that they changed."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from ganrec_spark.config import Ingest
from ganrec_spark.errors import InputError

# Holds a text line that does not have as many values as the file has columns; NULL for every other row.
MALFORMED = "_malformed_line"

_DELIMITERS = {"csv": ",", "tsv": "\t", "movielens": "::"}


def wanted_columns(ingest: Ingest) -> dict[str, str]:
    """Return role -> column name of the columns that are read: user, item, and rating, timestamp, event if used.

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


def read_source(spark: SparkSession, ingest: Ingest, source: str) -> DataFrame:
    """Return every row of a file, folder or table: a column per role of `wanted_columns`, `source` and `raw`.

    `raw` is the whole row as a struct, text files as strings; `source` the file (or table) it came from. With
    ingest.tie_order=source there is `position`, which orders the rows as the files, by path, have them.
    Raises InputError where the source is missing, unreadable, empty, or lacks a column.
    """
    with explained(source):
        if ingest.format == "table":
            frame = spark.table(source).withColumn("_source", F.lit(source))
        else:
            frame = _read_files(spark, ingest, source).withColumn("_source", F.col("_metadata.file_path"))
        found = [name for name in frame.columns if name not in (MALFORMED, "_source")]
    roles = _resolve(source, wanted_columns(ingest), found)
    raw = [F.col(f"`{name}`") for name in frame.columns if name != "_source"]
    # A task may read several pieces of files, each of them in the order of its rows.
    places = (F.col("_metadata.file_path"), F.col("_metadata.file_block_start"), F.monotonically_increasing_id())
    position = [F.struct(*places).alias("position")] if ingest.tie_order == "source" else []
    return frame.select(
        *[F.col(f"`{name}`").alias(role) for role, name in roles.items()],
        F.col("_source").alias("source"),
        F.struct(*raw).alias("raw"),
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
    except (PySparkException, Py4JError) as error:
        text = str(error)
        if "CSV header does not conform" in text:
            raise InputError(
                f"source '{source}': expected the same header in every file, found differing ones; "
                "bring the columns into the same order"
            ) from error
        if any(sign in text for sign in ("FAILED_READ_FILE", "CANNOT_READ_FILE", "is not a Parquet file")):
            raise InputError(
                f"source '{source}': expected readable, complete files, found: {_first_line(error)}; "
                f"check permissions, deliver the file again, or {advice}"
            ) from error
        raise


def _read_files(spark: SparkSession, ingest: Ingest, source: str) -> DataFrame:
    path = _location(source)
    kind: str = ingest.format
    head: list[str] = []
    if kind == "auto" and path.rstrip("/").endswith(".parquet"):
        kind = "parquet"
    if kind != "parquet":
        head = _head(spark, path, source)
        if kind == "auto":
            kind = _kind(source, head[0])
    if kind == "parquet":
        # pandas writes times in nanoseconds, which Spark can only read as plain numbers.
        spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
        return spark.read.parquet(path)
    return _read_text(spark, ingest, source, kind, head)


def _location(source: str) -> str:
    """Return a local path as a file URI, whatever file system Spark defaults to; others as they are."""
    local = Path(source).expanduser()
    return f"file://{local.absolute()}" if "://" not in source and local.exists() else source


def _head(spark: SparkSession, path: str, source: str) -> list[str]:
    lines = spark.read.text(path).where((F.col("_metadata.file_block_start") == 0) & (F.length("value") > 0))
    head = [row.value for row in lines.limit(2).collect()]
    if not head:
        raise InputError(f"source '{source}': expected ratings, found an empty file; check the delivery")
    if not head[0].startswith("PAR1") and any(sign in line for line in head for sign in ("\ufffd", "\x00")):
        raise InputError(
            f"source '{source}': expected UTF-8 text or Parquet, found {head[0][:80]!r}; convert the file to UTF-8"
        )
    return head


def _kind(source: str, line: str) -> str:
    if line.startswith("PAR1"):
        return "parquet"
    suffix = Path(source.removesuffix(".gz").removesuffix(".bz2")).suffix
    first = {".csv": "csv", ".tsv": "tsv"}.get(suffix, "movielens")
    for kind in (first, "movielens", "tsv", "csv"):
        if _DELIMITERS[kind] in line:
            return kind
    raise InputError(
        f"source '{source}': expected ',', tab or '::' as the delimiter of columns, found first line {line[:120]!r}; "
        "convert the file"
    )


def _read_text(spark: SparkSession, ingest: Ingest, source: str, kind: str, head: list[str]) -> DataFrame:
    delimiter, wanted = _DELIMITERS[kind], wanted_columns(ingest)
    values = _split(head[0], delimiter)
    named = {_plain(value) for value in values} >= {_plain(name) for name in wanted.values()}
    header = named or (ingest.header and kind != "movielens")
    if header and not named:
        _explain_missing(source, list(wanted.values()), values, head[0])
    if not header and len(values) < len(wanted):
        raise InputError(
            f"source '{source}': expected {len(wanted)} columns ({', '.join(wanted)}) separated by {delimiter!r}, "
            f"found {len(values)} in the first line {head[0][:120]!r}; check ingest.format, or set ingest.columns "
            "of what the file does not have to null"
        )
    names = _unique(
        values if header else [*wanted.values(), *[f"column_{i + 1}" for i in range(len(wanted), len(values))]]
    )
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    return spark.read.csv(
        _location(source),
        schema=schema,
        sep=delimiter,
        header=header,
        enforceSchema=False,
        quote="" if kind == "movielens" else '"',
        escape='"',
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=MALFORMED,
    )


def _split(line: str, delimiter: str) -> list[str]:
    return line.split(delimiter) if len(delimiter) > 1 else next(csv.reader([line], delimiter=delimiter))


def _unique(names: list[str]) -> list[str]:
    """Return `names` with later repetitions and blanks numbered, as Spark wants distinct columns."""
    seen: set[str] = set()
    result = []
    for position, name in enumerate(names, 1):
        fresh = name if name.strip() and _plain(name) not in seen else f"{name.strip()}_{position}"
        seen.add(_plain(fresh))
        result.append(fresh)
    return result


def _plain(name: str) -> str:
    return name.strip().lower()


def _resolve(source: str, wanted: dict[str, str], found: list[str]) -> dict[str, str]:
    by_name = {_plain(name): name for name in reversed(found)}
    missing = [name for name in wanted.values() if _plain(name) not in by_name]
    if missing:
        _explain_missing(source, list(wanted.values()), found, "")
    return {role: by_name[_plain(name)] for role, name in wanted.items()}


def _explain_missing(source: str, wanted: list[str], found: list[str], line: str) -> None:
    present = {_plain(name) for name in found}
    missing = [name for name in wanted if _plain(name) not in present]
    where = f"first line {line[:120]!r}" if line else f"columns {', '.join(found)}"
    raise InputError(
        f"source '{source}': expected columns {', '.join(wanted)}, found {where}; missing: {', '.join(missing)}. "
        "Check the delimiter (ingest.format), name the columns in ingest.columns (null where the file has none), "
        "or set ingest.header=false if the first line is data"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300]
