"""Item-item sums: co-occurrences for EASE, walks for RP3beta and GF-CF, by Spark, or by the driver where they are few.

Of many users nothing that grows with them leaves Spark (docs/adr/0011).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.recommenders.item_item.gfcf import normalised, singular_vectors
from ganrec_spark.recommenders.item_item.profiles import profile_matrix
from ganrec_spark.recommenders.item_item.rp3beta import transition_weights, walks
from ganrec_spark.recommenders.item_item.slabs import strongest_walks

_PARTS = 16
_PARTS_OF_VECTORS = 4  # each sends [I, K + 32] to the driver
_ENTRIES_PER_ROW = 1_000_000
_FURTHEST_HALVINGS = 6.7  # a hundredth
_PENDING_PAIRS = 10_000_000  # 160 MB
_USERS_PER_BLOCK = 10_000
_PAIRS_ON_DRIVER = 1_000_000_000  # of items of one user: 15 seconds
_SUMS_ON_DRIVER = 200_000_000  # 2.4 GB

# [U, I] in Spark, as `profiles` gives them, or on the driver.
Users: TypeAlias = DataFrame | sparse.csr_array


def damped(x: sparse.csr_array, damping: float) -> sparse.csr_array:
    """Return the rows divided by their number of items, generated ones too, to the power `damping`."""
    if not damping:
        return x
    counts = np.diff(x.indptr)
    values = x.data * np.repeat(np.maximum(counts, 1.0) ** -damping, counts)
    return sparse.csr_array((values, x.indices, x.indptr), shape=x.shape)


def gathered(users: DataFrame, item_idx: NDArray[np.int32]) -> Users:
    """Return the `profiles` as X [U, I] on the driver where their sums are few, else as they are."""
    blocks = _on_driver(users, item_idx)
    return users if blocks is None else sparse.vstack([profile_matrix(block, item_idx) for block in blocks], "csr")


def _on_driver(users: DataFrame, item_idx: NDArray[np.int32]) -> list[pa.RecordBatch] | None:
    """Return the users, in order, where the sums over their pairs of items are few, else None: by the data alone."""
    squared = F.size("items").cast("long") * F.size("items")
    pairs = users.agg(F.sum(squared).alias("pairs")).collect()[0]["pairs"] or 0
    if pairs > _PAIRS_ON_DRIVER or min(pairs, len(item_idx) ** 2) > _SUMS_ON_DRIVER:
        return None
    # Blocks of one size, so that sums are added in one order.
    return list(sorted_here(users, "user_idx").to_batches(_USERS_PER_BLOCK))


def gram_matrix(users: Users, item_idx: NDArray[np.int32], damping: float = 0.0) -> NDArray[np.float32]:
    """Return X'X [I, I], dense, of the users' `damped` rows; `item_idx` is the item axis.

    Each partition sends the upper triangle of its own sum, so the driver holds one part at a time
    beside the matrix.
    """
    if not isinstance(users, DataFrame):
        x = damped(users, damping)
        return np.asarray((x.T @ x).astype(np.float32).toarray())

    def products(block: pa.RecordBatch, axis: NDArray[np.int32]) -> sparse.csr_array:
        x = damped(profile_matrix(block, axis), damping)
        return sparse.triu(x.T @ x, format="csr")

    return _added_up(users, item_idx, products)


def near_gram_matrix(
    users: DataFrame, item_idx: NDArray[np.int32], half_life: float, damping: float = 0.0
) -> NDArray[np.float32]:
    """Return the sum over users (`with_ages`) of X_u' K X_u [I, I]; X_u has a row for each of their `damped` items.

    K_st = 2^(-|age_s - age_t| / half_life): items rated within a short time belong together more than those rated years
    apart, and EASE of this matrix is a generalised least squares fit. The diagonal is that of X'X. Pairs that count
    less than a hundredth are left out.
    """
    blocks = _on_driver(users, item_idx)
    if blocks is None:
        return _added_up(users, item_idx, lambda block, axis: near_pairs(block, axis, half_life, damping))
    gram = np.zeros((len(item_idx), len(item_idx)), dtype=np.float32)
    for block in blocks:
        _add_symmetric(gram, near_pairs(block, item_idx, half_life, damping).tocoo())
    return gram


def near_pairs(
    block: pa.RecordBatch, item_idx: NDArray[np.int32], half_life: float, damping: float = 0.0
) -> sparse.csr_array:
    """Return the upper triangle [I, I] that one block of users adds to `near_gram_matrix`."""
    n_items, furthest = len(item_idx), half_life * _FURTHEST_HALVINGS
    x = damped(profile_matrix(block, item_idx), damping)
    ages = profile_matrix(block, item_idx, column="ages")
    owner = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    order = np.lexsort((x.indices, ages.data, owner))
    owner, column, value, age = owner[order], x.indices[order], x.data[order], ages.data[order]
    total = sparse.csr_array((value**2, (column, column)), shape=(n_items, n_items))
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    first, waiting = np.arange(len(owner)), 0
    # The k-th later item of each: pairs that are too far apart at k are so beyond.
    for k in range(1, len(owner)):
        first = first[first + k < len(owner)]
        second = first + k
        near = (owner[first] == owner[second]) & (age[second] - age[first] <= furthest)
        first, second = first[near], second[near]
        if not len(first):
            break
        weight = value[first] * value[second] * 0.5 ** ((age[second] - age[first]) / half_life)
        one, other = column[first], column[second]
        parts.append((np.minimum(one, other), np.maximum(one, other), weight))
        waiting += len(first)
        if waiting > _PENDING_PAIRS:
            total, parts, waiting = total + _summed(parts, n_items), [], 0
    return total + _summed(parts, n_items) if parts else total


def _summed(parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], n_items: int) -> sparse.csr_array:
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return sparse.csr_array((values, (rows, columns)), shape=(n_items, n_items))


def _added_up(
    users: DataFrame,
    item_idx: NDArray[np.int32],
    products: Callable[[pa.RecordBatch, NDArray[np.int32]], sparse.csr_array],
) -> NDArray[np.float32]:
    """Return the symmetric sum [I, I] of the upper triangles that `products` gives for blocks of users."""
    n_items = len(item_idx)
    axis = ship(users.sparkSession, item_idx=item_idx)

    def add_up(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = sparse.csr_array((n_items, n_items))
        for batch in batches:
            total = total + products(batch, axis["item_idx"])
        upper = total.tocoo()
        for start in range(0, upper.nnz, _ENTRIES_PER_ROW):
            part = slice(start, start + _ENTRIES_PER_ROW)
            yield _bytes_row(upper.row[part], upper.col[part], upper.data[part])

    gram = np.zeros((n_items, n_items), dtype=np.float32)
    parts = _in_fixed_parts(users).mapInArrow(add_up, "row binary, column binary, value binary")
    for part in parts.toLocalIterator():
        coordinates = np.frombuffer(part["row"], np.int32), np.frombuffer(part["column"], np.int32)
        _add_symmetric(gram, sparse.coo_array((np.frombuffer(part["value"], np.float64), coordinates), gram.shape))
    return gram


def _add_symmetric(gram: NDArray[np.float32], upper: sparse.coo_array) -> None:
    """Add the symmetric matrix of that upper triangle, no entry of which comes twice, to `gram`."""
    rows, columns, off = upper.row, upper.col, upper.row != upper.col
    gram[rows, columns] += upper.data
    gram[columns[off], rows[off]] += upper.data[off]


def rp3beta_weights(
    users: Users, item_idx: NDArray[np.int32], alpha: float, beta: float, neighbours: int
) -> sparse.csr_array:
    """Return RP3beta's weights [I history items, I items] with the strongest `neighbours` of each history item."""
    return _walk_weights(users, item_idx, alpha, (alpha, beta), neighbours)


