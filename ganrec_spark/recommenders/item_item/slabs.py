"""The strongest entries of RP3beta's walks, by Spark, a slab of history items a task.

What two items have in common is added up where their slab is: users' rows travel there, cut by slab, not the sums of
each task's users, which are pairs of items and many times as many. A task holds a slab of sums, however many users and
items there are, and there are as many tasks as slabs.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.recommenders.item_item.profiles import profile_matrix
from ganrec_spark.recommenders.item_item.rp3beta import transition_weights, walks

_CELLS_PER_SLAB = 2**24  # of history items x items: 128 MiB of sums
_RATINGS_PER_PART = 1_000_000
_MOST_TASKS = 10_000
_BLOBS = ("starts", "items", "values")
_KINDS = (np.int64, np.int32, np.float64)  # no values: all are 1


def strongest_walks(
    users: DataFrame,
    item_idx: NDArray[np.int32],
    popularity: NDArray[np.float64],
    alpha: float,
    damping: tuple[float, float],
    neighbours: int,
) -> tuple[NDArray[np.int32], list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return items of the axis [I] with their targets and weights: see rp3beta.transition_weights.

    In: `profiles`; popularity [I], the column sums of X. Sums hang on the data alone, not on tasks or machines.
    """
    n_items = len(item_idx)
    height = max(1, _CELLS_PER_SLAB // n_items)
    n_slabs = -(-n_items // height)
    axis = ship(users.sparkSession, item_idx=item_idx, popularity=popularity)

    def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            x, part = profile_matrix(batch, axis["item_idx"]), batch["part"][0].as_py()
            for slab, rows in _rows_by_slab(x, height):
                own = x[rows]
                data = own.data[:0] if (own.data == 1).all() else own.data
                blobs = zip((own.indptr, own.indices, data), _KINDS, strict=True)
                values = [slab, part, number, *(cell.astype(kind).tobytes() for cell, kind in blobs)]
                kinds = [pa.int32()] * 3 + [pa.binary()] * 3
                columns = [pa.array([value], kind) for value, kind in zip(values, kinds, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, names=["slab", "part", "number", *_BLOBS])

    def strongest(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        lines = (line for batch in batches for line in pa.Table.from_batches([batch]).to_batches(max_chunksize=1))
        for slab, blocks in groupby(lines, key=lambda line: line["slab"][0].as_py()):
            rows = np.arange(slab * height, min((slab + 1) * height, n_items))
            total = np.zeros(len(rows) * n_items)
            for block in blocks:
                starts, items, values = (
                    np.frombuffer(block[name][0].as_py(), kind) for name, kind in zip(_BLOBS, _KINDS, strict=True)
                )
                values = values if len(values) else np.ones(len(items))
                x = sparse.csr_array((values, items, starts), shape=(len(starts) - 1, n_items))
                walked = walks(x, alpha, slice(int(rows[0]), int(rows[-1]) + 1))
                cells = np.repeat(np.arange(len(rows)) * n_items, np.diff(walked.indptr)) + walked.indices
                total[cells] += walked.data  # no cell comes twice in one block
            summed = sparse.csr_array(total.reshape(len(rows), n_items))
            targets, weights = transition_weights(summed, rows, axis["popularity"], damping, neighbours)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(rows, pa.int32()),
                    pa.array(targets, pa.list_(pa.int32())),
                    pa.array(weights, pa.list_(pa.float32())),
                ],
                names=["item", "targets", "weights"],
            )

    # Sums of floats depend on their order: users come in parts, and blocks of a slab in an order, of the data alone.
    n_parts = 1 + int(popularity.sum() // _RATINGS_PER_PART)
    parts = users.repartition(n_parts, "user_idx").sortWithinPartitions("user_idx")
    blobs = ", ".join(f"{name} binary" for name in _BLOBS)
    rows = parts.withColumn("part", F.spark_partition_id()).mapInArrow(cut, f"slab int, part int, number int, {blobs}")
    slabs = rows.repartition(min(n_slabs, _MOST_TASKS), "slab").sortWithinPartitions("slab", "part", "number")
    found = sorted_here(slabs.mapInArrow(strongest, "item int, targets array<int>, weights array<float>"), "item")
    lists = [[cell.values.to_numpy() for cell in found[name]] for name in ("targets", "weights")]
    return found["item"].to_numpy(), lists[0], lists[1]


def _rows_by_slab(x: sparse.csr_array, height: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each slab of `height` columns with the rows that have an entry in it, ascending."""
    owner = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    pairs = np.unique(x.indices.astype(np.int64) // height * x.shape[0] + owner)
    slabs, rows = np.divmod(pairs, x.shape[0])
    starts = np.flatnonzero(np.diff(slabs, prepend=-1))
    for first, own in zip(starts, np.split(rows, starts[1:]), strict=True):
        yield int(slabs[first]), own
