"""Learn in the driver, of users drawn by chance, what people with the same attributes rate; rank by it in Spark."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.attributes.features import Features
from ganrec_spark.evaluation.choice import highest, is_ahead
from ganrec_spark.evaluation.draws import chance, part
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.frames.histories import histories, lists
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.recommenders.catalogue import Score, by_score, rank_catalogue
from ganrec_spark.recommenders.judging import judged_ndcg
from ganrec_spark.recommenders.strangers.ridge import Effects, Sums, effects

_MOST_USERS = 100_000  # whom effects are learned from
_MOST_JUDGES = 5000
_MOST_ITEMS = 5000  # the most liked ones of late: strangers' lists have few others
_FOLDS = 4
_PURPOSE = "strangers"


@dataclass(frozen=True)
class Learned:
    """Sums of each fold's users [F, C]; the items [C] that they are of, and the shares of users who like them lately.

    `slots`: 1 + the largest item index. A user's fold is draws.part, so that nobody judges what was learned of them.
    """

    folds: list[Sums]
    items: NDArray[np.int32]
    recent: NDArray[np.float64]
    slots: int

    def effects(self, shrinkage: float | None, without: int | None = None) -> Effects:
        """Return the effects as all users have them, or all but one fold's; None: no effects, what is liked lately."""
        if shrinkage is None:
            return Effects(self.recent.astype(np.float32), np.zeros_like(self.folds[0].products, np.float32))
        sums = [fold for place, fold in enumerate(self.folds) if place != without]
        return effects(reduce(add, sums), shrinkage, self.recent)


def learned(
    features: Features, observed: DataFrame, item_idx: NDArray[np.int32], counts: NDArray[np.int64], seed: int
) -> Learned:
    """Sum up what users with features rated. In: the rated items, and their counts of all time and of late [2, I].

    Driver memory: the histories and features of at most 100,000 users, and 40 bytes a feature and item of 5,000 items.
    """
    first = np.lexsort((item_idx, -counts[0], -counts[1]))[:_MOST_ITEMS]
    items = np.sort(item_idx[first])
    place = np.full(int(item_idx.max(initial=-1)) + 1, -1)
    place[items] = np.arange(len(items))
    described = features.rows.withColumnRenamed("idx", "user_idx")
    drawn = _drawn(described.join(observed.select("user_idx").distinct(), "user_idx", "left_semi"), _MOST_USERS, seed)
    own = sorted_here(_histories(drawn, observed).join(described, "user_idx"), "user_idx")
    folds = [Sums.of(_matrix(block, len(features.names)), _rows(block, place, len(items))) for block in _by_fold(own)]
    share = sum((fold.items for fold in folds), np.zeros(len(items))) / max(1, sum(fold.n_users for fold in folds))
    late = counts[1][np.searchsorted(item_idx, items)].astype(np.float64)
    return Learned(folds, items, late / max(1.0, late.sum()) * share.sum(), len(place))


def judged(
    features: Features,
    observed: DataFrame,
    held_out: DataFrame,
    model: Learned,
    tried: Sequence[float | None],
    seed: int,
) -> dict[float | None, NDArray[np.float64]]:
    """Return NDCG@10 of each judge with each shrinkage, as if nothing was known of the judge but features.

    Users with features and held-out ratings judge, at most 5,000, drawn by chance, by effects that other users have.
    """
    described = features.rows.withColumnRenamed("idx", "user_idx")
    drawn = _drawn(described.join(held_out.select("user_idx").distinct(), "user_idx", "left_semi"), _MOST_JUDGES, seed)
    rows = _histories(drawn, observed).join(described, "user_idx").join(relevant_items(held_out), "user_idx")
    blocks = _by_fold(sorted_here(rows, "user_idx"))

    def judge(shrinkage: float | None) -> NDArray[np.float64]:
        scores = [_score(model.effects(shrinkage, fold), model.items, model.slots) for fold in range(_FOLDS)]
        found = [judged_ndcg([block], by_score(score), JUDGED_K) for block, score in zip(blocks, scores, strict=True)]
        return np.concatenate(found)

    return {shrinkage: judge(shrinkage) for shrinkage in tried}


