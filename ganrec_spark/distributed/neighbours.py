"""Item-item cosine of co-occurrence, counted in Spark a block of users at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.distributed.ranking import histories, lists

_USERS_PER_BLOCK = 1024


def cosine_neighbours(observed: DataFrame, neighbours: int) -> dict[str, NDArray[Any]]:
    """Return the strongest neighbours of every item as the arrays of a CSR matrix [I, I]: indptr, indices, values.

    In: one row per user and item (user_idx, item_idx). value(i, j) = users of both / sqrt(users of i * users of j)
    (Sarwar et al. 2001 on 0/1 vectors), i != j; row i holds i's `neighbours` best, ties by smaller item.
    Counts are whole numbers, so partitions cannot change them. The driver gets at most I * neighbours entries.
    """
    counts = histories(observed.select("user_idx", "item_idx", F.lit(1.0).alias("rating"))).mapInArrow(
        _co_occurrences, "i int, j int, n bigint"
    )
    pairs = counts.groupBy("i", "j").agg(F.sum("n").alias("n"))
    users = observed.groupBy("item_idx").agg(F.count("*").alias("users"))
    cosines = (
        pairs.join(users.select(F.col("item_idx").alias("i"), F.col("users").alias("users_i")), "i")
        .join(users.select(F.col("item_idx").alias("j"), F.col("users").alias("users_j")), "j")
        .select("i", "j", (F.col("n") / F.sqrt(F.col("users_i") * F.col("users_j"))).alias("cosine"))
    )
    best = Window.partitionBy("i").orderBy(F.col("cosine").desc(), "j")
    kept = cosines.withColumn("place", F.row_number().over(best)).where(F.col("place") <= neighbours)
    rows = kept.select("i", "j", "cosine").orderBy("i", "j").toArrow()
    n_items = int(users.agg(F.max("item_idx")).first()[0] or 0) + 1  # type: ignore[index]
    i = rows["i"].to_numpy()
    return {
        "indptr": np.searchsorted(i, np.arange(n_items + 1)).astype(np.int64),
        "indices": rows["j"].to_numpy().astype(np.int64),
        "values": rows["cosine"].to_numpy().astype(np.float32),
    }


def _co_occurrences(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield (i, j, n) for the users of one partition, i != j, added up over its blocks."""
    total: sparse.csr_matrix | None = None
    for batch in batches:
        for start in range(0, batch.num_rows, _USERS_PER_BLOCK):
            items = lists(batch.slice(start, _USERS_PER_BLOCK), "items")
            counts = _gram(items)
            total = counts if total is None else _add(total, counts)
    if total is not None:
        entries = total.tocoo()
        other = entries.row != entries.col
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(entries.row[other], pa.int32()),
                pa.array(entries.col[other], pa.int32()),
                pa.array(entries.data[other], pa.int64()),
            ],
            names=["i", "j", "n"],
        )


def _gram(items: list[NDArray[np.integer[Any]]]) -> sparse.csr_matrix:
    columns = np.concatenate(items)
    rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
    x = sparse.csr_matrix((np.ones(len(columns), dtype=np.int64), (rows, columns)))
    return (x.T @ x).tocsr()


def _add(left: sparse.csr_matrix, right: sparse.csr_matrix) -> sparse.csr_matrix:
    size = max(left.shape[0], right.shape[0])
    left.resize(size, size)
    right.resize(size, size)
    return (left + right).tocsr()
