"""Rank the full catalogue for every user, in Spark, a block of users at a time."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.draws import drawn
from ganrec_spark.padded import age
from ganrec_spark.ranking.metrics import hit_matrix, ndcg
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


def with_ages(users: DataFrame, ratings: DataFrame) -> DataFrame:
    """Return the `histories` of these ratings with ages (padded.age), in the order of their items."""
    dated = ratings.select("user_idx", "item_idx", age().alias("age"))
    pairs = F.sort_array(F.collect_list(F.struct("item_idx", "age")))
    ages = dated.groupBy("user_idx").agg(pairs.alias("pairs")).select("user_idx", F.col("pairs.age").alias("ages"))
    return users.join(ages, "user_idx")


def spread(users: DataFrame) -> DataFrame:
    """Return the users, much work each, in spark.shuffle_partitions parts: few small rows would end in one."""
    return users.repartition(int(users.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1), "user_idx")


def rank_catalogue(users: DataFrame, score: Score, n: int, seen: str = "items") -> DataFrame:
    """Return (user_idx, items, scores): each user's n best items by `score`, those in column `seen` excluded.

    In: one row per user with user_idx, the list column `seen`, and what `score` reads. Out: one row per user;
    a list is shorter than n where fewer items have a finite score.
    """

    def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # Spark runs one Python worker per core
            for batch in batches:
                for start in range(0, batch.num_rows, _BLOCK):
                    yield _ranked(batch.slice(start, _BLOCK), score, n, seen)

    return users.mapInArrow(rank, _SCHEMA)


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


def judged_users(users: DataFrame, held_out: DataFrame, purpose: str, seed: int) -> pa.Table:
    """Return rows of `users` (user_idx, items, ...) with relevant, their held-out items, on the driver.

    Of those that have some the draw for `purpose` (draws.drawn). `held_out`: one row per user and item.
    """
    relevant = held_out.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("relevant"))
    return drawn(users.join(relevant, "user_idx"), purpose, seed).toArrow().combine_chunks()


def judged_ndcg(judged: list[pa.RecordBatch], score: Score, k: int) -> NDArray[np.float64]:
    """Return the NDCG@k of each of `judged_users` [U], their `items` never listed, by the driver's threads."""

    def judge(block: pa.RecordBatch) -> NDArray[np.float64]:
        scores = score(block)
        mask_seen(scores, lists(block, "items"))
        relevant = lists(block, "relevant")
        counts = np.array([len(items) for items in relevant])
        return ndcg(hit_matrix(top_n(scores, k)[0], relevant, k), counts, k)

    blocks = [batch.slice(start, _BLOCK) for batch in judged for start in range(0, batch.num_rows, _BLOCK)]
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        values = list(pool.map(judge, blocks))
    return np.concatenate(values) if values else np.empty(0)


def lists(block: pa.RecordBatch, column: str) -> list[NDArray[np.integer[Any]]]:
    """Return a list column of a block as one NumPy array per row; NULL gives an empty array."""
    array = block.column(column)
    flat = array.values.to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy()
    return [flat[start:stop] for start, stop in itertools.pairwise(offsets)]
