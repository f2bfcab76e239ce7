"""What makes a row of feedback an event: parsing of its values, and the named rules for those that are none."""

from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NumericType, StringType, StructType

from ganrec_spark.config.load import from_environment
from ganrec_spark.config.sections import Feedback, Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.readers import MALFORMED
from ganrec_spark.raw.rules import NULL, id_text, inexact, number, pseudonym, row_as_json, without_user
from ganrec_spark.raw.times import TimeForm, time_column, time_form

# The kind whose events have a value on the scale of ingest.rating_min to rating_max.
RATING = "rating"
IMPRESSION = "impression"
# Clocks of clients differ by minutes; what lies further ahead has not happened.
CLOCK_SKEW = timedelta(minutes=5)
_LONGEST_ID, _LONGEST_ROW = 1000, 10_000
_FIRST_MOMENT = datetime(1980, 1, 1, tzinfo=UTC)  # seconds taken for days, a clock without battery
_BLANKS = " \t\r\n"
_SEPARATOR = "\x1f"


def wanted_columns(feedback: Feedback) -> tuple[dict[str, str | int], dict[str, str | int]]:
    """Return role -> column of what a source of events must have, and of what it may have."""
    columns = feedback.columns
    wanted = {"user": columns.user, "item": columns.item, "kind": columns.kind, "timestamp": columns.timestamp}
    optional = {role: getattr(columns, role) for role in ("event_id", "value", "edition", "rank")}
    return wanted, {role: name for role, name in optional.items() if name is not None}


def source_settings(feedback: Feedback, ingest: Ingest) -> Ingest:
    """Return how a source of events is read: its form is found, its times are as section feedback says.

    Of section ingest counts what is said of people and of ratings: the salt of pseudonyms, and the scale.
    """
    return Ingest(
        columns=ingest.columns.model_copy(update={"timestamp": feedback.columns.timestamp}),
        timestamp_unit=feedback.timestamp_unit,
        timestamp_format=feedback.timestamp_format,
        pseudonym_salt=ingest.pseudonym_salt,
        rating_min=ingest.rating_min,
        rating_max=ingest.rating_max,
    )


def apply_rules(rows: DataFrame, feedback: Feedback, ingest: Ingest, now: datetime) -> DataFrame:
    """Return each row with event_id, user_id, item_id, kind, value, ts, edition, rank and `rule`, the first one broken.

    In and out: one row per row (raw.sources.read_events or event_rows); nothing is dropped. `source` is where a row
    came from, `row` and `row_key` say which row it was. What needs the lake to be judged is not: unknown_edition,
    too_late, duplicates. A row that breaks a rule has no event_id.
    """
    types = {field.name: field.dataType for field in rows.schema.fields}
    settings = source_settings(feedback, ingest)
    form = _time_form(rows, settings)
    # A message of a stream may be any bytes.
    user = F.make_valid_utf8(id_text(F.col("user"), types["user"], str(feedback.columns.user)))
    raw, shown = F.col("raw"), user
    if ingest.pseudonym_salt:
        shown = pseudonym(user, from_environment("ingest.pseudonym_salt", ingest.pseudonym_salt))
        raw = without_user(types["raw"], str(rows.schema["user"].metadata["column"]), shown)
    fields = types["raw"].names if isinstance(types["raw"], StructType) else []
    parsed = rows.select(
        F.col("file").alias("source"),
        raw.alias("raw"),
        (F.col(f"raw.{MALFORMED}").isNotNull() if MALFORMED in fields else F.lit(False)).alias("malformed"),
        user.alias("source_id"),
        shown.alias("user_id"),
        F.make_valid_utf8(id_text(F.col("item"), types["item"], str(feedback.columns.item))).alias("item_id"),
        _text(rows, "event_id").alias("given_id"),
        F.make_valid_utf8(F.btrim(F.col("kind").cast("string"), F.lit(_BLANKS))).alias("kind"),
        _text(rows, "value").alias("given_value"),
        _number(rows, "value").alias("value"),
        time_column(F.col("timestamp"), types["timestamp"], form, settings.timestamp_unit).alias("ts"),
        _text(rows, "edition").alias("edition"),
        _text(rows, "rank").alias("given_rank"),
        _number(rows, "rank").alias("place"),
        (inexact(F.col("user"), types["user"]) | inexact(F.col("item"), types["item"])).alias("inexact"),
    )
    whole = F.col("place").between(1, 2**31 - 1) & (F.col("place") == F.floor("place"))
    judged = parsed.withColumn("rule", _rule(feedback, ingest, whole, now)).withColumn(
        "rank", F.when(whole, F.col("place")).cast("int")
    )
    event_id = F.when(F.col("rule").isNull(), F.coalesce("given_id", _hash_of_values()))
    text = row_as_json(judged.schema["raw"].dataType)
    return judged.select(
        event_id.alias("event_id"),
        *("user_id", "item_id", "kind", "value", "ts", "edition", "rank", "rule", "source"),
        F.substring(F.make_valid_utf8(text), 1, _LONGEST_ROW).alias("row"),
        F.sha2(row_as_json(judged.schema["raw"].dataType, missing=False), 256).alias("row_key"),
    )


