"""What a phase knows of its users: the observed ratings, and what several subjects read from them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.run.context import Context


def observed_ratings(context: Context, phase: str | None = None) -> DataFrame:
    """Return the ratings that models of a phase (the context's own) learn from: train, in phase final with validation.

    One row per user and item: user_idx, item_idx, rating, ts, and the tie that orders equal times.
    """
    train = context.lake.read("train_ratings")
    if (phase or context.phase) == "choose":
        return train
    return train.unionByName(context.lake.read("validation_ratings"))


def relevant_items(held_out: DataFrame) -> DataFrame:
    """Return (user_idx, relevant): each user's held-out items, ascending. In: one row per user and item."""
    return held_out.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("relevant"))


def users_per_item(ratings: DataFrame) -> DataFrame:
    """Return (item_idx, n): how many users rated an item. In: one row per user and item."""
    return ratings.groupBy("item_idx").agg(F.count("*").alias("n"))
