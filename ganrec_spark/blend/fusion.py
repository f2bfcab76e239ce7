"""Blend the recommenders' lists in Spark, a partition of users at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from ganrec_spark.blend import rerank
from ganrec_spark.blend import weights as blend
from ganrec_spark.blend.variety import Variety
from ganrec_spark.fills.lift import Systems
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.frames.sorted_here import sorted_here

_TREES: dict[str, lightgbm.Booster] = {}  # of this Python worker

ALIKE = "alike"  # column of the lists by attributes, of users without ratings
HISTORY = "history"  # column of the items that users have rated, where a variety is set

_LISTS = "fill string, user_idx int, items array<int>, scores array<float>"
_LISTS_ARROW = pa.schema(
    [
        ("fill", pa.string()),
        ("user_idx", pa.int32()),
        ("items", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
    ]
)
_VALUES = "user_idx int, ndcg array<double>"
_VALUES_ARROW = pa.schema([("user_idx", pa.int32()), ("ndcg", pa.list_(pa.float64()))])
_EXAMPLES = "user_idx int, fold int, is_sparse boolean, n_relevant int, features binary, hits binary"
_EXAMPLES_ARROW = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("fold", pa.int32()),
        ("is_sparse", pa.bool_()),
        ("n_relevant", pa.int32()),
        ("features", pa.binary()),
        ("hits", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Fusion:
    """How members' lists become one: weights [M], fusion (of blend.weights.FUSIONS) and constant, and what reorders it.

    Rows that it reads have, for each of `members`, the list columns `member` and `member_scores` (NULL: no list),
    n_ratings (NULL: 0) and fold, the index of the user's model in `models`, LightGBM's texts; without models nothing is
    reordered. `popularity`: the shipped array [I items] of that name. With a `variety`, which reads column history, it
    has the last word on the order. Where a row has a list `alike`, that is the one.
    """

    members: tuple[str, ...]
    weights: NDArray[np.float64]
    fusion: str
    constant: float
    depth: int
    popularity: Shipped
    models: tuple[str, ...] = field(default=(), repr=False)
    variety: Variety | None = None

    def fused(self, batch: pa.RecordBatch) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Return each row's items and scores, best first. Reordered items take over the scores of their places."""
        rows = self._blended(batch)
        if self.variety:
            rows = self.variety.reordered(rows, lists(batch, HISTORY))
        if ALIKE in batch.schema.names:
            for row, items in enumerate(lists(batch, ALIKE)):
                if len(items):
                    rows[row] = items.astype(np.int64), blend.place_values(np.zeros(len(items)), "ranks", self.constant)
        return rows

    def _blended(self, batch: pa.RecordBatch) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        rows = self.unordered(batch)
        if not self.models:
            return rows
        features, folds = self.features(batch, rows), batch.column("fold").to_pylist()
        owners = np.repeat(np.arange(len(rows)), [len(head) for head in features])
        table = np.concatenate(features) if features else np.empty((0, 0), np.float32)
        predicted = np.zeros(len(table))
        for fold, model in enumerate(self.models):
            # One call for many users: LightGBM's calls cost more than its trees.
            own = np.isin(owners, [row for row, of in enumerate(folds) if of == fold])
            if own.any():
                predicted[own] = rerank.predict(_trees(model), table[own])
        starts = np.searchsorted(owners, np.arange(len(rows) + 1))
        return [
            (rerank.reorder(items, predicted[start:stop]), places)
            for (items, places), start, stop in zip(rows, starts, starts[1:], strict=False)
        ]

    def unordered(self, batch: pa.RecordBatch) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Return each row's fused items and scores, before trees reorder them."""
        places = _places(batch, self.members, self.fusion, self.constant)
        return [blend.fuse(ranked, values, self.weights) for ranked, values in places]

    def features(
        self, batch: pa.RecordBatch, rows: list[tuple[NDArray[np.int64], NDArray[np.float64]]]
    ) -> list[NDArray[np.float32]]:
        """Return the features [N, F] of each row's head."""
        lists_of = [lists(batch, member) for member in self.members]
        scores_of = [lists(batch, f"{member}_scores") for member in self.members]
        popularity, n_ratings = self.popularity["popularity"], batch.column("n_ratings").fill_null(0).to_pylist()
        return [
            rerank.features(items[: self.depth], scores[: self.depth], ranked, values, popularity, length)
            for (items, scores), ranked, values, length in zip(
                rows, zip(*lists_of, strict=True), zip(*scores_of, strict=True), n_ratings, strict=True
            )
        ]


def grid_values(
    rows: DataFrame, members: Sequence[str], weights: NDArray[np.float64], fusion: str, constant: float, k: int
) -> NDArray[np.float64]:
    """Return NDCG@k [U, W] of each user, in order of user_idx, with each setting of `weights` [W, M].

    In: one row per validation user: user_idx, the list columns `member` and `member_scores` (NULL: no list), relevant.
    Driver memory: 8 bytes x users x settings.
    """

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            places, relevant = _places(batch, members, fusion, constant), lists(batch, "relevant")
            values = [
                blend.grid_ndcg(ranked, worth, held, weights, k)
                for (ranked, worth), held in zip(places, relevant, strict=True)
            ]
            columns = arrays((batch.column("user_idx"), values), _VALUES_ARROW)
            yield pa.RecordBatch.from_arrays(columns, schema=_VALUES_ARROW)

    table = sorted_here(rows.mapInArrow(judge, _VALUES), "user_idx")
    values: NDArray[np.float64] = table["ndcg"].combine_chunks().flatten().to_numpy()
    return values.reshape(table.num_rows, len(weights))


