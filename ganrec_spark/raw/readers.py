"""Files of one format as Spark reads them, so that no row is lost or made: Parquet, JSON, text with quotes."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, StringType, StructField, StructType

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.files import SAMPLE_BYTES, Files, first_bytes, local_stream
from ganrec_spark.raw.names import resolve, shown, unique
from ganrec_spark.raw.text import QUOTE, Layout, decoded, json_names, lines, quotes_span_lines

# Holds a text line that does not have as many values as the file has columns; NULL for every other row.
MALFORMED = "_malformed_line"
_GIVEN = {"__globPaths__": "false"}  # paths are paths, whatever characters they have
# Where Java's name of an encoding is another than Python's.
_JAVA_NAMES = {"utf-8-sig": "UTF-8", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32-le": "UTF-32LE"}
_JAVA_NAMES |= {"utf-32-be": "UTF-32BE", "mac-roman": "x-MacRoman", "mac_roman": "x-MacRoman"}


def read_parquet(spark: SparkSession, files: Files) -> DataFrame:
    """Return the rows of Parquet files; pandas writes times in nanoseconds, which Spark reads as plain numbers only."""
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    return spark.read.options(**_GIVEN).parquet(*files.uris)


def read_json(
    spark: SparkSession, files: Files, head: list[str], encoding: str, wanted: dict[str, str | int]
) -> tuple[DataFrame, list[str]]:
    """Return the rows of JSON files, one object a line or an array a file, with MALFORMED; and the keys in `head`."""
    names, objects = json_names(head, files.source)
    several = head[0].lstrip().startswith("[")
    if encoding.startswith(("utf-16", "utf-32")):
        raise InputError(f"source '{files.source}': expected JSON in UTF-8, found {encoding}; convert it")
    if not several:
        _require_one_object_a_line(spark, files)
    roles = resolve(files.source, wanted, names)
    kinds = {roles[role]: _id_kind(files.source, roles[role], objects) for role in ("user", "item") if role in roles}
    schema = StructType([StructField(name, kinds.get(name, StringType())) for name in (*names, MALFORMED)])
    frame = spark.read.options(**_GIVEN).json(
        list(files.uris),
        schema=schema,
        columnNameOfCorruptRecord=MALFORMED,
        multiLine=several,
        encoding=encoding,
        lineSep="\n",
    )
    return frame, list(names)


def _id_kind(source: str, name: str, objects: Sequence[dict[str, object]]) -> DataType:
    """Return how a key of ids is read: as text, but numbers with a point as numbers, for as text they lose digits."""
    values = [one[name] for one in objects if one.get(name) is not None]
    if nested := next((value for value in values if isinstance(value, dict | list)), None):
        kind = "an object" if isinstance(nested, dict) else "an array"
        raise InputError(f"source '{source}': expected ids in key {name}, found {kind}; name another key")
    numbers = bool(values) and all(isinstance(value, float | int) for value in values)
    return DoubleType() if numbers and any(isinstance(value, float) for value in values) else StringType()


def _require_one_object_a_line(spark: SparkSession, files: Files) -> None:
    """Raise InputError where a line has several objects, of which Spark would read the first alone."""
    suspects = spark.read.options(**_GIVEN).text(list(files.uris)).where(F.col("value").rlike(r"\}\s*\{"))
    for row in suspects.toLocalIterator():
        with suppress(json.JSONDecodeError):  # Spark counts what is no JSON
            _, end = json.JSONDecoder().raw_decode(row.value.strip())
            if row.value.strip()[end:]:
                raise InputError(
                    f"source '{files.source}': expected one JSON object a line, found several in one of "
                    f"{len(row.value)} characters; write each in a line of its own, or all of them as an array"
                )


def read_text(
    spark: SparkSession, ingest: Ingest, files: Files, first: str, found: Layout, wanted: dict[str, str | int]
) -> tuple[DataFrame, list[str]]:
    """Return the rows of text files, MALFORMED besides, and the columns' names; `found` is what `first` is like."""
    _require_same_header(spark, ingest, files, first, found)
    quotes, several = found.quoted, found.encoding.startswith(("utf-16", "utf-32"))
    local = all(uri.startswith("file://") for uri in files.uris)
    if quotes and (local if several else _has_open_quotes(spark, ingest, files)):
        places = [found.names.index(name) for name in resolve(files.source, wanted, found.names).values()]
        quotes, spanning = _open_quotes(ingest, files, first, found, places)
        several = several or spanning
    names = unique(found.names, reserved=[MALFORMED])
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    spark.conf.set("spark.sql.legacy.javaCharsets", "true")  # else only ISO 8859-1 and Unicode
    frame = spark.read.options(**_GIVEN).csv(
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


def _require_same_header(spark: SparkSession, ingest: Ingest, files: Files, first: str, found: Layout) -> None:
    if not found.header:
        return
    others = [uri for uri in files.uris if uri != first]
    with ThreadPoolExecutor(16) as pool:  # object stores answer slowly, one file at a time
        samples = list(pool.map(lambda uri: first_bytes(spark, uri, 1 << 16), others))
    for uri, sample in zip(others, samples, strict=True):
        text, _ = decoded(sample, ingest, uri)
        head = lines(text, whole=True)
        if head and head[0] != found.first_line:
            raise InputError(
                f"source '{files.source}': expected the same header in every file, found "
                f"{shown(found.first_line)} and, "
                f"in {uri}, {shown(head[0])}; bring the columns into the same order, or take away what is no data"
            )


def _has_open_quotes(spark: SparkSession, ingest: Ingest, files: Files) -> bool:
    """Whether a line leaves a quote open. Raises InputError where it does by quotes behind backslashes alone."""
    text = spark.read.options(**_GIVEN).text(list(files.uris))
    unescaped = F.replace("value", F.lit(f"\\{QUOTE}"), F.lit(""))
    odd, odd_unescaped = (
        (F.length(line) - F.length(F.replace(line, F.lit(QUOTE), F.lit("")))) % 2 == 1
        for line in (F.col("value"), unescaped)
    )
    row = text.agg(F.max(odd).alias("open"), F.max(~odd & odd_unescaped).alias("escaped")).collect()[0]
    if row.escaped and ingest.quote == "auto":
        raise InputError(
            f"source '{files.source}': expected quotes inside of quotes to be doubled, found lines that leave one open "
            f"by a backslash; double them, or set ingest.quote to '{QUOTE}' where backslashes are characters, to none "
            "where quotes are"
        )
    return bool(row.open)


def _open_quotes(ingest: Ingest, files: Files, first: str, found: Layout, places: Sequence[int]) -> tuple[bool, bool]:
    """Return whether quotes quote, and whether what they quote goes over several lines."""
    if ingest.quote == QUOTE:
        return True, True
    local = all(uri.startswith("file://") for uri in files.uris)
    if local and quotes_span_lines(map(local_stream, files.uris), found, places):
        return True, True
    if not local or _some_wrapped(first, found):
        raise InputError(
            f"source '{files.source}': expected every quote to be closed in its line, found lines that leave one open; "
            f"set ingest.quote to '{QUOTE}' where text goes over several lines, to none where quotes are "
            "characters like "
            "others, or mend the file"
        )
    return False, False


def _some_wrapped(first: str, found: Layout) -> bool:
    """Whether some of the first lines have values in quotes, so that not all quotes are mere characters."""
    with local_stream(first) as stream:
        text = stream.read(SAMPLE_BYTES).decode(found.encoding, errors="replace")
    edge = re.escape(found.delimiter)
    return re.search(rf'(^|{edge})"[^"\n]*"({edge}|\r?$)', text, re.MULTILINE) is not None
