"""Users' histories as parallel lists, and list columns as arrays."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.frames.padded import age


def histories(ratings: DataFrame) -> DataFrame:
    """Return (user_idx, items, ratings): each user's history as parallel lists sorted by item index.

    In: one row per user and item (user_idx, item_idx, rating). Out: one row per user.
    """
    pairs = F.sort_array(F.collect_list(F.struct("item_idx", F.col("rating").cast("float").alias("rating"))))
    grouped = ratings.groupBy("user_idx").agg(pairs.alias("pairs"))
    return grouped.select("user_idx", F.col("pairs.item_idx").alias("items"), F.col("pairs.rating").alias("ratings"))


def with_ages(users: DataFrame, ratings: DataFrame) -> DataFrame:
    """Return the `histories` of these ratings with ages (padded.age), in the order of their items."""
    dated = ratings.select("user_idx", "item_idx", age().alias("age"))
    pairs = F.sort_array(F.collect_list(F.struct("item_idx", "age")))
    ages = dated.groupBy("user_idx").agg(pairs.alias("pairs")).select("user_idx", F.col("pairs.age").alias("ages"))
    return users.join(ages, "user_idx")


def spread(rows: DataFrame, key: str = "user_idx") -> DataFrame:
    """Return the rows, much work each, in spark.shuffle_partitions parts: few small ones would end in one."""
    return rows.repartition(int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1), key)


def lists(block: pa.RecordBatch, column: str) -> list[NDArray[np.integer[Any]]]:
    """Return a list column of a block as one NumPy array per row; NULL gives an empty array."""
    array = block.column(column)
    flat = array.values.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy()
    return [flat[start:stop] for start, stop in itertools.pairwise(offsets)]
