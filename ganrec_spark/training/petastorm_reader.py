"""Row groups by Petastorm; the only module that imports it.

Petastorm's thread pool may stop before it has handed out every row group (tests/distributed/test_reader.py has the
numbers): it asks whether the workers are done before it asks whether all work was given out. Asking in the other order
cures it.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ganrec_spark.training.shards import Arrays, Shard


@contextmanager
def row_groups(
    files: Sequence[str], columns: Sequence[str], shard: Shard, passes: int | None
) -> Iterator[Iterator[Arrays]]:
    """Give the columns of one row group of the shard after the other, in `passes` passes (None: for ever)."""
    reader = _reader(files, columns, shard, passes)
    try:
        yield ({name: np.asarray(getattr(group, name)) for name in columns} for group in reader)
    finally:
        reader.stop()
        reader.join()


def _reader(files: Sequence[str], columns: Sequence[str], shard: Shard, passes: int | None) -> Any:
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
            shuffle_row_groups=shard.seed is not None,
            shuffle_rows=False,
            seed=shard.order_seed,
            num_epochs=passes,
            cur_shard=shard.worker,
            shard_count=shard.workers,
        )
    except NoDataAvailableError:
        raise shard.too_few(files) from None
    _cure_row_loss(reader)
    return reader


def _cure_row_loss(reader: object) -> None:
    pool = reader._workers_pool  # type: ignore[attr-defined]
    all_workers_done = pool.all_workers_done
    pool.all_workers_done = lambda: pool._ventilator.completed() and all_workers_done()