def fused_systems(fusions: Mapping[str, Fusion], tail: str, n: int) -> Systems:
    """Return the n best items of each fill's blend, as `fuse_lists` has them, as systems to compare."""

    def systems(block: pa.RecordBatch) -> Iterator[tuple[str, list[NDArray[np.int32]]]]:
        for fill, fusion in fusions.items():
            items, _ = filled_up(fusion.fused(block), lists(block, tail), fusion.constant, n)
            yield fill, items

    return systems


def rerank_examples(rows: DataFrame, fusion: Fusion) -> rerank.Examples:
    """Gather what trees learn from: the users with a held-out item in the fusion's head, ordered by user_idx.

    In: rows as `Fusion` reads them, with user_idx, relevant and is_sparse. Driver memory: 4 bytes x depth x
    features for each of these users.
    """

    def gather(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            fused = fusion.unordered(batch)
            relevant = lists(batch, "relevant")
            hits = [np.isin(items[: fusion.depth], held) for (items, _), held in zip(fused, relevant, strict=True)]
            kept = np.flatnonzero([found.any() for found in hits])
            part = batch.take(pa.array(kept, pa.int64()))
            features = fusion.features(part, [fused[row] for row in kept])
            columns = [
                part.column("user_idx"),
                part.column("fold").cast(pa.int32()),
                part.column("is_sparse"),
                pa.array([len(relevant[row]) for row in kept], pa.int32()),
                pa.array([table.tobytes() for table in features], pa.binary()),
                pa.array([hits[row].tobytes() for row in kept], pa.binary()),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=_EXAMPLES_ARROW)

    table = sorted_here(rows.mapInArrow(gather, _EXAMPLES), "user_idx")
    width = len(rerank.feature_names(fusion.members))
    features = np.full((table.num_rows, fusion.depth, width), np.nan, dtype=np.float32)
    hits = np.zeros((table.num_rows, fusion.depth), dtype=np.bool_)
    for row, (values, found) in enumerate(zip(table["features"].to_pylist(), table["hits"].to_pylist(), strict=True)):
        head = np.frombuffer(found, np.bool_)
        features[row, : len(head)] = np.frombuffer(values, np.float32).reshape(len(head), width)
        hits[row, : len(head)] = head
    n_relevant, fold = (table[name].to_numpy().astype(np.int64) for name in ("n_relevant", "fold"))
    return rerank.Examples(features, hits, n_relevant, fold, table["is_sparse"].to_numpy())


def fuse_lists(rows: DataFrame, fusions: Mapping[str, Fusion], tail: str, n: int) -> DataFrame:
    """Return (fill, user_idx, items, scores): each user's n best items of the blend of each fill.

    In: one row per user as every `Fusion` reads them, with user_idx; the list of column `tail` follows what is fused.
    """

    def fuse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            users, tails = batch.column("user_idx"), lists(batch, tail)
            for fill, fusion in fusions.items():
                filled = filled_up(fusion.fused(batch), tails, fusion.constant, n)
                columns = arrays([[fill] * batch.num_rows, users, *filled], _LISTS_ARROW)
                yield pa.RecordBatch.from_arrays(columns, schema=_LISTS_ARROW)

    return rows.mapInArrow(fuse, _LISTS)


def filled_up(
    fused: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
    tails: list[NDArray[np.integer[Any]]],
    constant: float,
    n: int,
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return the n best items and scores of each list, the tail's items behind a short one."""
    cut = [
        (items[:n], scores[:n]) if len(items) >= n else blend.fill_up(items, scores, popular, constant)
        for (items, scores), popular in zip(fused, tails, strict=True)
    ]
    return [items[:n].astype(np.int32) for items, _ in cut], [scores[:n].astype(np.float32) for _, scores in cut]


def arrays(columns: Sequence[Any], schema: pa.Schema) -> list[pa.Array]:
    """Return the columns as arrays of the schema's types."""
    return [pa.array(values, of.type) for values, of in zip(columns, schema, strict=True)]


def _places(
    batch: pa.RecordBatch, members: Sequence[str], fusion: str, constant: float
) -> list[tuple[list[NDArray[np.int32]], list[NDArray[np.float64]]]]:
    """Return each row's lists by member, and what their places are worth."""
    lists_of = [lists(batch, member) for member in members]
    scores_of = [lists(batch, f"{member}_scores") for member in members]
    return [
        (list(ranked), [blend.place_values(values, fusion, constant) for values in scores])
        for ranked, scores in zip(zip(*lists_of, strict=True), zip(*scores_of, strict=True), strict=True)
    ]


def _trees(text: str) -> lightgbm.Booster:
    """Return the trees of LightGBM's text, read once per Python worker."""
    if text not in _TREES:
        _TREES[text] = rerank.load(text)
    return _TREES[text]
