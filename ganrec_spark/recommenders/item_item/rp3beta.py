"""RP3beta: a random walk of three steps from user to item, popular items held back (Paudel et al. 2017).

The walk user -> item -> user -> item has probability (X / row sums)^alpha (X' / column sums)^alpha (X / row
sums)^alpha; ending at an item is divided by its popularity^beta. The last two steps are an item-item matrix.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def walks(profiles: sparse.csr_array, alpha: float, rows: slice = slice(None)) -> sparse.csr_array:
    """Return the part of these users in sum over users u of (x_ui x_uj / sum_j x_uj)^alpha, [I, I], or `rows` of it.

    `profiles` [U users, I items] holds whole users; the parts of all users add up.
    """
    totals = np.asarray(profiles.sum(axis=1)).ravel()
    powered = profiles.power(alpha)
    scale = np.divide(1.0, totals**alpha, out=np.zeros(len(totals)), where=totals > 0)
    return sparse.csr_array(powered[:, rows].T @ powered.multiply(scale[:, None]).tocsr())


def transition_weights(
    walked: sparse.csr_array,
    rows: NDArray[np.integer[Any]],
    popularity: NDArray[np.floating[Any]],
    damping: tuple[float, float],
    neighbours: int,
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return for each history item its strongest target items and their weights, strongest first.

    `walked` [R, I] are the summed rows `rows` of `walks`, `popularity` [I] the column sums of X; a weight is divided by
    the popularity of history and target item to the powers `damping`, RP3beta's (alpha, beta). Self-loops and items
    without a walk are left out; ties go to the smaller index.
    """
    targets, weights = [], []
    for row, item in enumerate(rows):
        span = slice(walked.indptr[row], walked.indptr[row + 1])
        columns = walked.indices[span]
        values = walked.data[span] / popularity[item] ** damping[0] / popularity[columns] ** damping[1]
        values = values.astype(np.float32)
        keep = (columns != item) & (values > 0)
        columns, values = columns[keep], values[keep]
        if len(values) > neighbours:  # to sort them all would take longer than to add them up
            strong = values >= np.partition(values, -neighbours)[-neighbours]
            columns, values = columns[strong], values[strong]
        order = np.lexsort((columns, -values))[:neighbours]
        targets.append(columns[order].astype(np.int32))
        weights.append(values[order])
    return targets, weights
