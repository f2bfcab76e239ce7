"""EASE, a linear item-item model in closed form (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data")."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ganrec_spark.errors import TrainingError

_ROWS = 1024


def ease_weights(gram: NDArray[np.float32], regularisation: float, damping: float = 0.0) -> NDArray[np.float32]:
    """Return B [I history items, I items], zero diagonal, that minimises |X - XB|^2 + regularisation * |B|^2.

    `gram` is X'X [I, I] and is left as it was. P = (X'X + regularisation * 1)^-1, B_ij = -P_ij / P_jj (eq. 8). The
    inverse is a Cholesky factorisation in place: one more matrix of the size of `gram`, in its precision.
    With `damping` it is fitted to XD instead of X, and B scores X: D is diagonal, the diagonal of X'X to the power
    -damping (of a binary X the items' numbers of ratings), scaled so that the trace of X'X stays.
    Raises TrainingError where the matrix is not positive definite.
    """
    # Symmetric, so the C-ordered copy is a Fortran-ordered one, which LAPACK overwrites.
    inverse = np.array(gram, order="C").T
    scale = _item_scale(gram, damping) if damping else None
    if scale is not None:
        inverse *= scale
        inverse *= scale[:, None]
    inverse[np.diag_indices_from(inverse)] += regularisation
    factorise, invert = (lapack.spotrf, lapack.spotri) if gram.dtype == np.float32 else (lapack.dpotrf, lapack.dpotri)
    inverse, failed = factorise(inverse, lower=1, overwrite_a=1, clean=0)
    if not failed:
        inverse, failed = invert(inverse, lower=1, overwrite_c=1)
    if failed:
        raise TrainingError(
            f"item_item: X'X + {regularisation} is not positive definite (LAPACK code {failed}); "
            "raise item_item.ease_regularisation"
        )
    diagonal = inverse.diagonal().copy()
    weights = inverse.T  # C order; only its upper triangle holds the inverse
    for start in range(0, len(weights), _ROWS):
        stop = min(start + _ROWS, len(weights))
        block = np.triu(weights[start:stop, start:stop])
        weights[start:stop, start:stop] = block + np.triu(block, 1).T
        weights[stop:, start:stop] = weights[start:stop, stop:].T
    weights /= -diagonal
    np.fill_diagonal(weights, 0)
    if scale is not None:
        weights *= scale[:, None]
        weights /= scale
    return weights


def _item_scale(gram: NDArray[np.float32], damping: float) -> NDArray[np.float32]:
    """Return the diagonal of D [I] in the precision of `gram`."""
    diagonal = gram.diagonal().astype(np.float64)
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -damping
    if diagonal.any():
        scale *= np.sqrt(diagonal.sum() / (scale**2 * diagonal).sum())
    return np.asarray(scale, dtype=gram.dtype)
