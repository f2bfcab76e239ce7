"""GF-CF: linear and ideal low-pass filtering of profiles over the item graph (Shen et al., CIKM 2021).

R = D_U^-1/2 X D_I^-1/2, with X the profiles [U users, I items] and D their row and column sums. A profile x is scored
by x (R'R + weight * D_I^-1/2 V V' D_I^1/2), V [I, K] the first right singular vectors of R. Of R'R the strongest
neighbours of each item are kept; V is found by subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ganrec_spark.frames.products import products

Floats = NDArray[np.floating[Any]]

_ROUNDS = 5
_OVERSAMPLING = 32


@dataclass(frozen=True)
class LowPass:
    """The matrix near + left @ right [I history items, I items]: near sparse, left [I, K], right [K, I]."""

    near: sparse.csr_array
    left: NDArray[np.float32]
    right: NDArray[np.float32]

    def scores(self, profiles: sparse.csr_array) -> NDArray[np.float32]:
        """Return the scores [B, I] of profiles [B, I]."""
        found: NDArray[np.float32] = (profiles @ self.near).toarray() + products(profiles @ self.left, self.right)
        return found

    def columns(self, part: slice) -> NDArray[np.float32]:
        """Return the weights [I, n] of all history items for the n items in `part`."""
        found: NDArray[np.float32] = self.near[:, part].toarray() + self.left @ self.right[:, part]
        return found


def low_pass(
    near: sparse.csr_array, vectors: NDArray[np.float32], popularity: NDArray[np.float64], weight: float
) -> LowPass:
    """Return the filter of R'R's strongest entries off the diagonal [I, I], V [I, K] and the column sums of X [I].

    Its own diagonal is 0.
    """
    root = np.sqrt(popularity)
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    left, right = vectors * inverse[:, None], weight * (vectors * root[:, None]).T
    # An item does not speak for itself, as in near: a generated one in a profile would only repeat itself.
    itself = sparse.diags_array(np.einsum("ik,ki->i", left, right), format="csr")
    near = sparse.csr_array(near - itself, dtype=np.float32)
    return LowPass(near, left.astype(np.float32), np.ascontiguousarray(right, dtype=np.float32))


def normalised(profiles: sparse.csr_array, popularity: NDArray[np.float64]) -> sparse.csr_array:
    """Return these users' rows of R [B, I] in single precision; `popularity` [I] are the column sums of all of X."""
    totals = np.asarray(profiles.sum(axis=1)).ravel()
    users = np.divide(1.0, np.sqrt(totals), out=np.zeros(len(totals)), where=totals > 0)
    items = np.divide(1.0, np.sqrt(popularity), out=np.zeros(len(popularity)), where=popularity > 0)
    return sparse.csr_array(profiles.multiply(users[:, None]).multiply(items[None, :])).astype(np.float32)


def singular_vectors(
    filtered: Callable[[NDArray[np.float32]], Floats], n_items: int, rank: int, seed: int
) -> NDArray[np.float32]:
    """Return the first `rank` right singular vectors of R as columns [I, K]; fewer where R has fewer.

    `filtered` gives R'R q [I, S] of any q [I, S]; it is called six times.
    """
    size = min(rank + _OVERSAMPLING, n_items)
    basis = np.random.default_rng(seed).standard_normal((n_items, size)).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(filtered(basis))[0].astype(np.float32)
    values, turns = np.linalg.eigh(basis.T @ filtered(basis))
    # Rounding leaves tiny eigenvalues where R has no further rank.
    kept = np.flatnonzero(values > 1e-5)[::-1][:rank]
    return (basis @ turns[:, kept]).astype(np.float32)
