"""Weights from history items to items in the forms that item-item models have, and mixtures of two of them."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ganrec_spark.frames.top_n import first_n, top_n
from ganrec_spark.recommenders.item_item.gfcf import LowPass

# [I history items, I items]: dense from EASE, sparse from RP3beta, sparse and of low rank from GF-CF.
Weights: TypeAlias = NDArray[np.float32] | sparse.csr_array | LowPass

_COLUMNS = 512


def products(profiles: sparse.csr_array, weights: Weights) -> NDArray[np.float32]:
    """Return the scores [B, I] of profiles [B, I]."""
    if isinstance(weights, LowPass):
        return weights.scores(profiles)
    found = profiles @ weights
    return np.asarray(found if isinstance(weights, np.ndarray) else found.toarray(), dtype=np.float32)


def columns(weights: Weights, part: slice) -> NDArray[np.float32]:
    """Return the weights [I, n] of all history items for the n items in `part`."""
    if isinstance(weights, LowPass):
        return weights.columns(part)
    return np.asarray(weights[:, part] if isinstance(weights, np.ndarray) else weights[:, part].toarray())


def strongest(weights: Weights, n: int) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return per item the history items of its n largest positive weights, and these, best first (frames.top_n).

    Of sparse weights the entries alone are looked at.
    """
    by_item = weights.tocsc() if isinstance(weights, sparse.csr_array) else None
    n_items = (weights.near if isinstance(weights, LowPass) else weights).shape[1]
    items: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    for start in range(0, n_items, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        if by_item is None:
            dense = columns(weights, part)
            own = top_n(np.where(dense > 0, dense, np.float32(-np.inf)).T, n)
        else:
            own = _largest(by_item[:, part], n)
        items += own[0]
        values += own[1]
    return items, values


def _largest(by_item: sparse.csc_array, n: int) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    owners, positive = np.repeat(np.arange(by_item.shape[1]), np.diff(by_item.indptr)), by_item.data > 0
    entries = owners[positive], by_item.indices[positive], by_item.data[positive]
    return first_n(*entries, by_item.shape[1], n)


def mixed(first: Weights, second: Weights, share: float) -> Weights:
    """Return first + share * second, dense where one of them is; neither is changed.

    Scores are linear in the weights, so this scores as the sum of both models' scores does.
    """
    if isinstance(second, np.ndarray) and not isinstance(first, np.ndarray):
        return _added(share * second, first, 1.0)
    if isinstance(first, np.ndarray):
        return _added(first.copy(), second, share)
    near = sum(_near(weights) * factor for weights, factor in ((first, 1.0), (second, share)))
    low = [(weights, factor) for weights, factor in ((first, 1.0), (second, share)) if isinstance(weights, LowPass)]
    if not low:
        return sparse.csr_array(near, dtype=np.float32)
    left = np.hstack([weights.left * np.float32(factor) for weights, factor in low])
    right = np.ascontiguousarray(np.vstack([weights.right for weights, _ in low]))
    return LowPass(sparse.csr_array(near, dtype=np.float32), left, right)


def _added(total: NDArray[np.float32], other: Weights, share: float) -> NDArray[np.float32]:
    """Return `total`, `other` added in place, a few columns at a time."""
    for start in range(0, total.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        total[:, part] += np.float32(share) * columns(other, part)
    return total


def _near(weights: sparse.csr_array | LowPass) -> sparse.csr_array:
    return weights.near if isinstance(weights, LowPass) else weights
