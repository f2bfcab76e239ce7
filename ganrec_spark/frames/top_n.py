"""The best unseen items of a block of users."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lists = tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]  # items and their scores, of each user

_LARGEST_GROUP = 16


def mask_seen(scores: NDArray[np.float32], seen: Sequence[NDArray[np.integer[Any]]]) -> None:
    """Set the scores [B users, I items] of each user's seen items to -inf, in place."""
    lengths = [len(items) for items in seen]
    if sum(lengths):
        rows = np.repeat(np.arange(len(seen)), lengths)
        scores[rows, np.concatenate(seen).astype(np.int64)] = -np.inf


def top_n(scores: NDArray[np.float32], n: int) -> Lists:
    """Return per user the indices and scores of the n best items, best first, ties by smaller index.

    `scores` is [B users, I items]; items at -inf are never listed, so lists may be shorter than n.
    """
    n = min(n, scores.shape[1])
    rows, items = np.divmod(np.flatnonzero(_contenders(scores, n)), max(1, scores.shape[1]))
    return first_n(rows, items, scores[rows, items], len(scores), n)


def first_n(
    rows: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]], values: NDArray[np.float32], n_rows: int, n: int
) -> Lists:
    """Return per row the items and values of its n largest entries, best first, ties by smaller index.

    In: entries (row, item, value) in any order.
    """
    order = np.lexsort((items, -values, rows))
    sorted_items, values = items[order].astype(np.int32), values[order]
    starts = np.searchsorted(rows[order], np.arange(n_rows + 1))
    ranges = [slice(start, min(start + n, end)) for start, end in pairwise(starts.tolist())]
    return [sorted_items[part] for part in ranges], [values[part] for part in ranges]


def _contenders(scores: NDArray[np.float32], n: int) -> NDArray[np.bool_]:
    """Return a mask [B, I] that holds each row's n best items, few others, and none at -inf.

    The n-th best maximum of groups of items bounds the n-th best item from below; several times as fast as
    partitioning the items themselves.
    """
    if n == 0:
        return np.zeros(scores.shape, dtype=np.bool_)
    group = max(1, min(_LARGEST_GROUP, scores.shape[1] // (4 * n)))
    even = scores.shape[1] // group * group
    # Every even / group-th item makes a group, so that maxima are taken along contiguous memory.
    best = scores[:, :even].reshape(len(scores), group, even // group).max(axis=1)
    best = np.hstack([best, scores[:, even:]])
    bound = np.maximum(np.partition(best, -n, axis=1)[:, [-n]], np.finfo(scores.dtype).min)
    mask: NDArray[np.bool_] = scores >= bound
    # Of many items level with the bound the first n suffice.
    for row in np.flatnonzero(mask.sum(axis=1) > 8 * n):
        mask[row, np.flatnonzero(scores[row] == bound[row])[n:]] = False
    return mask
