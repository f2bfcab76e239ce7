"""What makes a raw row a valid rating: parsing of ids, ratings and times, and the named rules for rejects."""

from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    MapType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from ganrec_spark.config import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.sources import MALFORMED

# Numbers at least this large are milliseconds, microseconds, nanoseconds: as seconds they would lie after year 5000.
_MILLIS, _MICROS, _NANOS = 1e11, 1e14, 1e17
_LAST_SECOND = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last that Spark can show
_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_ISO = r"^\d{4}-\d{1,2}-\d{1,2}"


def judge(rows: DataFrame, ingest: Ingest, run_date: str) -> DataFrame:
    """Return each raw row with user_id, item_id, rating, ts, event and `rule`: the first rule broken, or NULL.

    In and out: one row per input row (see sources.read_source); nothing is dropped. Ids become trimmed strings,
    times UTC; a time after the end of `run_date` (UTC) is future_time.
    """
    types = {field.name: field.dataType for field in rows.schema.fields}
    by_event, has_rating, has_time = (name in types for name in ("event", "rating", "timestamp"))
    rating = F.lit(1.0)
    if by_event:
        rating = _weight(ingest)
    elif has_rating:
        rating = _number(F.col("rating"), types["rating"])
    parsed = rows.select(
        "source",
        "raw",
        *(["position"] if "position" in rows.columns else []),
        id_text(F.col("user"), types["user"], ingest.columns.user).alias("user_id"),
        id_text(F.col("item"), types["item"], ingest.columns.item).alias("item_id"),
        rating.alias("rating"),
        (_time(F.col("timestamp"), types["timestamp"], ingest) if has_time else _epoch()).alias("ts"),
        (F.trim(F.col("event").cast("string")) if by_event else F.lit(None).cast("string")).alias("event"),
    )
    malformed = F.col(f"raw.{MALFORMED}").isNotNull() if MALFORMED in _fields(types["raw"]) else F.lit(False)
    return parsed.withColumn("rule", _rule(ingest, malformed, end_of(run_date)))


def mark_duplicates(judged: DataFrame, keep_conflicts: bool) -> DataFrame:
    """Give all but one of the valid rows of a user and item their rule; one row in, one row out.

    exact_duplicate: same rating, time and event as another row. conflicting_duplicate: an older row (equal times:
    the earlier `position` where there is one, else the smaller rating) of the same user and item; with
    `keep_conflicts` such rows are further events, and valid.
    """
    # Events that are the same must be neighbours; of ratings that differ the later one counts.
    by = ("ts", "rating", "event", "position", "source") if keep_conflicts else ("ts", "position", "rating", "source")
    order = [F.col(name).desc() for name in by if name in judged.columns]
    # Rejected rows have no key; their own hash spreads them over the tasks.
    key = F.when(F.col("rule").isNotNull(), row_hash(judged.schema["raw"].dataType))
    window = Window.partitionBy(key, "origin", "user_id", "item_id").orderBy(
        *order, row_hash(judged.schema["raw"].dataType)
    )
    same = F.lit(True)
    for name in ("ts", "rating", "event"):
        same = same & F.col(name).eqNullSafe(F.lag(name).over(window))
    repeated = F.row_number().over(window) > 1
    duplicate = F.when(repeated & same, "exact_duplicate")
    if not keep_conflicts:
        duplicate = duplicate.when(repeated, "conflicting_duplicate")
    return judged.withColumn("rule", F.coalesce("rule", duplicate))


def row_as_json(raw: DataType) -> Column:
    """Return `raw` as JSON, missing values as null; a malformed line as {"line": text}."""
    names = [name for name in _fields(raw) if name != MALFORMED]
    options = {"ignoreNullFields": "false"}
    row = F.to_json(F.struct(*[F.col(f"raw.`{name}`").alias(name) for name in names]), options)
    if MALFORMED not in _fields(raw):
        return row
    line = F.to_json(F.struct(F.col(f"raw.{MALFORMED}").alias("line")))
    return F.when(F.col(f"raw.{MALFORMED}").isNotNull(), line).otherwise(row)


