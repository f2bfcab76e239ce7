"""Files of one format as Spark reads them, so that no row is lost or made: Parquet, text with quotes."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.files import Files, first_bytes, local_stream
from ganrec_spark.raw.names import quoted, resolve, shown, unique
from ganrec_spark.raw.text import QUOTE, Layout, decoded, lines, rows_in_quotes

# Holds a text line that does not have as many values as the file has columns; NULL for every other row.
MALFORMED = "_malformed_line"
GIVEN = {"__globPaths__": "false"}  # paths are paths, whatever characters they have
# Where Java's name of an encoding is another than Python's.
_JAVA_NAMES = {"utf-8-sig": "UTF-8", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32-le": "UTF-32LE"}
_JAVA_NAMES |= {"utf-32-be": "UTF-32BE", "mac-roman": "x-MacRoman", "mac_roman": "x-MacRoman"}


def read_parquet(spark: SparkSession, files: Files) -> DataFrame:
    """Return the rows of Parquet files; pandas writes times in nanoseconds, which Spark reads as plain numbers only."""
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    return spark.read.options(**GIVEN).parquet(*files.uris)


def read_text(
    spark: SparkSession, ingest: Ingest, files: Files, first: str, found: Layout, wanted: dict[str, str | int]
) -> tuple[DataFrame, list[str]]:
    """Return the rows of text files, MALFORMED besides, and the columns' names; `found` is what `first` is like."""
    roles = resolve(files.source, wanted, found.names)
    _require_alike(spark, ingest, files, first, found)
    quotes, several = found.quoted, found.encoding.startswith(("utf-16", "utf-32"))
    if quotes and (seen := _quotes_seen(spark, ingest, files, found, several)).left_open:
        quotes, spanning = _open_quotes(ingest, files, found, seen)
        several = several or spanning
    names = unique(found.names, reserved=[MALFORMED])
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    spark.conf.set("spark.sql.legacy.javaCharsets", "true")  # else only ISO 8859-1 and Unicode
    frame = spark.read.options(**GIVEN).csv(
        list(files.uris),
        schema=schema,
        sep=found.delimiter,
        encoding=_charset(spark, files.source, found.encoding),
        header=found.header,
        enforceSchema=True,  # by position: names may be blank or repeated
        quote=QUOTE if quotes else "",
        escape=QUOTE,
        multiLine=several,
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=MALFORMED,
        ignoreLeadingWhiteSpace=False,
        ignoreTrailingWhiteSpace=False,
    )
    if found.header:  # a header amid the rows is no row, where files were put one behind the other
        again = [F.regexp_replace(F.col(quoted(name)), "^\ufeff", "") == F.lit(name) for name in roles.values()]
        is_header = reduce(Column.__and__, again)
        frame = frame.withColumn(MALFORMED, F.coalesce(MALFORMED, F.when(is_header, F.lit(found.first_line))))
    return frame, list(names)


def _charset(spark: SparkSession, source: str, encoding: str) -> str:
    """Return Java's name of Python's encoding. Raises InputError where Java has none."""
    jvm: Any = spark._jvm
    spellings = (_JAVA_NAMES.get(encoding, encoding), encoding.replace("_", "-"), encoding.replace("_", ""))
    for name in spellings:
        with suppress(Py4JError):  # a name that Java does not even take for one
            if jvm.java.nio.charset.Charset.isSupported(name):
                return name
    raise InputError(
        f"source '{source}': ingest.encoding '{encoding}': expected an encoding that Java knows, too; convert to UTF-8"
    )


def samples_of(spark: SparkSession, files: Files, but: str) -> list[tuple[str, bytes]]:
    """Return URI and first bytes of all files but one."""
    others = [uri for uri in files.uris if uri != but]
    with ThreadPoolExecutor(16) as pool:  # object stores answer slowly, one file at a time
        return list(zip(others, pool.map(lambda uri: first_bytes(spark, uri, 1 << 16), others), strict=True))


def _require_alike(spark: SparkSession, ingest: Ingest, files: Files, first: str, found: Layout) -> None:
    """Raise InputError where a file has another encoding than the first one, or another header."""
    for uri, sample in samples_of(spark, files, first):
        text, encoding = decoded(sample, ingest, uri)
        head = lines(text, whole=True)
        if head and encoding.removesuffix("-sig") != found.encoding.removesuffix("-sig"):
            raise InputError(
                f"source '{files.source}': expected the same encoding in every file, found {found.encoding} and, in "
                f"one, {encoding}; convert them to UTF-8"
            )
        if found.header and head and head[0] != found.first_line:
            raise InputError(
                f"source '{files.source}': expected the same header in every file, found {shown(found.first_line)} "
                f"and, in {uri.rsplit('/', 1)[-1]}, {shown(head[0])}; bring the columns into one order, or take away "
                "what is no data"
            )


@dataclass(frozen=True)
class Quotes:
    """Of all lines: whether one leaves a quote open, a value begins with one, and a value ends with one."""

    left_open: bool
    begin: bool
    end: bool


def _quotes_seen(spark: SparkSession, ingest: Ingest, files: Files, found: Layout, wide: bool) -> Quotes:
    """Look for quotes in all lines. Raises InputError where one is left open by quotes behind backslashes alone."""
    if wide:  # in UTF-16 Spark sees no lines
        return Quotes(all(uri.startswith("file://") for uri in files.uris), True, True)
    text, edge = spark.read.options(**GIVEN).text(list(files.uris)), re.escape(found.delimiter)
    unescaped = F.replace("value", F.lit(f"\\{QUOTE}"), F.lit(""))
    odd, odd_unescaped = (
        (F.length(line) - F.length(F.replace(line, F.lit(QUOTE), F.lit("")))) % 2 == 1
        for line in (F.col("value"), unescaped)
    )
    row = text.agg(
        F.max(odd).alias("open"),
        F.max(~odd & odd_unescaped).alias("escaped"),
        F.max(F.col("value").rlike(f"(^|{edge}){QUOTE}")).alias("begin"),
        F.max(F.col("value").rlike(f"{QUOTE}({edge}|$)")).alias("end"),
    ).collect()[0]
    if row.escaped and ingest.quote == "auto":
        raise InputError(
            f"source '{files.source}': expected quotes inside of quotes to be doubled, found lines that leave one open "
            f"by a backslash; double them, or set ingest.quote to '{QUOTE}' where backslashes are characters, to none "
            "where quotes are"
        )
    return Quotes(bool(row.open), bool(row.begin), bool(row.end))


def _open_quotes(ingest: Ingest, files: Files, found: Layout, seen: Quotes) -> tuple[bool, bool]:
    """Return whether quotes quote, and whether what they quote goes over several lines.

    They are characters where no value begins, or none ends with one. Raises InputError where both can be meant.
    """
    if ingest.quote == QUOTE:
        return True, True
    if not (seen.begin and seen.end):
        return False, False
    if all(uri.startswith("file://") for uri in files.uris) and rows_in_quotes(map(local_stream, files.uris), found):
        return True, True
    raise InputError(
        f"source '{files.source}': expected every quote to be closed in its line, found lines that leave one open; "
        f"set ingest.quote to '{QUOTE}' where text goes over several lines, to none where quotes are characters like "
        "others, or mend the file"
    )
