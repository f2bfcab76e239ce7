"""Rows in the form that training reads: fixed-length lists without NULLs, users shuffled over equal row groups."""

from math import ceil

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config.models import Parquet
from ganrec_spark.frames.dense_index import with_positions
from ganrec_spark.frames.time_order import tie

# A file must stay one Parquet row group, which Iceberg ends at 128 MB.
_MAX_BYTES_PER_GROUP = 64 * 2**20
_BYTES_PER_ENTRY = 12


def age() -> Column:
    """Return of a row of (user_idx, ts) at how many later times the user rated: 0 for the latest, the most without ts.

    Rows of one time are of one age.
    """
    return F.dense_rank().over(Window.partitionBy("user_idx").orderBy(F.col("ts").desc_nulls_last())) - 1


def padded_histories(ratings: DataFrame, length: int, seed: int) -> DataFrame:
    """Return (user_idx, n_ratings, length, items, weights, ages): a user's most recent `length` ratings, oldest first.

    In: one row per user and item (user_idx, item_idx, rating, ts). Out: one row per user. Lists hold exactly
    `length` entries, padded behind with -1 and 0; n_ratings counts the whole history. Equal times go by time_order.tie.
    """
    entry = F.struct("ts", tie(seed).alias("tie"), "item_idx", F.col("rating").cast("float").alias("rating"), "age")
    history = ratings.withColumn("age", age()).groupBy("user_idx").agg(F.sort_array(F.collect_list(entry)).alias("all"))
    recent = history.withColumn("recent", F.slice("all", F.greatest(F.size("all") - length + 1, F.lit(1)), length))
    missing = F.lit(length) - F.size("recent")
    return recent.select(
        "user_idx",
        F.size("all").alias("n_ratings"),
        F.size("recent").alias("length"),
        F.concat("recent.item_idx", F.array_repeat(F.lit(-1), missing)).alias("items"),
        F.concat("recent.rating", F.array_repeat(F.lit(0.0).cast("float"), missing)).alias("weights"),
        F.concat("recent.age", F.array_repeat(F.lit(0), missing)).alias("ages"),
    )


def with_row_groups(
    users: DataFrame, parquet: Parquet, workers: int, length: int, seed: int
) -> tuple[DataFrame, int, int]:
    """Return `users` with column row_group, the number of users, and the number of row groups.

    In and out: one row per user. Groups differ by at most one user. There are at least as many groups as workers
    and parquet.row_groups, unless users are fewer.
    """
    positioned, n_users = with_positions(users, "user_idx", "position", F.xxhash64(F.lit(seed), F.col("user_idx")))
    groups = count_row_groups(n_users, parquet, workers, length)
    row_group = (F.col("position") % max(groups, 1)).alias("row_group")
    return positioned.select(*users.columns, row_group), n_users, groups


def count_row_groups(n_users: int, parquet: Parquet, workers: int, length: int) -> int:
    """Return the number of row groups for `n_users` rows of `length` entries; 0 for no users."""
    rows = max(1, min(parquet.max_rows_per_group, _MAX_BYTES_PER_GROUP // (_BYTES_PER_ENTRY * length)))
    return min(n_users, max(parquet.row_groups, workers, ceil(n_users / rows)))
