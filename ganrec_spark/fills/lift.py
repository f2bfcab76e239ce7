"""Rank the catalogue by several systems for the same users and sum what a paired bootstrap needs, in Spark."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.fills.rules import Segment
from ganrec_spark.frames.best_products import best_products
from ganrec_spark.frames.histories import lists, spread
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.recommenders.als.fold_in import FixedSide, fold_in

# Each system's name and its lists of a block of rows, one array of item_idx per user, best first.
Systems = Callable[[pa.RecordBatch], Iterator[tuple[str, list[NDArray[np.int32]]]]]

_BLOCK = 256
_SUMS = "system string, segment string, n bigint, sums array<double>, listed array<int>"
_ARROW = pa.schema(
    [
        ("system", pa.string()),
        ("segment", pa.string()),
        ("n", pa.int64()),
        ("sums", pa.list_(pa.float64())),
        ("listed", pa.list_(pa.int32())),
    ]
)


def system_sums(rows: DataFrame, systems: Systems, k: int, samples: int, seed: int) -> DataFrame:
    """Return, per system and segment: n users, bootstrap sums of their NDCG@k, items listed.

    In: one row per validation user: user_idx, relevant, segments (evaluation.segments.with_segments), and what
    `systems` reads. Out: one row per partition, system and segment: sums
    [1 + samples] of evaluation.bootstrap.poisson_weights times NDCG@k, and the distinct items in the lists.
    """

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts: Counter[str] = Counter()
        sums: dict[tuple[str, str], NDArray[np.float64]] = {}
        listed: dict[tuple[str, str], set[int]] = {}
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                block = batch.slice(start, _BLOCK)
                segments, relevant = _segments(block), lists(block, "relevant")
                n_relevant = np.array([len(row) for row in relevant])
                weights = poisson_weights(block.column("user_idx").to_numpy(), samples, seed)
                for segment, members in segments.items():
                    counts[segment] += int(members.sum())
                for system, top in systems(block):
                    values = ndcg(hit_matrix(top, relevant, k), n_relevant, k)
                    for segment, members in segments.items():
                        key = (system, segment)
                        sums[key] = sums.get(key, np.zeros(1 + samples)) + values[members] @ weights[members]
                        items = listed.setdefault(key, set())
                        items.update(*(top[row][:k].tolist() for row in np.flatnonzero(members)))
        columns = [
            [system for system, _ in sums],
            [segment for _, segment in sums],
            [counts[segment] for _, segment in sums],
            list(sums.values()),
            [sorted(listed[key]) for key in sums],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _ARROW, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=_ARROW)

    return spread(rows).mapInArrow(judge, _SUMS)


def _segments(block: pa.RecordBatch) -> dict[str, NDArray[np.bool_]]:
    """Return the mask [B] of each segment that has users in the block."""
    own = block.column("segments").to_pylist()
    return {name: np.array([name in names for names in own]) for name in sorted(set(chain.from_iterable(own)))}


def fold_in_systems(
    fills: Sequence[str], facts: Shipped, regularisation: float, alpha: float, implicit: bool, k: int
) -> Systems:
    """Return the systems `none` and each of `fills`: users folded into ALS with the item vectors fixed.

    Block columns: items (never listed), history and ratings (what is folded in), fill_code (position in `fills`),
    fill_items, fill_ratings: the user's generated rows of every fill. `facts`: `vectors` [I, D] and `known` [I] of
    AlsFactors.item_slots, and their FixedSide's arrays: `rotated` [I, D], `eigenvalues` [D], `rotation` [D, D].
    """

    def systems(block: pa.RecordBatch) -> Iterator[tuple[str, list[NDArray[np.int32]]]]:
        vectors, known = facts["vectors"], facts["known"]
        side = FixedSide(facts["rotated"], facts["eigenvalues"], facts["rotation"])
        history = list(zip(lists(block, "history"), lists(block, "ratings"), strict=True))
        filled = list(
            zip(lists(block, "fill_code"), lists(block, "fill_items"), lists(block, "fill_ratings"), strict=True)
        )
        for code, name in enumerate(("none", *fills), -1):
            items, ratings = [], []
            for (own_items, own_ratings), (codes, new_items, new_ratings) in zip(history, filled, strict=True):
                added = codes == code
                items.append(np.concatenate([own_items, new_items[added]]))
                ratings.append(np.concatenate([own_ratings, new_ratings[added]]))
            users = fold_in(side, items, ratings, regularisation, alpha, implicit)
            yield name, _best(users, vectors, known, block, k)

    return systems


def fitted_systems(names: Sequence[str], facts: Shipped, k: int) -> Systems:
    """Return one system per fitted ALS; block columns: its user vectors, named as the system (NULL: no list).

    The first one is fitted without fill; the others serve sparse users, dense ones have its lists in them, too.
    `facts`: `vectors_0` [I, D] and `known_0` [I] of the first, and so on.
    """

    def systems(block: pa.RecordBatch) -> Iterator[tuple[str, list[NDArray[np.int32]]]]:
        sparse, plain = block.column("is_sparse").to_pylist(), list[NDArray[np.int32]]()
        for position, name in enumerate(names):
            vectors, known = facts[f"vectors_{position}"], facts[f"known_{position}"]
            users = np.zeros((block.num_rows, vectors.shape[1]), dtype=np.float32)
            rows = lists(block, name)
            has_vector = np.array([len(row) > 0 for row in rows], dtype=np.bool_)
            if has_vector.any():
                users[has_vector] = np.stack([row for row in rows if len(row)])
            found = _best(users, vectors, known, block, k)
            top = [items if own else items[:0] for items, own in zip(found, has_vector, strict=True)]
            plain = plain or top
            yield name, [own if filled else without for own, without, filled in zip(top, plain, sparse, strict=True)]

    return systems


def _best(
    users: NDArray[np.float32], vectors: NDArray[np.float32], known: NDArray[np.bool_], block: pa.RecordBatch, k: int
) -> list[NDArray[np.int32]]:
    """Return the k best items of each row that are not in its column `items`."""
    return best_products(users, vectors, known, lists(block, "items"), k)[0]


@dataclass(frozen=True)
class Totals:
    """What all users of a segment say of a system: their number, bootstrap sums [1 + S], distinct items listed."""

    n: int
    sums: NDArray[np.float64]
    n_listed: int


def added_up(sums: DataFrame) -> dict[tuple[str, str], Totals]:
    """Return the totals by (system, segment) of `system_sums`. Driver memory: systems x samples numbers."""
    keys = ("system", "segment")
    sums = sums.cache()  # read twice, and the ranking behind them is the cost
    places = sums.select(*keys, "n", F.posexplode("sums").alias("place", "value"))
    table = places.groupBy(*keys, "place").agg(F.sum("n").alias("n"), F.sum("value").alias("value"))
    distinct = sums.select(*keys, F.explode("listed").alias("item_idx")).distinct().groupBy(*keys).count()
    n_listed = {(row.system, row.segment): int(row["count"]) for row in distinct.collect()}
    totals = {
        key: Totals(int(group["n"].iloc[0]), group["value"].to_numpy(), n_listed.get(key, 0))
        for key, group in table.orderBy(*keys, "place").toPandas().groupby(list(keys))
    }
    sums.unpersist()
    return totals


def segment_lifts(
    totals: dict[tuple[str, str], Totals], before: str, after: str, confidence: float
) -> dict[str, Segment]:
    """Return by segment, in order of name, the lift of one system over another."""
    return {
        segment: Segment(of.n, relative_lift(of.sums, totals[after, segment].sums, confidence))
        for (system, segment), of in sorted(totals.items(), key=lambda one: one[0])
        if system == before
    }
