"""Row groups by pyarrow.dataset, in the order in which Petastorm would hand them out."""

import itertools
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, dataset

from ganrec_spark.errors import TrainingError
from ganrec_spark.training.shards import Arrays, Shard


@contextmanager
def row_groups(
    files: Sequence[str], columns: Sequence[str], shard: Shard, passes: int | None
) -> Iterator[Iterator[Arrays]]:
    """Give the columns of one row group of the shard after the other, in `passes` passes (None: for ever)."""
    rows = dataset.dataset([file.removeprefix("file://") for file in files], format="parquet")
    groups = [group for file in rows.get_fragments() for group in file.split_by_row_group()]
    if len(groups) < shard.workers:
        raise shard.too_few(files)
    own = [groups[index] for index in _order(len(groups), shard)]
    rounds = itertools.repeat(own) if passes is None else itertools.repeat(own, passes)
    with ThreadPoolExecutor(1) as ahead:
        yield _read_ahead(itertools.chain.from_iterable(rounds), columns, ahead)


def _order(n_groups: int, shard: Shard) -> list[int]:
    """Return the indices of the shard's row groups in their order.

    As Petastorm does it: all are shuffled, then dealt out to workers, then each worker's are shuffled again.
    """
    indices = list(range(n_groups))
    if shard.order_seed is not None:
        random.Random(shard.order_seed).shuffle(indices)
    own = [index for index in indices if index % shard.workers == shard.worker]
    if shard.order_seed is not None:
        own = list(np.random.default_rng(shard.order_seed).permutation(own))
    return own


def _read_ahead(
    groups: Iterator[dataset.ParquetFileFragment], columns: Sequence[str], ahead: ThreadPoolExecutor
) -> Iterator[Arrays]:
    """Yield each row group's columns, while the next one is being read."""
    waiting = ahead.submit(_read, next(groups), columns)
    for group in groups:
        ready, waiting = waiting, ahead.submit(_read, group, columns)
        yield ready.result()
    yield waiting.result()


def _read(group: dataset.ParquetFileFragment, columns: Sequence[str]) -> Arrays:
    table = group.to_table(columns=list(columns))
    return {name: _array(table[name], f"{group.path}, column '{name}'") for name in columns}


def _array(column: pa.ChunkedArray, where: str) -> NDArray[np.generic]:
    """Return a column's values, [rows], or those of lists of one length, [rows, length]."""
    values: NDArray[np.generic]
    if not pa.types.is_list(column.type):
        values = column.to_numpy()
        return values
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise TrainingError(
            f"training rows: {where}: expected lists of one length, found lengths {lengths}; was the table written by "
            "another program?"
        )
    values = compute.list_flatten(column).to_numpy()
    return values.reshape(len(column), lengths[0])
