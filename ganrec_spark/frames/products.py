"""Products of users' vectors and a table of items, the same for a user whoever else is in the block."""

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 4096  # that are held in double precision at once


def products(users: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return users [B, D] @ table [D, I]; a row of it does not hang on the other users.

    In double precision: BLAS rounds by the number of rows and, on some processors, by a row's place among them, which
    single precision would show.
    """
    exact = users.astype(np.float64)
    found = np.empty((len(users), table.shape[1]), dtype=np.float32)
    for start in range(0, table.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        found[:, part] = exact @ table[:, part].astype(np.float64)
    return found