def _time_form(rows: DataFrame, settings: Ingest) -> TimeForm:
    """Return how times are written; where one message does not tell, those that are ISO or numbers count."""
    try:
        return time_form(rows, settings)
    except InputError:
        if not isinstance(rows.schema["timestamp"].dataType, StringType | NumericType):
            raise
        return TimeForm()


def _rule(feedback: Feedback, ingest: Ingest, whole: Column, now: datetime) -> Column:
    user, item, value, ts = (F.col(name) for name in ("source_id", "item_id", "value", "ts"))
    texts = [F.col(name) for name in ("source_id", "item_id", "given_id", "edition")]
    garbled, huge = F.lit(False), F.lit(False)
    for text in texts:
        garbled = garbled | F.coalesce(text.contains("\ufffd"), F.lit(False))
        huge = huge | F.coalesce(F.length(text) > _LONGEST_ID, F.lit(False))
    rated = F.col("kind") == RATING
    return (
        F.when(F.col("malformed"), "malformed_row")
        .when(user.isNull() | (user == NULL), "missing_user")
        .when(item.isNull() | (item == NULL), "missing_item")
        .when(garbled, "bad_encoding")
        .when(F.col("inexact"), "inexact_id")
        .when(huge, "oversized_id")
        .when(F.col("kind").isNull() | ~F.col("kind").isin(list(feedback.kinds)), "unknown_kind")
        .when((F.col("given_value").isNotNull() | rated) & value.isNull(), "bad_value")
        .when(F.isnan(value) | value.isin(float("inf"), float("-inf")), "non_finite_value")
        .when(rated & ~value.between(ingest.rating_min, ingest.rating_max), "value_out_of_range")
        .when(F.col("given_rank").isNotNull() & ~F.coalesce(whole, F.lit(False)), "bad_rank")
        .when(ts.isNull() | (ts < F.lit(_FIRST_MOMENT)), "bad_time")
        .when(ts > F.lit(now + CLOCK_SKEW), "future_time")
    )


def _hash_of_values() -> Column:
    """Return sha256 of what the client said; a value that is missing differs from every one that is there."""
    said = ("user_id", "item_id", "kind", "value", F.unix_micros("ts"), "edition", "rank")
    texts = [F.coalesce((F.col(one) if isinstance(one, str) else one).cast("string"), F.lit(NULL)) for one in said]
    return F.sha2(F.concat_ws(_SEPARATOR, *texts), 256)


def _text(rows: DataFrame, role: str) -> Column:
    """Return a value that may be missing as trimmed text, NULL where it is blank; whole numbers as such."""
    kind = _kind_of(rows, role)
    if kind is None:
        return F.lit(None).cast("string")
    if not isinstance(kind, StringType | NumericType):
        return F.make_valid_utf8(F.col(role).cast("string"))
    return F.nullif(F.make_valid_utf8(id_text(F.col(role), kind, role)), F.lit(NULL))


def _number(rows: DataFrame, role: str) -> Column:
    kind = _kind_of(rows, role)
    if isinstance(kind, NumericType):
        return F.col(role).cast("double")
    text = F.btrim(F.col(role), F.lit(_BLANKS)) if isinstance(kind, StringType) else F.lit(None).cast("string")
    return number(text)


def _kind_of(rows: DataFrame, role: str) -> DataType | None:
    return rows.schema[role].dataType if role in rows.columns else None
