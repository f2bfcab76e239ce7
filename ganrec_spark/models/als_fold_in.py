"""Solve ALS users with the item vectors held fixed: what MLlib's last half-step does, in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fold_in(
    item_factors: NDArray[np.floating[Any]],
    items: Sequence[NDArray[np.integer[Any]]],
    ratings: Sequence[NDArray[np.floating[Any]]],
    regularisation: float,
    alpha: float,
    implicit: bool,
    gram: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Return the vectors [B users, D] of users with the given histories, `item_factors` [I, D] fixed.

    `items[b]` are rows of `item_factors` and `ratings[b]` their ratings; pass `gram` = item_gram(item_factors) to
    compute it once for many blocks. Implicit (Hu et al. 2008, eq. 4, as MLlib): confidence 1 + alpha * |r|,
    preference 1 where r > 0, ridge regularisation * number of r > 0. Explicit: squared error, ridge
    regularisation * number of ratings. A user without ratings gets zeros.

    MLlib solves users last, so folding a training user in gives back its fitted vector.
    """
    size = item_factors.shape[1]
    left = np.zeros((len(items), size, size))
    right = np.zeros((len(items), size))
    if implicit and gram is None:
        gram = item_gram(item_factors)
    for row, (indices, values) in enumerate(zip(items, ratings, strict=True)):
        vectors = np.asarray(item_factors[indices], dtype=np.float64)
        values = np.asarray(values, dtype=np.float64)
        positive = values > 0
        if implicit:
            extra = alpha * np.abs(values)
            left[row] = gram + vectors.T @ (vectors * extra[:, None])
            right[row] = (1 + extra[positive]) @ vectors[positive]
        else:
            left[row] = vectors.T @ vectors
            right[row] = values @ vectors
        ridge = regularisation * (positive.sum() if implicit else len(values))
        # A user without a (positive) rating has right side 0: any ridge gives the zero vector, none may be singular.
        left[row] += (ridge if ridge > 0 else 1.0) * np.eye(size)
    return np.linalg.solve(left, right[:, :, None])[:, :, 0].astype(np.float32)


def item_gram(item_factors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return Y'Y [D, D] of the item vectors Y [I, D], in double precision as MLlib sums it."""
    vectors = np.asarray(item_factors, dtype=np.float64)
    return vectors.T @ vectors
