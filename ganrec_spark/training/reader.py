"""Read training rows from Parquet with Petastorm, one shard per worker; the only module that imports Petastorm.

Petastorm's thread pool may stop before it has handed out every row group (docs/operations has the numbers): it asks
whether the workers are done before it asks whether all work was given out. Asking in the other order cures it.

Rows in an object store are copied to each worker's disk first (docs/adr/0034): Petastorm cannot read stores with the
pyarrow that it needs.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError
from ganrec_spark.lake.files import local_copies

Arrays = dict[str, NDArray[np.generic]]
Batch = dict[str, torch.Tensor]


@contextmanager
def read_batches(
    urls: Sequence[str],
    columns: Sequence[str],
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
    seed: int = 0,
) -> Iterator[Iterator[Batch]]:
    """Give an endless iterator of batches of `batch_size` rows of this worker's row groups, shuffled by `seed`.

    Each pass holds every row of the shard once, in a new order; a batch may span two passes. The order depends on
    `urls`, `seed` and the shard alone. Lists of fixed length become [batch_size, length], scalars [batch_size].
    Row groups go to worker `index % workers`, so users must be shuffled over row groups when they are written.

    Raises TrainingError where there are fewer row groups than workers.
    """
    with _row_groups(urls, columns, worker, workers, seed, passes=None) as groups:
        yield _rebatch(groups, batch_size)


@contextmanager
def read_once(
    urls: Sequence[str], columns: Sequence[str], worker: int = 0, workers: int = 1
) -> Iterator[Iterator[Batch]]:
    """Give one exact pass over this worker's rows: one batch per row group, in the order of the files."""
    with _row_groups(urls, columns, worker, workers, seed=None, passes=1) as groups:
        yield ({name: torch.from_numpy(array.copy()) for name, array in group.items()} for group in groups)


@contextmanager
def _row_groups(
    urls: Sequence[str], columns: Sequence[str], worker: int, workers: int, seed: int | None, passes: int | None
) -> Iterator[Iterator[Arrays]]:
    if not urls:
        raise TrainingError(f"training rows: expected Parquet files for {workers} workers, found none")
    with local_copies(urls) as files:
        reader = _reader(files, columns, worker, workers, seed, passes)
        try:
            yield _shuffled(reader, columns, seed)
        finally:
            reader.stop()
            reader.join()


def _reader(
    files: Sequence[str], columns: Sequence[str], worker: int, workers: int, seed: int | None, passes: int | None
) -> Any:
    # Petastorm's threads warn at every row group that they use pyarrow's old interface; a context manager would not
    # reach them.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\b")
    from petastorm import make_batch_reader
    from petastorm.errors import NoDataAvailableError

    try:
        reader = make_batch_reader(
            list(files),
            schema_fields=[f"^{column}$" for column in columns],
            reader_pool_type="thread",
            workers_count=1,  # more would race for the order of row groups
            shuffle_row_groups=seed is not None,
            shuffle_rows=False,
            seed=None if seed is None else seed + 1,  # Petastorm takes 0 for no seed
            num_epochs=passes,
            cur_shard=worker,
            shard_count=workers,
        )
    except NoDataAvailableError:
        raise TrainingError(
            f"training rows: expected a row group for each of {workers} workers, found fewer in {len(files)} files; "
            "raise parquet.row_groups or lower distributed.workers"
        ) from None
    _cure_row_loss(reader)
    return reader


def _cure_row_loss(reader: object) -> None:
    pool = reader._workers_pool  # type: ignore[attr-defined]
    all_workers_done = pool.all_workers_done
    pool.all_workers_done = lambda: pool._ventilator.completed() and all_workers_done()


def _shuffled(reader: Iterator[object], columns: Sequence[str], seed: int | None) -> Iterator[Arrays]:
    """Yield each row group's columns; rows are shuffled here, where pass after pass continues one generator."""
    rng = None if seed is None else np.random.default_rng(seed)
    for group in reader:
        arrays = {name: np.asarray(getattr(group, name)) for name in columns}
        if rng is not None:
            order = rng.permutation(len(arrays[columns[0]]))
            arrays = {name: array[order] for name, array in arrays.items()}
        yield arrays


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
