"""The best unseen items of a block of users."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mask_seen(scores: NDArray[np.float32], seen: Sequence[NDArray[np.integer[Any]]]) -> None:
    """Set the scores [B users, I items] of each user's seen items to -inf, in place."""
    lengths = [len(items) for items in seen]
    if sum(lengths):
        rows = np.repeat(np.arange(len(seen)), lengths)
        scores[rows, np.concatenate(seen).astype(np.int64)] = -np.inf


def top_n(scores: NDArray[np.float32], n: int) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return per user the indices and scores of the n best items, best first, ties by smaller index.

    `scores` is [B users, I items]; items at -inf are never listed, so lists may be shorter than n.
    """
    n = min(n, scores.shape[1])
    if n == scores.shape[1]:
        best = np.broadcast_to(np.arange(n), scores.shape).copy()
    else:
        best = np.argpartition(-scores, n - 1, axis=1)[:, :n]
        _settle_ties(scores, best, n)
    values = np.take_along_axis(scores, best, axis=1)
    order = np.lexsort((best, -values), axis=1)
    best = np.take_along_axis(best, order, axis=1).astype(np.int32)
    values = np.take_along_axis(values, order, axis=1)
    kept = [np.isfinite(row) for row in values]
    return (
        [row[keep] for row, keep in zip(best, kept, strict=True)],
        [row[keep] for row, keep in zip(values, kept, strict=True)],
    )


def _settle_ties(scores: NDArray[np.float32], best: NDArray[np.int64], n: int) -> None:
    """Where several items tie for the last place, keep those of smallest index, in place."""
    last = np.take_along_axis(scores, best, axis=1).min(axis=1, keepdims=True)
    tied = (scores >= last).sum(axis=1) > n
    for row in np.flatnonzero(tied & np.isfinite(last[:, 0])):
        above = np.flatnonzero(scores[row] > last[row])
        level = np.flatnonzero(scores[row] == last[row])
        best[row] = np.concatenate([above, level[: n - len(above)]])
