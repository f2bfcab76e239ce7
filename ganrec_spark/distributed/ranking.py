"""Rank the full catalogue for every user, in Spark, a block of users at a time."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.ranking.top_n import mask_seen, top_n

# [B users, I items] of float32 from a block of rows; -inf for items that must not be listed.
Score = Callable[[pa.RecordBatch], NDArray[np.float32]]

_BLOCK = 256
_SCHEMA = "user_idx int, items array<int>, scores array<float>"


def histories(ratings: DataFrame) -> DataFrame:
    """Return (user_idx, items, ratings): each user's history as parallel lists sorted by item index.

    In: one row per user and item (user_idx, item_idx, rating). Out: one row per user.
    """
    pairs = F.sort_array(F.collect_list(F.struct("item_idx", F.col("rating").cast("float").alias("rating"))))
    grouped = ratings.groupBy("user_idx").agg(pairs.alias("pairs"))
    return grouped.select("user_idx", F.col("pairs.item_idx").alias("items"), F.col("pairs.rating").alias("ratings"))


def rank_catalogue(users: DataFrame, score: Score, n: int, seen: str = "items") -> DataFrame:
    """Return (user_idx, items, scores): each user's n best items by `score`, those in column `seen` excluded.

    In: one row per user with user_idx, the list column `seen`, and what `score` reads. Out: one row per user;
    a list is shorter than n where fewer items have a finite score.
    """

    def rank(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema(
            [("user_idx", pa.int32()), ("items", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))]
        )
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                block = batch.slice(start, _BLOCK)
                scores = score(block)
                mask_seen(scores, lists(block, seen))
                items, values = top_n(scores, n)
                yield pa.RecordBatch.from_arrays(
                    [
                        block.column("user_idx"),
                        pa.array(items, pa.list_(pa.int32())),
                        pa.array(values, pa.list_(pa.float32())),
                    ],
                    schema=schema,
                )

    return users.mapInArrow(rank, _SCHEMA)


def lists(block: pa.RecordBatch, column: str) -> list[NDArray[np.integer]]:
    """Return a list column of a block as one NumPy array per row; NULL gives an empty array."""
    array = block.column(column)
    flat = array.values.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy()
    return [flat[start:stop] for start, stop in zip(offsets[:-1], offsets[1:], strict=True)]
