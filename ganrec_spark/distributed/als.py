"""ALS (implicit: Hu et al. 2008; explicit: Zhou et al. 2008), by our own solver or by MLlib: the same objective.

Our solver gathers one side's vectors on the driver after each half-step and broadcasts them; rows are solved exactly
(models.als_fold_in), in NumPy. MLlib never gathers them: the way for more users than a driver holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.distributed.ranking import lists
from ganrec_spark.errors import TrainingError
from ganrec_spark.models.als_fold_in import FixedSide, fixed_side, fold_in

_RATINGS_PER_BLOCK = 5_000_000
_MIN_BLOCKS = 2
_GIB = 2**30
_SIDE = "idx int, factors array<float>"


@dataclass(frozen=True)
class Objective:
    """What ALS minimises, but for the ratings: see `fit_als`."""

    embedding_size: int
    iterations: int
    regularisation: float
    alpha: float
    implicit: bool
    seed: int


@dataclass(frozen=True)
class AlsFactors:
    """A fitted ALS: `users` (user_idx int, factors array<float>) stay in Spark, `items` [I, D] is on the driver.

    Row i of `items` is the vector of item `item_idx[i]`; item_idx is ascending and may have gaps.
    """

    users: DataFrame
    item_idx: NDArray[np.int32]
    items: NDArray[np.float32]

    def item_slots(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors by item index, [item slots, D] with zeros in gaps, and which slots have a vector."""
        slots = int(self.item_idx[-1]) + 1 if len(self.item_idx) else 0
        table = np.zeros((slots, self.items.shape[1]), dtype=np.float32)
        known = np.zeros(slots, dtype=np.bool_)
        table[self.item_idx], known[self.item_idx] = self.items, True
        return table, known


def fit_als(
    ratings: DataFrame, objective: Objective, solver: str = "auto", max_gathered_gib: float = 2.0
) -> AlsFactors:
    """Fit ALS on (user_idx, item_idx, rating) rows, read from a committed table.

    Implicit: confidence 1 + alpha * |rating|, preference 1 where rating > 0; explicit: squared error of ratings.
    The ridge is `regularisation` times the number of (implicit: positive) ratings of the user or item. An implicit
    rating of 0 says nothing and is dropped, so a user or item that has no other gets no vector.

    `solver`: numpy, mllib, or auto: numpy while the vectors of both sides take at most `max_gathered_gib`.
    The same table gives the same vectors to the last bit, on any cluster.
    """
    kept = ratings.where("rating != 0") if objective.implicit else ratings
    kept = kept.select("user_idx", "item_idx", F.col("rating").cast("float").alias("rating"))
    sizes = kept.agg(
        F.count("*").alias("n"), F.max("user_idx").alias("users"), F.max("item_idx").alias("items")
    ).first()
    if sizes is None or not sizes.n:
        raise TrainingError("als: expected ratings to learn from, found none (implicit: none other than 0)")
    gathered = 4 * objective.embedding_size * (sizes.users + sizes.items + 2) / _GIB
    if solver == "mllib" or (solver == "auto" and gathered > max_gathered_gib):
        return _fit_mllib(kept, objective, sizes.n)
    return _fit_numpy(kept, objective, sizes.users + 1, sizes.items + 1)


def _fit_numpy(ratings: DataFrame, objective: Objective, user_slots: int, item_slots: int) -> AlsFactors:
    """Alternate exact half-steps, items first, from random unit vectors of users, as MLlib does."""
    spark = ratings.sparkSession
    partitions = 2 * max(spark.sparkContext.defaultParallelism, 2)
    by_user = _rows(ratings, "user_idx", "item_idx", partitions).persist()
    by_item = _rows(ratings, "item_idx", "user_idx", partitions).persist()
    known = by_item.select("idx").orderBy("idx").toArrow().column("idx").to_numpy().astype(np.int32)
    raters = by_user.select("idx").toArrow().column("idx").to_numpy()
    users = np.zeros((user_slots, objective.embedding_size), dtype=np.float32)
    drawn = np.random.default_rng(objective.seed).standard_normal(users.shape, dtype=np.float32)
    users[raters] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True))[raters]
    items = np.zeros((item_slots, objective.embedding_size), dtype=np.float32)
    for iteration in range(objective.iterations):
        if iteration:
            _gather(by_user, items, objective, users)
        _gather(by_item, users, objective, items)
    by_user.unpersist()
    by_item.unpersist()
    # The last half-step is left to whoever reads the users: their vectors need never be in one place.
    final = _half_step(by_user, spark.sparkContext.broadcast(_fixed(items, objective)), objective)
    return AlsFactors(final.withColumnRenamed("idx", "user_idx"), known, items[known])


def _rows(ratings: DataFrame, own: str, other: str, partitions: int) -> DataFrame:
    """Return (idx, others, ratings): one row per user or item, its ratings ordered by the other side's index."""
    pairs = F.sort_array(F.collect_list(F.struct(F.col(other).alias("other"), "rating")))
    grouped = ratings.groupBy(F.col(own).alias("idx")).agg(pairs.alias("pairs"))
    # An explicit number: adaptive execution would pack these few bytes, but much work, into one task.
    spread = grouped.repartition(partitions, "idx")
    return spread.select("idx", F.col("pairs.other").alias("others"), F.col("pairs.rating").alias("ratings"))


def _fixed(vectors: NDArray[np.float32], objective: Objective) -> FixedSide:
    with threadpool_limits(1):  # sums in one order, whatever the machine
        return fixed_side(vectors, objective.implicit)


def _half_step(rows: DataFrame, fixed: Broadcast[FixedSide], objective: Objective) -> DataFrame:
    """Return (idx, factors) of every row of `_rows`."""

    def solve(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # Spark runs a Python worker per core
            for batch in batches:
                others, ratings = lists(batch, "others"), lists(batch, "ratings")
                vectors = fold_in(
                    fixed.value, others, ratings, objective.regularisation, objective.alpha, objective.implicit
                )
                offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
                factors = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
                yield pa.RecordBatch.from_arrays([batch.column("idx"), factors], names=["idx", "factors"])

    return rows.mapInArrow(solve, _SIDE)


def _gather(rows: DataFrame, fixed: NDArray[np.float32], objective: Objective, into: NDArray[np.float32]) -> None:
    """Solve the rows with the `fixed` vectors and put theirs `into` the table of their side, by index."""
    broadcast = rows.sparkSession.sparkContext.broadcast(_fixed(fixed, objective))
    solved = _half_step(rows, broadcast, objective).toArrow()
    broadcast.destroy()
    flat = solved.column("factors").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    into[solved.column("idx").to_numpy()] = flat.reshape(-1, into.shape[1])


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
    ordered = ratings.repartition(blocks, "user_idx").sortWithinPartitions("user_idx", "item_idx")
    model = estimator.fit(ordered)
    vectors = model.itemFactors.orderBy("id").toArrow()
    item_idx = vectors.column("id").to_numpy().astype(np.int32)
    flat = vectors.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return AlsFactors(
        users=model.userFactors.select(F.col("id").alias("user_idx"), F.col("features").alias("factors")),
        item_idx=item_idx,
        items=flat.astype(np.float32).reshape(len(item_idx), objective.embedding_size),
    )
