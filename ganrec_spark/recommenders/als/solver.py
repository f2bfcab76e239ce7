"""ALS (implicit: Hu et al. 2008; explicit: Zhou et al. 2008), by our own solver or by MLlib: the same objective.

Our solver gathers one side's vectors on the driver after each half-step; rows are solved in NumPy
(recommenders.als.fold_in): of few ratings by the driver's threads, of many by Spark's tasks, to the same bits. A side's
first vectors and the users' last are exact, those between go on from the ones before. MLlib never gathers vectors: the
way for more users than a driver holds.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.errors import TrainingError
from ganrec_spark.recommenders.als.factors import AlsFactors, arrow_lists
from ganrec_spark.recommenders.als.fold_in import FixedSide, Floats, PaddedRows, fixed_side

WARM_ITERATIONS = 2  # of a fit that goes on from vectors (docs/adr/0045)
_GIB = 2**30
_LOCAL_RATINGS = 2_000_000  # up to so many are solved on the driver: few rows do not repay starting Spark's tasks
# Of MLlib:
_RATINGS_PER_BLOCK = 5_000_000
_MIN_BLOCKS = 2


@dataclass(frozen=True)
class Objective:
    """What ALS minimises, but for the ratings: see `fit_als`."""

    embedding_size: int
    iterations: int
    regularisation: float
    alpha: float
    implicit: bool
    seed: int


def fit_als(
    ratings: DataFrame,
    objective: Objective,
    solver: str = "auto",
    max_gathered_gib: float = 0.8,
    checkpoint_dir: str | None = None,
    start: AlsFactors | None = None,
) -> AlsFactors:
    """Fit ALS on (user_idx, item_idx, rating) rows, read from a committed table.

    Implicit: confidence 1 + alpha * |rating|, preference 1 where rating > 0; explicit: squared error of ratings.
    The ridge is `regularisation` times the number of (implicit: positive) ratings of the user or item. An implicit
    rating of 0 says nothing and is dropped, so a user or item that has no other gets no vector.

    `solver`: numpy, mllib, or auto: numpy while the vectors of both sides take at most `max_gathered_gib`.
    MLlib needs a `checkpoint_dir` that all machines reach for more than ten iterations: their plan grows too deep.
    The same table gives the same vectors to the last bit, whatever the number of machines and cores.

    `start`: an earlier fit of as many factors whose items' vectors our solver begins from, by item index; new items
    begin without one. So few iterations do (WARM_ITERATIONS). MLlib cannot; `AlsFactors.went_on` tells.
    """
    prepared = AlsRatings(ratings, objective.implicit)
    fitted = prepared.fit(objective, solver, max_gathered_gib, checkpoint_dir, start)
    prepared.close()
    return fitted


class AlsRatings:
    """Ratings that several objectives are fitted on: what they need of Spark is asked for once. See `fit_als`."""

    def __init__(self, ratings: DataFrame, implicit: bool) -> None:
        kept = ratings.where("rating != 0") if implicit else ratings
        self._ratings = kept.select("user_idx", "item_idx", F.col("rating").cast("float").alias("rating"))
        last = (F.max("user_idx").alias("users"), F.max("item_idx").alias("items"))
        sizes = self._ratings.agg(F.count("*").alias("n"), *last).collect()[0]
        if not sizes.n:
            raise TrainingError("als: expected ratings to learn from, found none (implicit: none other than 0)")
        self._n, self._slots = int(sizes.n), (int(sizes.users) + 1, int(sizes.items) + 1)
        self._sides: tuple[_Side, _Side] | None = None

    def fit(
        self,
        objective: Objective,
        solver: str,
        max_gathered_gib: float,
        checkpoint_dir: str | None,
        start: AlsFactors | None = None,
    ) -> AlsFactors:
        """Fit an objective, implicit or not as the ratings were prepared."""
        gathered = 4 * objective.embedding_size * sum(self._slots) / _GIB
        if solver == "mllib" or (solver == "auto" and gathered > max_gathered_gib):
            if checkpoint_dir is not None:
                self._ratings.sparkSession.sparkContext.setCheckpointDir(checkpoint_dir)
            return _fit_mllib(self._ratings, objective, self._n)
        if self._sides is None:
            self._sides = _on_driver(self._ratings) if self._n <= _LOCAL_RATINGS else _on_executors(self._ratings)
        return _fit_numpy(*self._sides, self._slots, objective, start)

    def close(self) -> None:
        """Let go of what is cached."""
        for side in self._sides or ():
            side.close()


def fold_in_users(ratings: DataFrame, items: NDArray[np.float32], objective: Objective) -> DataFrame:
    """Return (user_idx, factors): the vectors of these ratings' users with the items' vectors [slots, D] fixed.

    In: rows as `fit_als` takes them. Of a user of the fit it is the vector that our solver gave, to the last bit.
    Driver memory: the ratings.
    """
    kept = ratings.where("rating != 0") if objective.implicit else ratings
    kept = kept.select("user_idx", "item_idx", F.col("rating").cast("float").alias("rating"))
    side, _ = _on_driver(kept)
    spark = ratings.sparkSession
    if not len(side.idx):
        return spark.createDataFrame([], "user_idx int, factors array<float>")
    return spark.createDataFrame(side.solved(items, objective))


def _fit_numpy(
    user_side: "_Side", item_side: "_Side", slots: tuple[int, int], objective: Objective, start: AlsFactors | None
) -> AlsFactors:
    """Alternate exact half-steps, items first, from random unit vectors of users, as MLlib does; or from `start`."""
    users = np.zeros((slots[0], objective.embedding_size), dtype=np.float32)
    drawn = np.random.default_rng(objective.seed).standard_normal(users.shape, dtype=np.float32)
    users[user_side.idx] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True))[user_side.idx]
    items = np.zeros((slots[1], objective.embedding_size), dtype=np.float32)
    if start is not None:
        # Only of items that are still rated: the others would count in what all rows share.
        kept = np.isin(start.item_idx, item_side.idx)
        items[start.item_idx[kept]] = start.items[kept]
    for iteration in range(objective.iterations if start is None else WARM_ITERATIONS):
        if iteration or start is not None:
            users = user_side.solve(items, objective, users if iteration > 1 else None)
        items = item_side.solve(users, objective, items if iteration else None)
    known = np.sort(item_side.idx)
    return AlsFactors(user_side.solved(items, objective), known, items[known], went_on=start is not None)


def _rows(ratings: DataFrame, own: str, other: str) -> DataFrame:
    """Return (idx, others, ratings): one row per user or item, its ratings ordered by the other side's index."""
    pairs = F.sort_array(F.collect_list(F.struct(F.col(other).alias("other"), "rating")))
    grouped = ratings.groupBy(F.col(own).alias("idx")).agg(pairs.alias("pairs"))
    return grouped.select("idx", F.col("pairs.other").alias("others"), F.col("pairs.rating").alias("ratings"))


