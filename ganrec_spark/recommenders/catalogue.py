"""Rank the full catalogue for every user, in Spark, a block of users at a time."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.top_n import mask_seen, top_n

# [B users, I items] of float32 from a block of rows; -inf for items that must not be listed.
Score = Callable[[pa.RecordBatch], NDArray[np.float32]]

BLOCK = 256
_SCHEMA = "user_idx int, items array<int>, scores array<float>"


def rank_catalogue(users: DataFrame, score: Score, n: int, seen: str = "items", run: Mapper = by_tasks) -> DataFrame:
    """Return (user_idx, items, scores): each user's n best items by `score`, those in column `seen` excluded.

    In: one row per user with user_idx, the list column `seen`, and what `score` reads. Out: one row per user;
    a list is shorter than n where fewer items have a finite score.
    """

    def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # Spark runs one Python worker per core
            for batch in batches:
                for start in range(0, batch.num_rows, BLOCK):
                    yield _ranked(batch.slice(start, BLOCK), score, n, seen)

    return run(users, rank, _SCHEMA)


def _ranked(block: pa.RecordBatch, score: Score, n: int, seen: str) -> pa.RecordBatch:
    scores = score(block)
    mask_seen(scores, lists(block, seen))
    items, values = top_n(scores, n)
    columns = [
        block.column("user_idx"),
        pa.array(items, pa.list_(pa.int32())),
        pa.array(values, pa.list_(pa.float32())),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_idx", "items", "scores"])
