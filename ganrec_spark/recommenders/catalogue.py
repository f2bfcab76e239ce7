"""Rank the full catalogue for every user, in Spark, a block of users at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.top_n import Lists, mask_seen, top_n

# [B users, I items] of float32 from a block of rows; -inf for items that must not be listed.
Score = Callable[[pa.RecordBatch], NDArray[np.float32]]
# The n best items of each row of a block but those of the row's own list, where not all scores need be made.
Best = Callable[[pa.RecordBatch, Sequence[NDArray[np.integer[Any]]], int], Lists]

BLOCK = 256  # users at a time
_FIRST = 16  # users of the first block, which says how many items there are
_CELLS = 2**25  # scores at a time, at most: 128 MiB
_SCHEMA = "user_idx int, items array<int>, scores array<float>"


def rank_catalogue(users: DataFrame, score: Score, n: int, seen: str = "items", run: Mapper = by_tasks) -> DataFrame:
    """Return (user_idx, items, scores): each user's n best items by `score`, those in column `seen` excluded.

    In: one row per user with user_idx, the list column `seen`, and what `score` reads. Out: one row per user;
    a list is shorter than n where fewer items have a finite score.
    """
    return rank_by(users, by_score(score), n, seen, run)


def rank_by(users: DataFrame, best: Best, n: int, seen: str = "items", run: Mapper = by_tasks) -> DataFrame:
    """Return what `rank_catalogue` does, by what finds the best items without a score of each."""

    def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # Spark runs one Python worker per core
            for batch in batches:
                for start in range(0, batch.num_rows, BLOCK):
                    yield _ranked(batch.slice(start, BLOCK), best, n, seen)

    return run(users, rank, _SCHEMA)


def by_score(score: Score) -> Best:
    """Return what finds the best items by their scores, of as many users at a time as _CELLS scores allow."""
    return _ByScore(score)


class _ByScore:
    def __init__(self, score: Score) -> None:
        self._score, self._rows = score, _FIRST

    def __call__(self, block: pa.RecordBatch, seen: Sequence[NDArray[np.integer[Any]]], n: int) -> Lists:
        items: list[NDArray[np.int32]] = []
        values: list[NDArray[np.float32]] = []
        while (start := len(items)) < block.num_rows:
            scores = self._score(block.slice(start, self._rows))
            mask_seen(scores, seen[start : start + len(scores)])
            found = top_n(scores, n)
            items += found[0]
            values += found[1]
            self._rows = max(1, _CELLS // max(scores.shape[1], 1))
        return items, values


def _ranked(block: pa.RecordBatch, best: Best, n: int, seen: str) -> pa.RecordBatch:
    items, values = best(block, lists(block, seen), n)
    columns = [
        block.column("user_idx"),
        pa.array(items, pa.list_(pa.int32())),
        pa.array(values, pa.list_(pa.float32())),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_idx", "items", "scores"])