def _fixed(vectors: NDArray[np.float32], objective: Objective) -> FixedSide:
    with threadpool_limits(1):  # sums in one order, whatever the machine
        return fixed_side(vectors, objective.implicit)


_Sent: TypeAlias = tuple[FixedSide, Floats | None]  # the other side's vectors, and this side's to go on from


class _OnDriver:
    """One side's ratings in the driver, its rows solved by as many threads as there are cores."""

    def __init__(self, own: NDArray[np.int32], others: NDArray[np.int32], ratings: NDArray[np.float32]) -> None:
        order = np.lexsort((ratings, others, own))
        self.idx, lengths = np.unique(own, return_counts=True)
        self._rows = PaddedRows(lengths, others[order], ratings[order])

    def solve(self, fixed: Floats, objective: Objective, start: Floats | None) -> Floats:
        """Return this side's vectors by index, the other side's `fixed`, exact or going on from `start`."""
        vectors = np.zeros((int(self.idx[-1]) + 1, fixed.shape[1]), dtype=np.float32)
        side = _fixed(fixed, objective)
        with threadpool_limits(1):
            vectors[self.idx] = self._rows.solve(
                side, *_penalties(objective), None if start is None else start[self.idx], os.cpu_count() or 1
            )
        return vectors

    def solved(self, fixed: Floats, objective: Objective) -> pa.Table:
        """Return the rows' exact vectors as (user_idx, factors)."""
        vectors = self.solve(fixed, objective, None)
        return pa.table({"user_idx": self.idx, "factors": arrow_lists(vectors[self.idx])})

    def close(self) -> None:
        """Nothing is held outside this object."""


