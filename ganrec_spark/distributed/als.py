"""MLlib's ALS (implicit: Hu et al. 2008; explicit: Zhou et al. 2008), the same vectors for the same table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import TrainingError

_RATINGS_PER_BLOCK = 5_000_000
_MIN_BLOCKS = 2


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
    ratings: DataFrame,
    embedding_size: int,
    iterations: int,
    regularisation: float,
    alpha: float,
    implicit: bool,
    seed: int,
) -> AlsFactors:
    """Fit ALS on (user_idx, item_idx, rating) rows, at most one per pair, read from a committed table.

    Implicit: confidence 1 + alpha * |rating|, preference 1 where rating > 0; explicit: squared error of ratings.
    The ridge is `regularisation` times the number of (implicit: positive) ratings of the user or item. An implicit
    rating of 0 says nothing and is dropped, so a user or item that has no other gets no vector.

    The block count follows from the number of ratings, never from the cluster's size: initial vectors are drawn per
    block. Rows are sorted within fixed partitions, because sums of floats depend on their order.
    """
    kept = ratings.where("rating != 0") if implicit else ratings
    kept = kept.select("user_idx", "item_idx", F.col("rating").cast("float").alias("rating"))
    n_ratings = kept.count()
    if not n_ratings:
        raise TrainingError("als: expected ratings to learn from, found none (implicit: none other than 0)")
    blocks = max(_MIN_BLOCKS, -(-n_ratings // _RATINGS_PER_BLOCK))
    estimator = ALS(
        userCol="user_idx",
        itemCol="item_idx",
        ratingCol="rating",
        rank=embedding_size,
        maxIter=iterations,
        regParam=regularisation,
        alpha=alpha,
        implicitPrefs=implicit,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        seed=seed % (1 << 31),
    )
    ordered = kept.repartition(blocks, "user_idx").sortWithinPartitions("user_idx", "item_idx")
    model = estimator.fit(ordered)
    vectors = model.itemFactors.orderBy("id").toArrow()
    item_idx = vectors.column("id").to_numpy().astype(np.int32)
    flat = vectors.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return AlsFactors(
        users=model.userFactors.select(F.col("id").alias("user_idx"), F.col("features").alias("factors")),
        item_idx=item_idx,
        items=flat.astype(np.float32).reshape(len(item_idx), embedding_size),
    )
