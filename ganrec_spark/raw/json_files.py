"""JSON as Spark reads it, so that no row is lost: an object a line, or one array a file."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, DoubleType, StringType, StructField, StructType

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.files import Files
from ganrec_spark.raw.names import plain, quoted, resolve
from ganrec_spark.raw.readers import GIVEN, MALFORMED, samples_of
from ganrec_spark.raw.text import decoded, json_names, lines

# Of a line or a file: it is one value and nothing after it, values follow each other, or it ends too early.
_WHOLE, _SEVERAL, _CUT = "whole", "several", "cut"
_NESTED = r"^\s*(\{\s*(\"|\})|\[.*\]\s*$)"  # an object or an array as text
# What a line of several objects has: after one's end something else than more of the object around it. Parts of
# nested objects look alike, so what it finds is looked at again.
_MAY_BE_SEVERAL = r"\}\s*[^\s,\}\]]|\}\s*,\s*\{"


def read_json(
    spark: SparkSession,
    ingest: Ingest,
    files: Files,
    first: str,
    head: list[str],
    encoding: str,
    wanted: dict[str, str | int],
    optional: Mapping[str, str | int] | None = None,
) -> tuple[DataFrame, list[str]]:
    """Return the rows of JSON files, one object a line or an array a file, with MALFORMED; and the keys in `head`.

    With `optional`, roles of keys that need not be there, as in events, a line of several values is a malformed row.
    Else, and in files that are arrays, InputError is raised where something would be left out: what follows the first
    value of a line or a file, or an array that is cut.
    """
    names, objects = json_names(head, files.source)
    several = head[0].lstrip().startswith("[")
    if encoding.startswith(("utf-16", "utf-32")):
        raise InputError(f"source '{files.source}': expected JSON in UTF-8, found {encoding}; convert it")
    for uri, sample in samples_of(spark, files, first):
        text, _ = decoded(sample, ingest, uri)
        beginning = lines(text, whole=False)
        if beginning and beginning[0].lstrip().startswith("[") != several:
            raise InputError(
                f"source '{files.source}': expected the same form in every file, found arrays and objects; bring them "
                "into one form, or read them apart"
            )
        if any("{" in line for line in beginning):  # an array may be empty
            objects += json_names(beginning, files.source)[1]
    by_line = optional is not None and not several
    if not by_line:
        _require_one_value(spark, files, several)
    # Keys that may be missing need not be in the sample.
    known = {plain(name) for name in names}
    names = (
        *names,
        *(name for name in (optional or {}).values() if isinstance(name, str) and plain(name) not in known),
    )
    roles = resolve(files.source, wanted, names)
    keys = [roles[role] for role in ("user", "item") if role in roles]
    kinds = {key: _id_kind(files.source, key, objects, by_line) for key in keys}
    schema = StructType([StructField(name, kinds.get(name, StringType())) for name in (*names, MALFORMED)])
    if by_line:
        frame = _line_by_line(spark, files, schema)
    else:
        frame = spark.read.options(**GIVEN).json(
            list(files.uris),
            schema=schema,
            columnNameOfCorruptRecord=MALFORMED,
            multiLine=several,
            encoding=encoding,
            lineSep="\n",
        )
    texts = [key for key in keys if kinds[key] == StringType()]
    return _without_nested(frame, texts), list(names)


def _line_by_line(spark: SparkSession, files: Files, schema: StructType) -> DataFrame:
    """Return a row per line that is not blank; one of several values, or of none, has its text as MALFORMED."""
    text = _text(spark.read.options(**GIVEN).text(list(files.uris), lineSep="\n"))
    return _objects(text.where(F.btrim("value", F.lit(" \t\r")) != ""), schema)


def json_messages(frame: DataFrame, names: Sequence[str], ids: Sequence[str], kept: Sequence[str]) -> DataFrame:
    """Return a row per message: keys `names` of the object in column `value` (bytes) as text, MALFORMED, and `kept`.

    A message of several values, of none, or with an object or array as one of `ids` has its text as MALFORMED. Nothing
    is dropped: a message without value has an empty text.
    """
    text = _text(frame.withColumn("value", F.coalesce(F.col("value").cast("string"), F.lit(""))))
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    return _without_nested(_objects(text, schema, kept), ids)


def _text(frame: DataFrame) -> DataFrame:
    return frame.withColumn("value", F.regexp_replace(F.make_valid_utf8("value"), "^\ufeff", ""))


def _objects(text: DataFrame, schema: StructType, kept: Sequence[str] = ()) -> DataFrame:
    """Return what is in column `value`, one object a row, by a schema that ends with MALFORMED; and columns `kept`."""
    may_be = F.when(F.col("value").rlike(_MAY_BE_SEVERAL), F.col("value"))
    several = F.udf(lambda line: line is not None and _kind(line) == _SEVERAL, BooleanType())(may_be)
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": MALFORMED}
    rows = text.select("value", *kept, several.alias("several"), F.from_json("value", schema, options).alias("row"))
    fields = [F.when(~F.col("several"), F.col(f"row.{quoted(name)}")).alias(name) for name in schema.names[:-1]]
    broken = F.when(F.col("several") | F.col("row").isNull(), F.col("value"))
    return rows.select(*fields, F.coalesce(f"row.{MALFORMED}", broken).alias(MALFORMED), *kept)


def _without_nested(frame: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return the rows with those as malformed that have an object or an array where an id should be."""
    for key in keys:
        nested = F.col(quoted(key)).rlike(_NESTED)
        frame = frame.withColumn(MALFORMED, F.coalesce(MALFORMED, F.when(nested, F.col(quoted(key)))))
    return frame


