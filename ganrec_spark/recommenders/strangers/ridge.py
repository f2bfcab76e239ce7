"""What people with the same attributes rate: a ridge regression of users' rows on their features.

Letters: U users who rated, F features, C items. With features X [U, F] less their means and rows Y [U, C] of 0 and 1,
less the shares p [C] of users who rated each item, the effects of features are W = (X'X + s I)^-1 X'Y (Hoerl & Kennard
1970). A feature that s users have moves shares by half of what these users' own shares say: s is how many users a
group needs to be believed. A stranger with features x likes an item by p + (x - mean) W.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """What the effects hang on, of some users: their number, X'X, X'Y, and the sums of X [F] and of Y [C]."""

    n_users: int
    squares: Floats
    products: Floats
    features: Floats
    items: Floats

    @classmethod
    def of(cls, features: sparse.csr_array, rows: sparse.csr_array) -> "Sums":
        """Return the sums of users with these features [U, F] and rows [U, C]."""
        exact = features.astype(np.float64)
        return cls(
            features.shape[0],
            (exact.T @ exact).toarray(),
            (exact.T @ rows.astype(np.float64)).toarray(),
            np.asarray(exact.sum(axis=0), np.float64),
            np.asarray(rows.sum(axis=0), np.float64),
        )

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Effects:
    """What users like without features, `base` [C], and what each feature adds, `added` [F, C]; in shares of users."""

    base: NDArray[np.float32]
    added: NDArray[np.float32]

    def scores(self, features: sparse.csr_array) -> NDArray[np.float32]:
        """Return [B, C]: how much each of B strangers likes each item."""
        return np.asarray(features @ self.added + self.base, dtype=np.float32)


def effects(sums: Sums, shrinkage: float, recent: NDArray[np.floating[Any]]) -> Effects:
    """Return the effects by shrinkage s, of items that are liked lately by shares `recent` [C].

    Users who rated long ago rated what was new then: effects are taken as shares of what an item had of all time, and
    of what it has lately.
    """
    n = max(1, sums.n_users)
    mean, share = sums.features / n, sums.items / n
    centred = sums.squares - n * np.outer(mean, mean)
    wanted = sums.products - n * np.outer(mean, share)
    found = np.linalg.solve(centred + shrinkage * np.eye(len(mean)), wanted)
    now = recent / np.maximum(share, 1 / n)
    added = found * now
    return Effects((recent - mean @ added).astype(np.float32), added.astype(np.float32))
