"""What groups of items have of the published lists, beside what they have of the catalogue and of ratings."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

RATED, OTHERS, WITHOUT = "rated", "(others)", "(none)"
_MOST = 20  # values of a column, those that most items have; the rest are (others)
_MOST_OTHERS = 0.5  # share of the items that have a value; beyond it a column names items rather than groups of them
_KINDS = ("category", "values")
_GROUP = ["column", "part"]


def item_groups(lists: DataFrame, ratings: DataFrame, attributes: DataFrame, columns: DataFrame) -> DataFrame:
    """Return table item_groups: a row for each group of items, by whether they are rated and by each column.

    In: one row per listed item (user_idx, item_idx), one per rating (user_idx, item_idx), item_attributes and
    attribute_columns. The catalogue are the items that are rated or of which anything is known.
    """
    rated = ratings.groupBy("item_idx").agg(F.count("*").alias("ratings"))
    items = rated.join(attributes.select("item_idx").distinct(), "item_idx", "full").join(
        lists.groupBy("item_idx").agg(F.count("*").alias("places")), "item_idx", "left"
    )
    is_rated = F.when(F.col("ratings") > 0, "yes").otherwise("no")
    by_rated = items.select("item_idx", F.lit(RATED).alias("column"), is_rated.alias("part"), F.lit(1.0).alias("share"))
    groups = by_rated.unionByName(_by_columns(items.select("item_idx"), attributes, columns))
    counted = items.join(groups, "item_idx").groupBy(_GROUP)
    found = counted.agg(
        F.count("*").alias("n_items"),
        F.count("places").alias("n_listed"),
        F.sum("share").alias("of_items"),
        F.coalesce(F.sum(F.col("share") * F.col("ratings")), F.lit(0.0)).alias("of_ratings"),
        F.coalesce(F.sum(F.col("share") * F.col("places")), F.lit(0.0)).alias("of_places"),
    )
    reached = lists.join(groups, "item_idx").groupBy(_GROUP).agg(F.count_distinct("user_idx").alias("n_users"))
    return found.join(reached, _GROUP, "left").select(
        *_GROUP,
        "n_items",
        "n_listed",
        F.coalesce("n_users", F.lit(0)).alias("n_users"),
        _part("of_items").alias("catalogue_share"),
        _part("of_ratings").alias("rating_share"),
        _part("of_places").alias("list_share"),
    )


def _by_columns(items: DataFrame, attributes: DataFrame, columns: DataFrame) -> DataFrame:
    """Return (item_idx, column, part, share): an item with several values of a column has an equal share in each."""
    grouping = columns.where((F.col("role") == "item") & F.col("kind").isin(*_KINDS))
    wanted = grouping.select(F.col("name").alias("column"))
    named = attributes.select("item_idx", F.col("name").alias("column"), F.col("value").alias("part"))
    named = named.where(F.col("part").isNotNull()).join(F.broadcast(wanted), "column", "left_semi").distinct()
    counts = named.groupBy(_GROUP).agg(F.count("*").alias("n"))
    place = F.row_number().over(Window.partitionBy("column").orderBy(F.desc("n"), "part"))
    first = counts.withColumn("place", place).where(F.col("place") <= _MOST).select(*_GROUP, F.lit(True).alias("first"))
    parts = named.join(F.broadcast(first), _GROUP, "left").withColumn(
        "part", F.when(F.col("first"), F.col("part")).otherwise(OTHERS)
    )
    every = items.crossJoin(F.broadcast(named.select("column").distinct()))
    found = every.join(parts.select("item_idx", *_GROUP).distinct(), ["item_idx", "column"], "left")
    share = F.lit(1.0) / F.count("*").over(Window.partitionBy("item_idx", "column"))
    found = found.select("item_idx", "column", F.coalesce("part", F.lit(WITHOUT)).alias("part"), share.alias("share"))
    valued = found.where(F.col("part") != WITHOUT)
    others = F.sum(F.when(F.col("part") == OTHERS, F.col("share")).otherwise(0.0)) / F.sum("share")
    groups = valued.groupBy("column").agg(others.alias("others")).where(F.col("others") <= _MOST_OTHERS)
    return found.join(F.broadcast(groups.select("column")), "column", "left_semi").select("item_idx", *_GROUP, "share")


def _part(of: str) -> Column:
    total = F.sum(of).over(Window.partitionBy("column"))
    return F.when(total > 0, F.col(of) / total).otherwise(0.0)