def _id_kind(source: str, name: str, objects: Sequence[dict[str, object]], by_line: bool) -> DataType:
    """Return how a key of ids is read: as text, but numbers with a point as numbers, for as text they lose digits.

    Raises InputError where one of them is an object or an array; where lines are judged `by_line` only if all are.
    """
    given = [one[name] for one in objects if one.get(name) is not None]
    values = [value for value in given if not isinstance(value, dict | list)]
    nested = next((value for value in given if isinstance(value, dict | list)), None)
    if nested is not None and not (by_line and values):
        kind = "an object" if isinstance(nested, dict) else "an array"
        raise InputError(f"source '{source}': expected ids in key {name}, found {kind}; name another key")
    numbers = bool(values) and all(isinstance(value, float | int) for value in values)
    return DoubleType() if numbers and any(isinstance(value, float) for value in values) else StringType()


def _require_one_value(spark: SparkSession, files: Files, array: bool) -> None:
    """Raise InputError where Spark would read the first one of several values alone, or half of an array."""
    text = spark.read.options(**GIVEN).text(list(files.uris), wholetext=array, lineSep=None if array else "\n")
    suspects = text if array else text.where(F.col("value").rlike(_MAY_BE_SEVERAL))
    found = {row.found for row in suspects.mapInArrow(_kinds, "found string").distinct().collect()}
    if _SEVERAL in found:
        where, what = ("array a file", "more after one") if array else ("object a line", "several in one")
        raise InputError(
            f"source '{files.source}': expected one JSON {where}, found {what}; write each object in a line of its "
            "own, or all of a file as one array"
        )
    if array and _CUT in found:
        raise InputError(f"source '{files.source}': expected whole JSON arrays, found one cut short; deliver it again")


def _kinds(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"found": sorted({_kind(text or "") for text in batch["value"].to_pylist()})})


def _kind(text: str) -> str:
    text = text.strip().removeprefix("\ufeff").strip()
    try:
        # Of integers Python refuses those of more than 4,300 digits.
        _, end = json.JSONDecoder(parse_int=str).raw_decode(text) if text else (None, 0)
    except (json.JSONDecodeError, RecursionError):
        return _CUT
    return _SEVERAL if text[end:].strip(", \t\r\n") else _WHOLE
