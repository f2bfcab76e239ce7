"""What makes a raw row a valid rating: parsing of ids, ratings and times, and the named rules for rejects."""

from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    MapType,
    NumericType,
    StringType,
    StructType,
)

from ganrec_spark.config.load import from_environment
from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.names import quoted
from ganrec_spark.raw.readers import MALFORMED
from ganrec_spark.raw.times import TimeForm, time_column, time_form

# A number as people write it: 4d, 0x10 and digits of other scripts are none. What is not finite has a rule of its own.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"^(?i)[+-]?(nan|inf|infinity)$"
_BLANKS = " \t\r\n"
# Doubles and floats tell whole numbers apart below this; from there on two ids may have become one.
_EXACT: dict[type[DataType], float] = {DoubleType: 2.0**53, FloatType: 2.0**24}
# What stood in the columns of these roles, to show what was rejected.
RAW_VALUES = {"rating": "raw_rating", "timestamp": "raw_time"}
# Rows of these rules are no faults: the settings say that they do not count.
IGNORED = ("ignored_event", "not_rated", "not_yet_given")


NULL = "\\N"  # as MySQL and PostgreSQL write what is missing


def apply_rules(rows: DataFrame, ingest: Ingest, as_of: datetime, form: TimeForm | None = None) -> DataFrame:
    """Return each raw row with user_id, item_id, rating, ts, event and `rule`: the first rule broken, or NULL.

    In and out: one row per input row (see sources.read_source); nothing is dropped. Ids become trimmed strings,
    times UTC, as `form` says they are written (by default recognised). A time that is not before `as_of`, the moment
    that the run stands at, is not_yet_given where it has passed by now, as in a backfill from a source that has gone
    on, else future_time. With ingest.pseudonym_salt user_id is a pseudonym, in `raw`, too, and `source_id` the id.
    """
    types = {field.name: field.dataType for field in rows.schema.fields}
    by_event, has_rating, has_time = (name in types for name in ("event", "rating", "timestamp"))
    rating = F.lit(1.0)
    if by_event:
        rating = _weight(ingest)
    elif has_rating:
        rating = _number(F.col("rating"), types["rating"], ingest)
    ts = F.timestamp_seconds(F.lit(0))
    if has_time:
        form = form or time_form(rows, ingest)
        ts = time_column(F.col("timestamp"), types["timestamp"], form, ingest.timestamp_unit)
    user = id_text(F.col("user"), types["user"], str(ingest.columns.user))
    raw, shown = F.col("raw"), user
    if ingest.pseudonym_salt:
        shown = pseudonym(user, from_environment("ingest.pseudonym_salt", ingest.pseudonym_salt))
        raw = without_user(types["raw"], str(rows.schema["user"].metadata["column"]), shown)
    parsed = rows.select(
        "file",
        raw.alias("raw"),
        user.alias("source_id"),
        *[_as_text(F.col(role), types.get(role)).alias(name) for role, name in RAW_VALUES.items()],
        *(["position"] if "position" in rows.columns else []),
        shown.alias("user_id"),
        id_text(F.col("item"), types["item"], str(ingest.columns.item)).alias("item_id"),
        rating.alias("rating"),
        ts.alias("ts"),
        (F.trim(F.col("event").cast("string")) if by_event else F.lit(None).cast("string")).alias("event"),
        (inexact(F.col("user"), types["user"]) | inexact(F.col("item"), types["item"])).alias("inexact"),
    )
    malformed = F.col(f"raw.{MALFORMED}").isNotNull() if MALFORMED in _fields(types["raw"]) else F.lit(False)
    checked = parsed.withColumn("rule", _rule(ingest, malformed, as_of))
    return checked.drop("inexact", *([] if ingest.pseudonym_salt else ["source_id"]))


def pseudonym(user_id: Column, salt: str) -> Column:
    """Return what stands for a user's id: 32 hex digits of SHA-256 of salt and id, the same in every run."""
    return F.substring(F.sha2(F.concat(F.lit(f"{salt}\x1f"), user_id), 256), 1, 32)


def without_user(raw: DataType, user: str, shown: Column) -> Column:
    """Return `raw` with the user's id replaced; a malformed line, in which it may stand anywhere, is withheld."""
    fields = {name: F.col(f"raw.{quoted(name)}") for name in _fields(raw)}
    fields[user] = shown
    if MALFORMED in fields:
        fields[MALFORMED] = F.when(fields[MALFORMED].isNotNull(), F.lit("withheld (ingest.pseudonym_salt)"))
    return F.struct(*[column.alias(name) for name, column in fields.items()])


def mark_duplicates(checked: DataFrame, keep_conflicts: bool) -> DataFrame:
    """Give all but one of the valid rows of a user and item their rule; one row in, one row out.

    exact_duplicate: same rating, time and event as another row. conflicting_duplicate: an older row (equal times:
    the earlier `position` where there is one, else the smaller rating) of the same user and item; with
    `keep_conflicts` such rows are further events, and valid.
    """
    # Events that are the same must be neighbours; of ratings that differ the later one counts.
    by = ("ts", "rating", "event", "position", "file") if keep_conflicts else ("ts", "position", "rating", "file")
    order = [F.col(name).desc() for name in by if name in checked.columns]
    # Rejected rows have no key; their own hash spreads them over the tasks.
    key = F.when(F.col("rule").isNotNull(), row_hash(checked.schema["raw"].dataType))
    window = Window.partitionBy(key, "origin", "user_id", "item_id").orderBy(
        *order, row_hash(checked.schema["raw"].dataType)
    )
    same = F.lit(True)
    for name in ("ts", "rating", "event"):
        same = same & F.col(name).eqNullSafe(F.lag(name).over(window))
    repeated = F.row_number().over(window) > 1
    duplicate = F.when(repeated & same, "exact_duplicate")
    if not keep_conflicts:
        duplicate = duplicate.when(repeated, "conflicting_duplicate")
    return checked.withColumn("rule", F.coalesce("rule", duplicate))


