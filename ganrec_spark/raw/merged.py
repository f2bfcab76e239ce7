"""Valid rows become ratings: events are added up, dislikes told apart, the source's order kept."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Ingest


def known_pseudonyms(checked: DataFrame) -> DataFrame:
    """Return (user_id, source_id) of the valid rows' users; none without ingest.pseudonym_salt."""
    if "source_id" not in checked.columns:
        return checked.select("user_id", F.col("user_id").alias("source_id")).limit(0)
    return checked.where(F.col("rule").isNull()).select("user_id", "source_id").distinct()


def merge_events(checked: DataFrame, ingest: Ingest) -> DataFrame:
    """Return the valid ratings (origin, user_id, item_id, rating, ts), one row per user and item.

    Implicit feedback: rating is the sum of the event weights, ts the latest event. Explicit ratings are distinct
    already.
    """
    valid = checked.where(F.col("rule").isNull())
    keys, when = ["origin", "user_id", "item_id"], ["ts", "position"] if "position" in checked.columns else ["ts"]
    if ingest.feedback == "implicit":
        # Decimals add up to the same sum in any order.
        weight = F.sum(F.col("rating").cast("decimal(28,9)")).cast("double")
        latest = F.max(F.struct(*when)).alias("latest")
        valid = valid.groupBy(*keys).agg(weight.alias("rating"), latest).select(*keys, "rating", "latest.*")
    return in_source_order(valid).select(*keys, "rating", "ts")


def threshold(valid: DataFrame, ingest: Ingest) -> float | None:
    """Return the rating from which on a user likes an item: ingest.liked_from; by itself 0 where some are below it."""
    if ingest.feedback == "implicit":
        return None
    if ingest.liked_from != "auto":
        return ingest.liked_from
    low = valid.agg(F.min("rating")).collect()[0][0]
    return 0.0 if low is not None and low < 0 else None


def liked_or_not(liked_from: float | None) -> tuple[Column, Column]:
    """Return the conditions of ratings that count for an item, and of those that count against it."""
    liked = F.lit(True) if liked_from is None else F.col("rating") >= F.lit(liked_from)
    return liked, ~liked


def in_source_order(valid: DataFrame) -> DataFrame:
    """Return the ratings with those of one user and time a microsecond apart, in order of `position` if it is there."""
    if "position" not in valid.columns:
        return valid
    place = F.row_number().over(Window.partitionBy("origin", "user_id", "ts").orderBy("position"))
    return valid.withColumn("ts", F.timestamp_micros(F.unix_micros("ts") + place - 1))
