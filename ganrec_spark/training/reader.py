"""Read training rows from Parquet, one shard per worker, by Petastorm or by pyarrow: the same batches.

Rows in an object store are copied to each worker's disk first (docs/adr/0034): Petastorm cannot read stores with the
pyarrow that it needs, and a store that stumbles in the middle of a step would stop all workers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ganrec_spark.config.cluster import Reader
from ganrec_spark.errors import TrainingError
from ganrec_spark.lake.files import local_copies
from ganrec_spark.training.shards import Arrays, Shard

Batch = dict[str, torch.Tensor]


@contextmanager
def read_batches(
    urls: Sequence[str],
    columns: Sequence[str],
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
    seed: int = 0,
    reader: Reader = "petastorm",
) -> Iterator[Iterator[Batch]]:
    """Give an endless iterator of batches of `batch_size` rows of this worker's row groups, shuffled by `seed`.

    Each pass holds every row of the shard once, in a new order; a batch may span two passes. The order depends on
    `urls`, `seed` and the shard alone. Lists of fixed length become [batch_size, length], scalars [batch_size].
    Row groups go to worker `index % workers`, so users must be shuffled over row groups when they are written.

    Raises TrainingError where there are fewer row groups than workers.
    """
    with _row_groups(urls, columns, Shard(worker, workers, seed), None, reader) as groups:
        yield _rebatch(_shuffled(groups, seed), batch_size)


@contextmanager
def read_once(
    urls: Sequence[str], columns: Sequence[str], worker: int = 0, workers: int = 1, reader: Reader = "petastorm"
) -> Iterator[Iterator[Batch]]:
    """Give one exact pass over this worker's rows: one batch per row group, in the order of the files."""
    with _row_groups(urls, columns, Shard(worker, workers, None), 1, reader) as groups:
        yield ({name: torch.from_numpy(array.copy()) for name, array in group.items()} for group in groups)


@contextmanager
def _row_groups(
    urls: Sequence[str], columns: Sequence[str], shard: Shard, passes: int | None, reader: Reader
) -> Iterator[Iterator[Arrays]]:
    if not urls:
        raise TrainingError(f"training rows: expected Parquet files for {shard.workers} workers, found none")
    if reader == "pyarrow":
        from ganrec_spark.training.pyarrow_reader import row_groups
    else:
        from ganrec_spark.training.petastorm_reader import row_groups
    with local_copies(urls) as files, row_groups(files, columns, shard, passes) as groups:
        yield groups


def _shuffled(groups: Iterator[Arrays], seed: int) -> Iterator[Arrays]:
    """Yield each row group with its rows shuffled, pass after pass by one generator."""
    rng = np.random.default_rng(seed)
    for group in groups:
        order = rng.permutation(len(next(iter(group.values()))))
        yield {name: array[order] for name, array in group.items()}


def _rebatch(groups: Iterator[Arrays], batch_size: int) -> Iterator[Batch]:
    waiting: list[Arrays] = []
    n_waiting = 0
    for group in groups:
        waiting.append(group)
        n_waiting += len(next(iter(group.values())))
        if n_waiting < batch_size:
            continue
        joined = {name: np.concatenate([part[name] for part in waiting]) for name in group}
        stop = n_waiting - n_waiting % batch_size
        for start in range(0, stop, batch_size):
            yield {name: torch.from_numpy(array[start : start + batch_size]) for name, array in joined.items()}
        waiting, n_waiting = [{name: array[stop:] for name, array in joined.items()}], n_waiting - stop