class _OnExecutors:
    """One side's ratings in Spark, its rows solved by tasks that get both sides' vectors by broadcast."""

    def __init__(self, rows: DataFrame) -> None:
        self._context = rows.sparkSession.sparkContext
        # An explicit number: adaptive execution would pack these few bytes, but much work, into one task.
        self._rows = rows.repartition(2 * max(self._context.defaultParallelism, 2), "idx").persist()
        self.idx: NDArray[np.int32] = np.sort(self._rows.select("idx").toArrow().column("idx").to_numpy())

    def solve(self, fixed: Floats, objective: Objective, start: Floats | None) -> Floats:
        """Return this side's vectors by index, the other side's `fixed`, exact or going on from `start`."""
        broadcast = self._context.broadcast((_fixed(fixed, objective), start))
        table = _half_step(self._rows, broadcast, objective).toArrow()
        broadcast.destroy()
        vectors = np.zeros((int(self.idx[-1]) + 1, fixed.shape[1]), dtype=np.float32)
        flat = table.column("factors").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors[table.column("idx").to_numpy()] = flat.reshape(-1, vectors.shape[1])
        return vectors

    def solved(self, fixed: Floats, objective: Objective) -> DataFrame:
        """Return exact (user_idx, factors), made anew by whoever reads it: the vectors need never be in one place."""
        sent: _Sent = (_fixed(fixed, objective), None)
        broadcast = self._context.broadcast(sent)
        return _half_step(self._rows, broadcast, objective).withColumnRenamed("idx", "user_idx")

    def close(self) -> None:
        """Let go of the cached ratings; what `solved` returned reads the table again."""
        self._rows.unpersist()


_Side: TypeAlias = _OnDriver | _OnExecutors


def _on_driver(ratings: DataFrame) -> tuple[_OnDriver, _OnDriver]:
    table = ratings.toArrow()
    users, items, values = (table.column(name).to_numpy() for name in ("user_idx", "item_idx", "rating"))
    return _OnDriver(users, items, values), _OnDriver(items, users, values)


def _on_executors(ratings: DataFrame) -> tuple[_OnExecutors, _OnExecutors]:
    by_user, by_item = _rows(ratings, "user_idx", "item_idx"), _rows(ratings, "item_idx", "user_idx")
    return _OnExecutors(by_user), _OnExecutors(by_item)


def _half_step(rows: DataFrame, broadcast: Broadcast[_Sent], objective: Objective) -> DataFrame:
    """Return (idx, factors) of every row of `_rows`."""

    def solve(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        side, start = broadcast.value
        with threadpool_limits(1):  # Spark runs a Python worker per core
            for batch in batches:
                others, ratings = batch.column("others"), batch.column("ratings")
                rows = PaddedRows(np.diff(others.offsets.to_numpy()), *(_flat(column) for column in (others, ratings)))
                went_from = None if start is None else start[batch.column("idx").to_numpy()]
                factors = arrow_lists(rows.solve(side, *_penalties(objective), went_from))
                yield pa.RecordBatch.from_arrays([batch.column("idx"), factors], names=["idx", "factors"])

    return rows.mapInArrow(solve, "idx int, factors array<float>")


def _flat(lists: pa.ListArray) -> NDArray[Any]:
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False))


def _penalties(objective: Objective) -> tuple[float, float, bool]:
    return objective.regularisation, objective.alpha, objective.implicit


def _fit_mllib(ratings: DataFrame, objective: Objective, n_ratings: int) -> AlsFactors:
    """Fit MLlib's ALS.

    The block count follows from the number of ratings, never from the cluster's size: initial vectors are drawn per
    block. Rows are sorted within fixed partitions, because sums of floats depend on their order.
    """
    blocks = max(_MIN_BLOCKS, -(-n_ratings // _RATINGS_PER_BLOCK))
    estimator = ALS(
        userCol="user_idx",
        itemCol="item_idx",
        ratingCol="rating",
        rank=objective.embedding_size,
        maxIter=objective.iterations,
        regParam=objective.regularisation,
        alpha=objective.alpha,
        implicitPrefs=objective.implicit,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        seed=objective.seed % (1 << 31),
    )
    ordered = ratings.repartition(blocks, "user_idx").sortWithinPartitions("user_idx", "item_idx", "rating")
    model = estimator.fit(ordered)
    vectors = model.itemFactors.orderBy("id").toArrow()
    item_idx = vectors.column("id").to_numpy().astype(np.int32)
    flat = vectors.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return AlsFactors(
        user_rows=model.userFactors.select(F.col("id").alias("user_idx"), F.col("features").alias("factors")),
        item_idx=item_idx,
        items=flat.astype(np.float32).reshape(len(item_idx), objective.embedding_size),
    )
