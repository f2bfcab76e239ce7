"""Score the catalogue by item-item weights, which every Python worker reads from one file."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy import sparse

from ganrec_spark.frames.ship import ship
from ganrec_spark.recommenders.catalogue import Score
from ganrec_spark.recommenders.item_item.gfcf import LowPass
from ganrec_spark.recommenders.item_item.profiles import profile_matrix
from ganrec_spark.recommenders.item_item.weights import Weights, products


def by_weights(item_idx: NDArray[np.int32], weights: Weights, half_life: float | None = None) -> Score:
    """Return the score of every item for a block of `profiles`: X W; items off the axis are not listed.

    `half_life`: see `profile_matrix`. As in session-aware linear models (Choi et al., WWW 2021) what a user rated last
    may say more of what comes next.

    Sparse weights reach few items: those that they do not reach are not listed either.
    """
    slots = int(item_idx[-1]) + 1 if len(item_idx) else 0

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        matrix = profile_matrix(block, item_idx, half_life).astype(np.float32)
        product = products(matrix, weights)
        if isinstance(weights, sparse.csr_array):
            product[product == 0] = -np.inf
        scores = np.full((block.num_rows, slots), -np.inf, dtype=np.float32)
        scores[:, item_idx] = product
        return scores

    return score


def ship_weights(
    spark: SparkSession, item_idx: NDArray[np.int32], weights: Weights, half_life: float | None = None
) -> Score:
    """Return `by_weights` for use in Spark: the weights travel once per machine."""
    arrays: dict[str, NDArray[Any]] = {"item_idx": item_idx}
    if isinstance(weights, np.ndarray):
        dense = ship(spark, **arrays, weights=weights)
        return lambda block: by_weights(dense["item_idx"], np.asarray(dense["weights"]), half_life)(block)
    if isinstance(weights, LowPass):
        arrays |= {"left": weights.left, "right": weights.right}
    near = weights.near if isinstance(weights, LowPass) else weights
    parts = ship(spark, **arrays, data=near.data, indices=near.indices, indptr=near.indptr)
    is_low_pass = isinstance(weights, LowPass)

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        items = parts["item_idx"]
        compressed = tuple(np.asarray(parts[name]) for name in ("data", "indices", "indptr"))
        opened = sparse.csr_array(compressed, shape=(len(items), len(items)))
        matrix = LowPass(opened, parts["left"], parts["right"]) if is_low_pass else opened
        return by_weights(items, matrix, half_life)(block)

    return score