def row_as_json(raw: DataType, missing: bool = True) -> Column:
    """Return `raw` as JSON, `missing` values as null; a malformed line as {"line": text}."""
    names = [name for name in _fields(raw) if name != MALFORMED]
    options = {"ignoreNullFields": str(not missing).lower()}
    row = F.to_json(F.struct(*[F.col(f"raw.{quoted(name)}").alias(name) for name in names]), options)
    if MALFORMED not in _fields(raw):
        return row
    line = F.to_json(F.struct(F.col(f"raw.{MALFORMED}").alias("line")))
    return F.when(F.col(f"raw.{MALFORMED}").isNotNull(), line).otherwise(row)


def row_hash(raw: DataType) -> Column:
    """Return a stable 64-bit hash of a raw row's plain values."""
    nested = (ArrayType, MapType, StructType)
    fields = raw.fields if isinstance(raw, StructType) else []
    return F.xxhash64(
        *[F.col(f"raw.{quoted(field.name)}") for field in fields if not isinstance(field.dataType, nested)]
    )


def id_text(column: Column, kind: DataType, name: str) -> Column:
    """Return an id as trimmed text, NULL where it is blank; whole numbers print without '.0' or exponent."""
    if isinstance(kind, ArrayType | MapType | StructType):
        raise InputError(f"column '{name}': expected text or numbers as ids, found {kind.simpleString()}")
    text = column.cast("string")
    if isinstance(kind, BinaryType):  # bytes that are no text become the sign that rule bad_encoding looks for
        text = F.when(F.is_valid_utf8(text), text).when(text.isNotNull(), "\ufffd")
    if isinstance(kind, FloatType | DoubleType | DecimalType):
        text = F.coalesce(F.when(column == F.floor(column), column.try_cast("decimal(38,0)").cast("string")), text)
    if isinstance(kind, FloatType | DoubleType):
        text = F.when(~F.isnan(column), text)
    return F.nullif(F.btrim(text, F.lit(_BLANKS)), F.lit(""))


def _rule(ingest: Ingest, malformed: Column, as_of: datetime) -> Column:
    user, item, rating, ts = (F.col(name) for name in ("source_id", "item_id", "rating", "ts"))
    garbled = user.contains("\ufffd") | item.contains("\ufffd")
    unusable = "unknown_event" if ingest.feedback == "implicit" and ingest.columns.event else "bad_rating"
    infinite = F.isnan(rating) | rating.isin(float("inf"), float("-inf"))
    return (
        F.when(malformed, "malformed_row")
        .when(user.isNull() | item.isNull() | (user == NULL) | (item == NULL), "missing_id")
        .when(garbled, "bad_encoding")
        .when(F.col("inexact"), "inexact_id")
        .when(rating.isNull(), unusable)
        .when(infinite, "non_finite_rating")
        .when(rating == 0 if unusable == "unknown_event" else F.lit(False), "ignored_event")
        .when(rating == F.lit(ingest.unrated), "not_rated")
        .when(~rating.between(ingest.rating_min, ingest.rating_max), "rating_out_of_range")
        .when(ts.isNull(), "bad_time")
        .when((ts >= F.lit(as_of)) & (ts <= F.lit(datetime.now(UTC))), "not_yet_given")
        .when(ts >= F.lit(as_of), "future_time")
    )


def _weight(ingest: Ingest) -> Column:
    pairs = [F.lit(part) for pair in sorted(ingest.event_weights.items()) for part in pair]
    return F.create_map(*pairs)[F.trim(F.col("event").cast("string"))] if pairs else F.lit(None).cast("double")


def _number(column: Column, kind: DataType, ingest: Ingest) -> Column:
    if isinstance(kind, NumericType):
        return column.cast("double")
    if not isinstance(kind, StringType):
        raise InputError(
            f"column '{ingest.columns.rating}': expected ratings as numbers or text, found {kind.simpleString()}; name "
            "another column in ingest.columns.rating, or null, so that every row counts 1"
        )
    text = F.btrim(column, F.lit(_BLANKS))
    if ingest.decimal == ",":
        text = F.when(~text.contains("."), F.replace(text, F.lit(","), F.lit(".")))
    return number(text)


def number(text: Column) -> Column:
    """Return a text as a number, NULL where it is none; NaN and infinities are numbers here."""
    return F.when(text.rlike(_NUMBER) | text.rlike(_NOT_FINITE), text.try_cast("double"))


def _as_text(column: Column, kind: DataType | None) -> Column:
    plain = isinstance(kind, StringType | NumericType)
    return F.substring(column.cast("string"), 1, 40) if plain else F.lit(None).cast("string")


def inexact(column: Column, kind: DataType) -> Column:
    """Return whether an id is a floating-point number so large that two may have become one."""
    limit = _EXACT.get(type(kind))
    return F.lit(False) if limit is None else F.coalesce(F.abs(column) >= limit, F.lit(False))


def _fields(kind: DataType) -> list[str]:
    return kind.names if isinstance(kind, StructType) else []
