"""How the source writes its times: recognised once for a column, then parsed row by row."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import ConfigError, InputError
from ganrec_spark.lake.iceberg import reason

# Numbers at least this large are milliseconds, microseconds, nanoseconds: as seconds they would lie after year 5000.
_MILLIS, _MICROS, _NANOS = 1e11, 1e14, 1e17
_LAST_SECOND = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last that Spark can show
_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_ISO = r"^\d{4}-\d{1,2}-\d{1,2}"
_DAY = r"^\d{4}-\d{1,2}-\d{1,2}$"
_CLOCK = r"( \d{1,2}:\d{2}(:\d{2})?)?$"
_FIRST_YEAR = "1980"
_BLANKS = " \t\r\n"
_SAMPLE = 1000
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class TimeForm:
    """How times are written: a pattern of Spark, or None for numbers, ISO 8601 and types of their own.

    `days`: every time is a day, so that equal events of one day are as many, no copies.
    """

    pattern: str | None = None
    days: bool = False


# What a text looks like, and Spark's pattern for it.
_FORMS: tuple[tuple[str, str], ...] = (
    (r"^\d{4}/\d{1,2}/\d{1,2}" + _CLOCK, "yyyy/M/d[ H:mm[:ss]]"),
    (r"^\d{1,2} \d{1,2}, \d{4}$", "M d, yyyy"),
    (r"^[A-Za-z]{3} \d{1,2}, \d{4}" + _CLOCK, "MMM d, yyyy[ H:mm[:ss]]"),
    (r"^\d{1,2} [A-Za-z]{3} \d{4}" + _CLOCK, "d MMM yyyy[ H:mm[:ss]]"),
    (r"^([A-Za-z]{3} )?[A-Za-z]{3} \d{1,2} \d{1,2}:\d{2}:\d{2} [+-]\d{4} \d{4}$", "MMM d H:mm:ss Z yyyy"),
    (r"^\d{1,2}\.\d{1,2}\.\d{4}" + _CLOCK, "d.M.yyyy[ H:mm[:ss]]"),
)
_DIGITS = ((r"\d{14}", "%Y%m%d%H%M%S", "yyyyMMddHHmmss"), (r"\d{12}", "%Y%m%d%H%M", "yyyyMMddHHmm"))
_SLASHED = r"^(\d{1,2})/(\d{1,2})/\d{4}" + _CLOCK


def time_form(rows: DataFrame, ingest: Ingest) -> TimeForm:
    """Return how column `timestamp` is written, by its first values. Raises InputError where that cannot be told.

    What is set in ingest.timestamp_format or timestamp_unit counts as it is.
    """
    kind = rows.schema["timestamp"].dataType
    if isinstance(kind, DateType):
        return TimeForm(days=True)
    if not isinstance(kind, StringType | NumericType | TimestampType | TimestampNTZType):
        raise InputError(
            f"column '{ingest.columns.timestamp}': expected times as text, numbers or a type of time, found "
            f"{kind.simpleString()}; convert it, or set ingest.columns.timestamp to null"
        )
    if ingest.timestamp_format:
        _require_pattern(rows.sparkSession, ingest.timestamp_format)
        return TimeForm(ingest.timestamp_format, days=not re.search("[HhkKms]", ingest.timestamp_format))
    form = TimeForm()
    if isinstance(kind, StringType | NumericType) and ingest.timestamp_unit not in ("s", "ms"):
        texts = F.btrim(F.col("timestamp").cast("string"), F.lit(_BLANKS))
        found = rows.select(texts.alias("text")).where("text <> ''").limit(_SAMPLE).collect()
        form = recognised([str(row.text) for row in found], str(ingest.columns.timestamp), ingest.timestamp_unit)
    return form if form.days else replace(form, days=_all_midnight(rows, kind, form, ingest.timestamp_unit))


def _all_midnight(rows: DataFrame, kind: DataType, form: TimeForm, unit: str) -> bool:
    """Whether the first times all are midnights: days that are written with a clock, as pandas does."""
    sample = rows.where(F.col("timestamp").isNotNull()).limit(_SAMPLE)
    ts = time_column(F.col("timestamp"), kind, form, unit)
    row = sample.select(ts.alias("ts")).agg(
        F.count("ts").alias("n"), F.count_if(F.expr("ts <> date_trunc('day', ts)")).alias("other")
    )
    n, other = row.collect()[0]
    return bool(n > 1 and other == 0)


def doubt(rows: DataFrame, ingest: Ingest, form: TimeForm) -> str:
    """Return a warning where all of the first times lie before anybody rated anything, else nothing."""
    kind = rows.schema["timestamp"].dataType
    ts = time_column(F.col("timestamp"), kind, form, ingest.timestamp_unit)
    last, limit = F.max("ts"), F.lit(f"{_FIRST_YEAR}-01-01").cast("timestamp")
    first = rows.limit(_SAMPLE).select(ts.alias("ts"))
    newest, early = first.agg(last.cast("string"), last < limit).collect()[0]
    if not early:
        return ""
    return (
        f"column '{ingest.columns.timestamp}': the first times all lie before {_FIRST_YEAR}, until {newest}; "
        "where that is wrong, see ingest.timestamp_format and timestamp_unit, or set ingest.columns.timestamp to null"
    )


def _require_pattern(spark: SparkSession, pattern: str) -> None:
    """Raise ConfigError where Spark cannot read a pattern of times."""
    try:
        spark.range(1).select(F.try_to_timestamp(F.lit("2000"), F.lit(pattern))).collect()
    except (PySparkException, Py4JError) as error:
        raise ConfigError(
            f"ingest.timestamp_format: expected a pattern of Spark's such as yyyy-MM-dd HH:mm:ss, found '{pattern}': "
            f"{reason(error)}"
        ) from None


def recognised(texts: Sequence[str], column: str, unit: str = "auto") -> TimeForm:
    """Return the form that nearly all texts have. Raises InputError where a day cannot be told from a month."""

    def nearly_all(fits: Callable[[str], object]) -> bool:
        return bool(texts) and sum(bool(fits(text)) for text in texts) >= _NEARLY_ALL * len(texts)

    if unit == "auto" and nearly_all(lambda text: _is_day(text, r"\d{8}(\.0)?", "%Y%m%d")):
        return TimeForm("yyyyMMdd", days=True)
    for digits, form, pattern in _DIGITS:
        if unit == "auto" and nearly_all(lambda text, digits=digits, form=form: _is_day(text, digits, form)):  # type: ignore[misc]
            return TimeForm(pattern)
    day_first, month_first = (
        unit == "auto" and nearly_all(lambda text, form=form: _is_day(text, r"\d{8}", form))  # type: ignore[misc]
        for form in ("%d%m%Y", "%m%d%Y")
    )
    if day_first or month_first:
        if day_first and month_first:
            raise InputError(
                f"column '{column}': expected times, found days of eight digits in which month and day cannot be told "
                "apart; set ingest.timestamp_format to ddMMyyyy or MMddyyyy"
            )
        return TimeForm("ddMMyyyy" if day_first else "MMddyyyy", days=True)
    if nearly_all(lambda text: re.match(_ISO, text)):
        return TimeForm(days=nearly_all(lambda text: re.match(_DAY, text)))
    for look, pattern in _FORMS:
        if nearly_all(lambda text, look=look: re.match(look, text)):  # type: ignore[misc]
            return TimeForm(pattern, days=nearly_all(lambda text: ":" not in text))
    if nearly_all(lambda text: re.match(_SLASHED, text)):
        days = nearly_all(lambda text: ":" not in text)
        pairs = [(int(match[1]), int(match[2])) for match in (re.match(_SLASHED, text) for text in texts) if match]
        first, second = (max(pair[place] for pair in pairs) for place in (0, 1))
        if (first > 12) == (second > 12):
            raise InputError(
                f"column '{column}': expected times, found days like '{texts[0]}' in which month and day cannot "
                "be told "
                "apart; set ingest.timestamp_format to M/d/yyyy or d/M/yyyy, with [ H:mm[:ss]] where they have a clock"
            )
        return TimeForm(("d/M/yyyy" if first > 12 else "M/d/yyyy") + "[ H:mm[:ss]]", days=days)
    return TimeForm()


def time_column(column: Column, kind: DataType, form: TimeForm, unit: str) -> Column:
    """Return the times in UTC, NULL where one is not of the form."""
    if isinstance(kind, TimestampType | TimestampNTZType | DateType):
        return column.cast("timestamp")
    text = F.btrim(column.cast("string"), F.lit(_BLANKS))
    if form.pattern:
        plain = F.regexp_replace(F.regexp_replace(text, r"\.0$", ""), r"^[A-Za-z]{3} (?=[A-Za-z]{3} )", "")
        return F.try_to_timestamp(plain, F.lit(form.pattern))
    if not isinstance(kind, StringType):
        return _from_number(column.cast("double"), unit)
    number = F.when(text.rlike(_NUMBER), text.try_cast("double"))
    # Without the pattern Spark would read '12:30' as today.
    iso = F.when(text.rlike(_ISO), text.try_cast("timestamp"))
    if unit == "iso":
        return iso
    return F.coalesce(_from_number(number, unit), iso) if unit == "auto" else _from_number(number, unit)


def _is_day(text: str, pattern: str, form: str) -> bool:
    if not re.fullmatch(pattern, text):
        return False
    try:
        return 1900 <= datetime.strptime(text.removesuffix(".0"), form).year <= 2100
    except ValueError:
        return False


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