def best_of(found: dict[float | None, NDArray[np.float64]]) -> float | None:
    """Return the shrinkage that judges like best; None where nobody judges, or it helps by no more than noise.

    Of shrinkages the best is taken, not the largest within its noise: what judges make of them is one smooth curve.
    """
    if not len(found[None]):
        return None
    best = highest({shrinkage: own for shrinkage, own in found.items() if shrinkage is not None})
    return best if is_ahead(found[best], found[None]) else None


def unrated(features: Features, observed: DataFrame) -> DataFrame:
    """Return (user_idx, places, weights) of every user with features and without an observed rating."""
    described = features.rows.withColumnRenamed("idx", "user_idx")
    return described.join(observed.select("user_idx").distinct(), "user_idx", "left_anti")


def candidates(users: DataFrame, model: Learned, shrinkage: float, n: int) -> DataFrame:
    """Return (user_idx, items, scores): the n best items of each of the `unrated` users."""
    found, slots = model.effects(shrinkage), model.slots
    shipped = ship(users.sparkSession, base=found.base, added=found.added, items=model.items)

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        return _score(Effects(shipped["base"], shipped["added"]), shipped["items"], slots)(block)

    return rank_catalogue(users.withColumn("items", F.array().cast("array<int>")), score, n)


def _drawn(users: DataFrame, n: int, seed: int) -> DataFrame:
    """Return (user_idx, fold) of at most n of the users, drawn by chance."""
    drawn = users.select("user_idx").orderBy(chance(_PURPOSE, seed), "user_idx").limit(n)
    return drawn.withColumn("fold", part(_PURPOSE, seed, _FOLDS))


def _histories(users: DataFrame, observed: DataFrame) -> DataFrame:
    """Return the users with `items`, what they rated; nothing but their ratings is looked at."""
    own = histories(observed.join(F.broadcast(users), "user_idx", "left_semi")).select("user_idx", "items")
    empty = F.array().cast("array<int>")
    return users.join(own, "user_idx", "left").withColumn("items", F.coalesce("items", empty))


def _score(found: Effects, items: NDArray[np.int32], slots: int) -> Score:
    """Return the score of the catalogue for strangers with columns places and weights."""

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        table = np.full((block.num_rows, slots), -np.inf, dtype=np.float32)
        table[:, items] = found.scores(_matrix(block, len(found.added)))
        return table

    return score


def _by_fold(table: pa.Table) -> list[pa.RecordBatch]:
    """Return the rows of each fold, in their order, as one block each."""
    parts = [table.filter(pa.compute.equal(table["fold"], fold)).combine_chunks() for fold in range(_FOLDS)]
    return [part.to_batches()[0] if part.num_rows else pa.RecordBatch.from_pylist([], table.schema) for part in parts]


def _matrix(block: pa.RecordBatch, n_features: int) -> sparse.csr_array:
    """Return the features [B, F] of a block's rows."""
    places, weights = lists(block, "places"), lists(block, "weights")
    return _csr(places, np.concatenate([np.empty(0, np.float32), *weights]), n_features)


def _rows(block: pa.RecordBatch, place: NDArray[np.int64], n_items: int) -> sparse.csr_array:
    """Return [B, C]: 1 where a row's user rated the item. `place` has the column of each item index, -1 for none."""
    kept = [own[own >= 0] for own in (place[items] for items in lists(block, "items"))]
    return _csr(kept, np.ones(sum(map(len, kept)), np.float32), n_items)


def _csr(columns: Sequence[NDArray[np.integer[Any]]], values: NDArray[np.float32], width: int) -> sparse.csr_array:
    starts = np.concatenate([[0], np.cumsum([len(own) for own in columns])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, np.int64), *columns]).astype(np.int64)
    return sparse.csr_array((values, flat, starts), shape=(len(columns), width))
