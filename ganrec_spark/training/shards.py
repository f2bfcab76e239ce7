"""A worker's share of the training rows, whoever reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Shard:
    """The row groups of worker `worker` of `workers`, those with index % workers == worker.

    Their order follows from `seed` and is the same in every pass; None: the order of the files.
    """

    worker: int
    workers: int
    seed: int | None

    @property
    def order_seed(self) -> int | None:
        """The seed of the order of row groups: Petastorm takes 0 for none."""
        return None if self.seed is None else self.seed + 1

    def too_few(self, files: Sequence[str]) -> TrainingError:
        """Return the error where the files have fewer row groups than there are workers."""
        return TrainingError(
            f"training rows: expected a row group for each of {self.workers} workers, found fewer in {len(files)} "
            "files; raise parquet.row_groups or lower distributed.workers"
        )
