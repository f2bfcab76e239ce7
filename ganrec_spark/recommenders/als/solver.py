"""ALS (implicit: Hu et al. 2008; explicit: Zhou et al. 2008), by our own solver or by MLlib: the same objective.

Our solver gathers one side's vectors on the driver after each half-step; rows are solved exactly, in NumPy
(recommenders.als.fold_in): of few ratings by the driver's threads, of many by Spark's tasks, to the same bits. MLlib
never gathers vectors: the way for more users than a driver holds.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.errors import TrainingError
from ganrec_spark.frames.histories import lists
from ganrec_spark.recommenders.als.factors import AlsFactors, arrow_lists
from ganrec_spark.recommenders.als.fold_in import FixedSide, fixed_side, fold_in

WARM_ITERATIONS = 2  # of a fit that goes on from vectors (docs/adr/0045)
_GIB = 2**30
_LOCAL_RATINGS = 2_000_000  # up to so many are solved on the driver: few rows do not repay starting Spark's tasks
_RATINGS_PER_SLICE = 4_096
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
            side = _OnDriver if self._n <= _LOCAL_RATINGS else _OnExecutors
            by_user = _rows(self._ratings, "user_idx", "item_idx")
            self._sides = side(by_user), side(_rows(self._ratings, "item_idx", "user_idx"))
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
    side = _OnDriver(_rows(kept, "user_idx", "item_idx"))
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
            user_side.solve(items, objective, users)
        item_side.solve(users, objective, items)
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


def _solve(block: pa.RecordBatch, fixed: FixedSide, objective: Objective) -> NDArray[np.float32]:
    others, ratings = lists(block, "others"), lists(block, "ratings")
    return fold_in(fixed, others, ratings, objective.regularisation, objective.alpha, objective.implicit)


class _OnDriver:
    """One side's ratings in the driver, its rows solved by as many threads as there are cores."""

    def __init__(self, rows: DataFrame) -> None:
        table = rows.toArrow().combine_chunks()
        self.idx: NDArray[np.int32] = table.column("idx").to_numpy()
        self._blocks = [block for batch in table.to_batches() for block in _cut(batch)]

    def solve(self, fixed: NDArray[np.float32], objective: Objective, into: NDArray[np.float32]) -> None:
        """Put the rows' vectors, the other side's `fixed`, into the table of this side, by index."""
        side = _fixed(fixed, objective)
        with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
            solved = pool.map(lambda block: _solve(block, side, objective), self._blocks)
            into[self.idx] = np.concatenate(list(solved))

    def solved(self, fixed: NDArray[np.float32], objective: Objective) -> pa.Table:
        """Return the rows' vectors as (user_idx, factors)."""
        vectors = np.zeros((int(self.idx.max()) + 1, fixed.shape[1]), dtype=np.float32)
        self.solve(fixed, objective, vectors)
        return pa.table({"user_idx": self.idx, "factors": arrow_lists(vectors[self.idx])})

    def close(self) -> None:
        """Nothing is held outside this object."""


class _OnExecutors:
    """One side's ratings in Spark, its rows solved by tasks that get the other side's vectors by broadcast."""

    def __init__(self, rows: DataFrame) -> None:
        self._context = rows.sparkSession.sparkContext
        # An explicit number: adaptive execution would pack these few bytes, but much work, into one task.
        self._rows = rows.repartition(2 * max(self._context.defaultParallelism, 2), "idx").persist()
        self.idx: NDArray[np.int32] = self._rows.select("idx").toArrow().column("idx").to_numpy()

    def solve(self, fixed: NDArray[np.float32], objective: Objective, into: NDArray[np.float32]) -> None:
        """Put the rows' vectors, the other side's `fixed`, into the table of this side, by index."""
        broadcast = self._context.broadcast(_fixed(fixed, objective))
        table = _half_step(self._rows, broadcast, objective).toArrow()
        broadcast.destroy()
        flat = table.column("factors").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        into[table.column("idx").to_numpy()] = flat.reshape(-1, into.shape[1])

    def solved(self, fixed: NDArray[np.float32], objective: Objective) -> DataFrame:
        """Return (user_idx, factors), made anew by whoever reads it: the vectors need never be in one place."""
        broadcast = self._context.broadcast(_fixed(fixed, objective))
        return _half_step(self._rows, broadcast, objective).withColumnRenamed("idx", "user_idx")

    def close(self) -> None:
        """Let go of the cached ratings; what `solved` returned reads the table again."""
        self._rows.unpersist()


_Side: TypeAlias = _OnDriver | _OnExecutors


def _half_step(rows: DataFrame, fixed: Broadcast[FixedSide], objective: Objective) -> DataFrame:
    """Return (idx, factors) of every row of `_rows`."""

    def solve(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # Spark runs a Python worker per core
            for batch in batches:
                factors = arrow_lists(_solve(batch, fixed.value, objective))
                yield pa.RecordBatch.from_arrays([batch.column("idx"), factors], names=["idx", "factors"])

    return rows.mapInArrow(solve, "idx int, factors array<float>")


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield slices of about as many ratings each."""
    offsets = batch.column("others").offsets.to_numpy()
    ends = np.unique(np.searchsorted(offsets, np.arange(offsets[0], offsets[-1], _RATINGS_PER_SLICE)[1:]))
    for start, stop in itertools.pairwise([0, *ends.tolist(), batch.num_rows]):
        if stop > start:
            yield batch.slice(start, stop - start)


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