def graph_filter(users: Users, item_idx: NDArray[np.int32], neighbours: int) -> sparse.csr_array:
    """Return the strongest `neighbours` of each item in GF-CF's R'R [I, I], without its diagonal."""
    return _walk_weights(users, item_idx, 1.0, (0.5, 0.5), neighbours)


def graph_vectors(users: Users, item_idx: NDArray[np.int32], rank: int, seed: int) -> NDArray[np.float32]:
    """Return the first `rank` right singular vectors of GF-CF's R as columns [I, K]: six passes over the users."""
    if not isinstance(users, DataFrame):
        r = normalised(users, popularity(users, item_idx))
        return singular_vectors(lambda vectors: np.asarray(r.T @ (r @ vectors)), len(item_idx), rank, seed)
    kept = _in_fixed_parts(users, _PARTS_OF_VECTORS).cache()
    axis = ship(users.sparkSession, item_idx=item_idx, popularity=popularity(users, item_idx))

    def filtered(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        sent = ship(users.sparkSession, vectors=vectors)

        def sums(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            total = np.zeros(vectors.shape, dtype=np.float32)
            for batch in batches:
                block = normalised(profile_matrix(batch, axis["item_idx"]), axis["popularity"])
                total += block.T @ (block @ sent["vectors"])
            yield pa.RecordBatch.from_arrays([pa.array([total.tobytes()], pa.binary())], names=["total"])

        # In the order of the partitions: sums of floats depend on it.
        parts = kept.mapInArrow(sums, "total binary").collect()
        totals = [np.frombuffer(part["total"], np.float32).reshape(vectors.shape) for part in parts]
        return np.asarray(np.sum(totals, axis=0, dtype=np.float64))

    try:
        return singular_vectors(filtered, len(item_idx), rank, seed)
    finally:
        kept.unpersist()


def _walk_weights(
    users: Users, item_idx: NDArray[np.int32], alpha: float, damping: tuple[float, float], neighbours: int
) -> sparse.csr_array:
    """Return the strongest entries of each row of `walks`, divided by both items' popularity to the power `damping`."""
    popular, n_items = popularity(users, item_idx), len(item_idx)
    if not isinstance(users, DataFrame):
        kept = transition_weights(walks(users, alpha), np.arange(n_items), popular, damping, neighbours)
        return _compressed(np.arange(n_items), *kept, n_items)
    return _compressed(*strongest_walks(users, item_idx, popular, alpha, damping, neighbours), n_items)


def energy(users: Users) -> float:
    """Return the sum of X's squares: the trace of X'X."""
    if not isinstance(users, DataFrame):
        return float(np.square(users.data).sum())
    value = F.col("value")
    # Decimals: sums of floats would depend on their order.
    squares = F.sum((value * value).cast("decimal(20,9)")).cast("double").alias("total")
    (row,) = users.select(F.explode("ratings").alias("value")).agg(squares).collect()
    return float(row["total"] or 0.0)


def popularity(users: Users, item_idx: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the column sums [I] of X."""
    if not isinstance(users, DataFrame):
        return np.asarray(users.sum(axis=0), dtype=np.float64).ravel()
    pairs = users.select(F.explode(F.arrays_zip("items", "ratings")).alias("pair")).select("pair.*")
    # Decimals: sums of floats would depend on their order.
    total = F.sum(F.col("ratings").cast("decimal(20,9)")).cast("double").alias("total")
    sums = pairs.groupBy("items").agg(total).toArrow()
    popularity = np.zeros(len(item_idx))
    popularity[np.searchsorted(item_idx, sums.column("items").to_numpy())] = sums.column("total").to_numpy()
    return popularity


def _in_fixed_parts(users: DataFrame, parts: int = _PARTS) -> DataFrame:
    """Return the users in partitions and an order that depend on the data alone, since sums of floats do."""
    return users.repartition(parts, "user_idx").sortWithinPartitions("user_idx")


def _bytes_row(row: NDArray[Any], column: NDArray[Any], value: NDArray[Any]) -> pa.RecordBatch:
    cells = [row.astype(np.int32).tobytes(), column.astype(np.int32).tobytes(), value.astype(np.float64).tobytes()]
    arrays = [pa.array([cell], pa.binary()) for cell in cells]
    return pa.RecordBatch.from_arrays(arrays, names=["row", "column", "value"])


def _compressed(
    items: NDArray[Any], targets: list[NDArray[np.int32]], weights: list[NDArray[np.float32]], n_items: int
) -> sparse.csr_array:
    """Return [I, I] with the rows of `items`, ascending, as given; the others are empty."""
    indptr = np.zeros(n_items + 1, dtype=np.int64)
    indptr[1 + items] = [len(row) for row in targets]
    columns = np.concatenate([np.empty(0, np.int32), *targets])
    values = np.concatenate([np.empty(0, np.float32), *weights])
    return sparse.csr_array((values, columns, np.cumsum(indptr)), shape=(n_items, n_items))
