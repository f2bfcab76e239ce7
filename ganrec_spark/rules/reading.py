"""The rules' sources as rows of list_rules: ids read as the ratings' are, what has expired left out."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, TimestampNTZType, TimestampType

from ganrec_spark.errors import InputError
from ganrec_spark.raw.rules import id_text
from ganrec_spark.raw.sources import explained, read_columns
from ganrec_spark.rules.keeping import AVAILABLE, BLOCKED, BOOSTED, CATEGORY, EXCLUDED, SHOWN
from ganrec_spark.rules.shown import tired_pairs
from ganrec_spark.run.context import Context

_COLUMNS = {
    "rule": "string",
    "user_idx": "int",
    "item_idx": "int",
    "category": "string",
    "factor": "double",
    "until": "timestamp",
}
_ONE_FACTOR = "one factor above 0 for each item"


def rule_rows(context: Context) -> DataFrame:
    """Return the rules of the run as they hold at its moment, in the form of table list_rules.

    Ids that the lake does not know are left out, and counted in the log. Raises InputError naming key and source.
    """
    settings = context.config.rules
    parts: list[DataFrame] = []
    for rule, key in ((AVAILABLE, "available_items"), (BLOCKED, "blocked_items")):
        if source := getattr(settings, key):
            parts.append(_as_rows(rule, _items(context, source, key)))
    if settings.excluded_pairs:
        named = known_rows(context, settings.excluded_pairs, "excluded_pairs", ("user_id", "item_id"), ("until",))
        parts.append(_as_rows(EXCLUDED, _holding(context, named, ("user_idx", "item_idx"), "excluded_pairs")))
    if settings.boosted_items:
        parts.append(_as_rows(BOOSTED, _factors(context, settings.boosted_items)))
    if settings.item_categories:
        named = known_rows(context, settings.item_categories, "item_categories", ("item_id", "category"))
        text = named.select("item_idx", F.btrim(F.col("category").cast("string")).alias("category"))
        parts.append(_as_rows(CATEGORY, text.where("category <> ''").distinct()))
    if settings.shown_times:
        parts.append(_as_rows(SHOWN, tired_pairs(context, settings.shown_times)))
    return reduce(DataFrame.unionByName, parts) if parts else context.lake.frame("list_rules", [])


def known_rows(
    context: Context, source: str, key: str, names: Sequence[str], optional: Sequence[str] = ()
) -> DataFrame:
    """Return the rows of a source whose ids are known, with item_idx (and user_idx) for the ids.

    Raises InputError where there are rows and of none the ids are known.
    """
    try:
        read = read_columns(context.spark, source, names, f"check rules.{key}", optional)
    except InputError as error:
        raise InputError(f"rules.{key}: {error}") from error
    ids = [name for name in names if name.endswith("_id")]
    texts = {name: id_text(F.col(name), read.schema[name].dataType, name) for name in ids}
    given = read.withColumns(texts).dropna(subset=ids)
    known = given
    for name in ids:
        known = known.join(context.lake.read(name.replace("_id", "s")).drop("first_run_id"), name)
    with explained(source, f"check rules.{key}"):
        n_named, n_known = (rows.select(*ids).distinct().count() for rows in (given, known))
    if not n_known and (n_named or key == "available_items"):
        items = given.select("item_id").distinct().orderBy("item_id").limit(3).collect()
        found = ", ".join(repr(row.item_id) for row in items) or "none"
        raise InputError(
            f"rules.{key} '{source}': expected ids of {' and '.join(name.replace('_id', 's') for name in ids)} as the "
            f"ratings have them, found {n_named} ids and none of them among the items: {found}; compare them with "
            f"table{'s users and' if len(ids) > 1 else ''} items"
        )
    say = context.log if n_known == n_named else context.warn
    what = "ids are items" if len(ids) == 1 else "pairs are users and items"
    say(f"rules.{key}: {n_known} of {n_named} {what} of this lake")
    return known.drop(*ids)


def _items(context: Context, source: str, key: str) -> DataFrame:
    return _holding(context, known_rows(context, source, key, ("item_id",), ("until",)), ("item_idx",), key)


def _holding(context: Context, rows: DataFrame, keys: Sequence[str], key: str) -> DataFrame:
    """Return the keys of the rows that hold at the run's moment, each once, with the last moment until which it does.

    NULL, or no column `until`: for ever. Raises InputError where `until` is no time.
    """
    if "until" not in rows.columns:
        return rows.select(*keys, F.lit(None).cast("timestamp").alias("until")).distinct()
    until = _moment(F.col("until"), rows.schema["until"].dataType)
    timed = rows.withColumn("written", F.nullif(F.btrim(F.col("until").cast("string")), F.lit("")))
    timed = timed.withColumn("until", until)
    odd = timed.where("written IS NOT NULL AND until IS NULL").select("written").limit(1).collect()
    if odd:
        raise InputError(
            f"rules.{key}: expected in column until a time such as 2026-12-24 or 2026-12-24T18:00:00Z (UTC), or "
            f"nothing, found {odd[0].written!r}; mend it"
        )
    holds = timed.where(F.col("until").isNull() | (F.col("until") > F.lit(context.as_of)))
    last = F.when(F.count_if(F.col("until").isNull()) == 0, F.max("until"))
    return holds.groupBy(*keys).agg(last.alias("until"))


def _moment(column: Column, kind: DataType) -> Column:
    if isinstance(kind, DateType | TimestampType | TimestampNTZType):
        return column.cast("timestamp")
    return F.btrim(column.cast("string")).try_cast("timestamp")


def _factors(context: Context, source: str) -> DataFrame:
    """Return (item_idx, factor). Raises InputError where a factor is no number above 0, or an item has several."""
    named = known_rows(context, source, "boosted_items", ("item_id", "factor"))
    read = named.select("item_idx", F.btrim(F.col("factor").cast("string")).try_cast("double").alias("factor"))
    usable = F.col("factor").isNotNull() & (F.col("factor") > 0) & (F.col("factor") < float("inf"))
    per_item = read.groupBy("item_idx").agg(
        F.max("factor").alias("factor"),
        (F.count_if(~usable) + F.count_distinct("factor") - 1).alias("odd"),
    )
    if n_odd := per_item.where("odd <> 0").count():
        raise InputError(
            f"rules.boosted_items '{source}': expected {_ONE_FACTOR}, found {n_odd} items with another; mend them"
        )
    return per_item.drop("odd")


def _as_rows(rule: str, rows: DataFrame) -> DataFrame:
    have = {"rule": F.lit(rule), **{name: F.col(name) for name in rows.columns}}
    return rows.select(
        *[have.get(name, F.lit(None)).cast(kind).alias(name) for name, kind in _COLUMNS.items()],
    )