def row_hash(raw: DataType) -> Column:
    """Return a stable 64-bit hash of a raw row's plain values."""
    nested = (ArrayType, MapType, StructType)
    fields = raw.fields if isinstance(raw, StructType) else []
    return F.xxhash64(*[F.col(f"raw.`{field.name}`") for field in fields if not isinstance(field.dataType, nested)])


def end_of(run_date: str) -> datetime:
    """Return the first moment after `run_date`, UTC. Raises InputError where it is no date."""
    try:
        day = date.fromisoformat(run_date)
    except ValueError:
        raise InputError(f"run '{run_date}': expected a date, YYYY-MM-DD, to tell ratings from the future") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def id_text(column: Column, kind: DataType, name: str) -> Column:
    """Return an id as trimmed text, NULL where it is blank; whole numbers print without '.0' or exponent."""
    if isinstance(kind, ArrayType | MapType | StructType):
        raise InputError(f"column '{name}': expected text or numbers as ids, found {kind.simpleString()}")
    text = column.cast("string")
    if isinstance(kind, FloatType | DoubleType | DecimalType):
        text = F.coalesce(F.when(column == F.floor(column), column.try_cast("decimal(38,0)").cast("string")), text)
    if isinstance(kind, FloatType | DoubleType):
        text = F.when(~F.isnan(column), text)
    return F.nullif(F.btrim(text, F.lit(" \t\r\n")), F.lit(""))


def _rule(ingest: Ingest, malformed: Column, end: datetime) -> Column:
    user, item, rating, ts = (F.col(name) for name in ("user_id", "item_id", "rating", "ts"))
    garbled = user.contains("\ufffd") | item.contains("\ufffd")
    unusable = "unknown_event" if ingest.feedback == "implicit" and ingest.columns.event else "bad_rating"
    infinite = F.isnan(rating) | rating.isin(float("inf"), float("-inf"))
    return (
        F.when(malformed, "malformed_row")
        .when(user.isNull() | item.isNull(), "missing_id")
        .when(garbled, "bad_encoding")
        .when(rating.isNull(), unusable)
        .when(infinite, "non_finite_rating")
        .when(~rating.between(ingest.rating_min, ingest.rating_max), "rating_out_of_range")
        .when(ts.isNull(), "bad_time")
        .when(ts >= F.lit(end), "future_time")
    )


def _weight(ingest: Ingest) -> Column:
    pairs = [F.lit(part) for pair in sorted(ingest.event_weights.items()) for part in pair]
    return F.create_map(*pairs)[F.trim(F.col("event").cast("string"))] if pairs else F.lit(None).cast("double")


def _number(column: Column, kind: DataType) -> Column:
    if isinstance(kind, StringType):
        return F.btrim(column, F.lit(" \t\r\n")).try_cast("double")
    return column.cast("double")


def _epoch() -> Column:
    return F.timestamp_seconds(F.lit(0))


def _time(column: Column, kind: DataType, ingest: Ingest) -> Column:
    if isinstance(kind, TimestampType | TimestampNTZType | DateType):
        return column.cast("timestamp")
    unit = ingest.timestamp_unit
    if not isinstance(kind, StringType):
        return _from_number(column.cast("double"), unit)
    text = F.btrim(column, F.lit(" \t\r\n"))
    number = F.when(text.rlike(_NUMBER), text.try_cast("double"))
    # Without the pattern Spark would read '12:30' as today.
    iso = F.when(text.rlike(_ISO), text.try_cast("timestamp"))
    if unit == "iso":
        return iso
    return F.coalesce(_from_number(number, unit), iso) if unit == "auto" else _from_number(number, unit)


def _from_number(value: Column, unit: str) -> Column:
    if unit == "iso":
        return F.lit(None).cast("timestamp")
    size = F.abs(value)
    scale = {"s": F.lit(1.0), "ms": F.lit(1e3)}.get(
        unit,
        F.when(size >= _NANOS, 1e9).when(size >= _MICROS, 1e6).when(size >= _MILLIS, 1e3).otherwise(1.0),
    )
    seconds = value / scale
    return F.when(F.abs(seconds) <= _LAST_SECOND, F.timestamp_micros(F.round(seconds * 1e6).try_cast("bigint")))


def _fields(kind: DataType) -> list[str]:
    return kind.names if isinstance(kind, StructType) else []
