"""Rank items by their users, all time or lately: one order for everyone, of which each user gets the unseen items."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.frames.sorted_here import sorted_here

_ONE = 2**36  # a rating of this moment: sums of integers do not depend on the order of partitions
_DAY = 86_400.0
_PLACES = 4_000_000
_LISTS = "user_idx int, items array<int>, scores array<float>"


def recent_counts(
    ratings: DataFrame, half_lives: Sequence[float | None]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the rated items, ascending [I], and their counts [settings, I], in units of 2^-36 ratings.

    In: one row per user and item (item_idx, ts). A rating that is one half-life (days) older than the newest one
    counts half; without a half-life (None) every rating counts as one.
    """
    newest = ratings.agg(F.max(F.unix_timestamp("ts")).alias("second")).first()
    second = int(newest.second) if newest is not None and newest.second is not None else 0
    age = (F.lit(second) - F.unix_timestamp("ts")) / F.lit(_DAY)
    sums = [F.sum(_weight(age, half_life)).alias(str(i)) for i, half_life in enumerate(half_lives)]
    table = sorted_here(ratings.groupBy("item_idx").agg(*sums), "item_idx")
    counts = [table.column(str(i)).to_numpy() for i in range(len(half_lives))]
    return table.column("item_idx").to_numpy().astype(np.int32), np.array(counts, dtype=np.int64)


def _weight(age: Column, half_life: float | None) -> Column:
    share = F.lit(1.0) if half_life is None else F.pow(F.lit(0.5), age / F.lit(half_life))
    return F.round(share * F.lit(_ONE)).cast("bigint")


def orders(item_idx: NDArray[np.int32], counts: NDArray[np.int64], all_time: NDArray[np.int64]) -> dict[str, Any]:
    """Return `orders` [settings, I], items best first by each row of `counts`, and their `scores` in ratings.

    Ties go to the item with more ratings of `all_time` [I], then to the smaller index.
    """
    best = np.stack([np.lexsort((item_idx, -all_time, -row)) for row in counts])
    scores = np.take_along_axis(counts, best, axis=1) / _ONE
    return {"orders": item_idx[best], "scores": scores.astype(np.float32)}


def rank_alike(users: DataFrame, shipped: Shipped, setting: int, n: int, run: Mapper = by_tasks) -> DataFrame:
    """Return (user_idx, items, scores): the first n items of one of the `orders` that are not in the user's `items`."""

    def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        order, scores = shipped["orders"][setting], shipped["scores"][setting]
        places_of = places_in(order)
        for batch in batches:
            kept = first_unseen(places_of, lists(batch, "items"), n)
            columns = [
                batch.column("user_idx"),
                pa.array([order[places] for places in kept], pa.list_(pa.int32())),
                pa.array([scores[places] for places in kept], pa.list_(pa.float32())),
            ]
            yield pa.RecordBatch.from_arrays(columns, names=["user_idx", "items", "scores"])

    return run(users, rank, _LISTS)


def ndcg_alike(judges: DataFrame, seen: DataFrame, shipped: Shipped, k: int) -> NDArray[np.float64]:
    """Return NDCG@k of every one of the `orders` with every judge [settings, users]. Driver memory: these numbers.

    In: one row per user: judges (user_idx, relevant), and seen (user_idx, items) of those who have rated something.
    """
    items = F.coalesce("items", F.array().cast("array<int>"))
    users = judges.join(seen, "user_idx", "left").withColumn("items", items)

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        both = [(order, places_in(order)) for order in shipped["orders"]]
        for batch in batches:
            seen, relevant = lists(batch, "items"), lists(batch, "relevant")
            counts = np.array([len(row) for row in relevant])
            values = []
            for order, places_of in both:
                listed = [order[places] for places in first_unseen(places_of, seen, k)]
                values.append(ndcg(hit_matrix(listed, relevant, k), counts, k))
            per_user = pa.array(list(np.transpose(values)), pa.list_(pa.float64()))
            yield pa.RecordBatch.from_arrays([batch.column("user_idx"), per_user], names=["user_idx", "ndcg"])

    found = sorted_here(users.mapInArrow(judge, "user_idx int, ndcg array<double>"), "user_idx")
    values: NDArray[np.float64] = found["ndcg"].combine_chunks().flatten().to_numpy()
    return values.reshape(found.num_rows, len(shipped["orders"])).T


def places_in(order: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the place of each item in an order, by item index; of items that it lacks one beyond all."""
    slots = 1 + int(order.max(initial=-1))
    places = np.full(slots, slots)
    places[order] = np.arange(len(order))
    return places


def first_unseen(
    places_of: NDArray[np.int64], seen: Sequence[NDArray[np.integer[Any]]], n: int
) -> list[NDArray[np.int64]]:
    """Return of each user the places of the first n items of an order that are not in `seen`, fewer where it ends.

    `places_of`: the place of each item in the order, by index. Memory: 4 million places, or those of one user.
    """
    n_items = int(np.count_nonzero(places_of < len(places_of)))
    lengths = np.array([len(items) for items in seen], dtype=np.int64)
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(seen)
    left = np.argsort(-lengths, kind="stable")  # users of like lengths together: as many places are looked at of each
    while len(left):
        width = min(n_items, n + int(lengths[left[0]]))
        users, left = np.split(left, [max(1, min(len(left), _PLACES // max(1, width)))])
        items = np.concatenate([seen[user] for user in users]).astype(np.int64)
        rows = np.repeat(np.arange(len(users)), lengths[users])
        known = items < len(places_of)
        places, rows = places_of[items[known]], rows[known]
        free = np.ones((len(users), width), dtype=np.bool_)
        near = places < width
        free[rows[near], places[near]] = False
        free &= np.cumsum(free, axis=1, dtype=np.int32) <= n
        for user, own in zip(users, free, strict=True):
            found[user] = np.flatnonzero(own)
    return found
