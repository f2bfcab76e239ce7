"""How alike items are by what is known of them.

The likeness of two items is the mean over columns, by the columns' shares, of the cosine of what a column says of them;
0 where it says nothing of one. Letters: N and T items, I items of an axis, P pairs of items, F features of a column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Shares = Mapping[str, float]  # by column, they sum to 1
Matrix: TypeAlias = Any  # scipy.sparse.csr_array, which has no types, or NDArray[np.float32]

_PAIRS = 200_000


@dataclass(frozen=True)
class Described:
    """What is known of N items: of each column [N, F] a matrix whose rows have length 1, or 0 where nothing is known.

    Columns of words and categories are sparse, those of vectors dense. `idx` [N]: the items' indices.
    """

    idx: NDArray[np.int32]
    columns: Mapping[str, Matrix]

    def taken(self, places: NDArray[np.integer[Any]] | slice) -> "Described":
        """Return some of the items."""
        return Described(self.idx[places], {name: matrix[places] for name, matrix in self.columns.items()})

    @cached_property
    def turned(self) -> Mapping[str, Matrix]:
        """The columns' matrices the other way round, [F, N]."""
        return {
            name: sparse.csr_array(matrix.T) if sparse.issparse(matrix) else matrix.T
            for name, matrix in self.columns.items()
        }

    def on(self, axis: NDArray[np.int32]) -> "Described":
        """Return the description of the items of an ascending axis [I], in its order; of the others nothing."""
        places = np.minimum(np.searchsorted(axis, self.idx), max(len(axis) - 1, 0))
        own = np.flatnonzero(axis[places] == self.idx) if len(axis) else np.empty(0, np.int64)
        shape = (len(axis), len(self.idx))
        to_axis = sparse.csr_array((np.ones(len(own), np.float32), (places[own], own)), shape=shape)
        return Described(axis, {name: to_axis @ matrix for name, matrix in self.columns.items()})


def likeness(some: Described, others: Described, shares: Shares) -> NDArray[np.float32]:
    """Return [N, T]: how alike each of some items is to each of others."""
    total = np.zeros((len(some.idx), len(others.idx)), dtype=np.float32)
    for name, share in shares.items():
        found = some.columns[name] @ others.turned[name]
        total += np.float32(share) * (found.toarray() if sparse.issparse(found) else found)
    return total


def likeness_of_pairs(
    known: Described, first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]], shares: Shares
) -> NDArray[np.float32]:
    """Return [P]: how alike the items at places `first` [P] are to those at `second` [P]."""
    found = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        left, right = known.taken(first[part]).columns, known.taken(second[part]).columns
        found[part] = sum(share * _row_products(left[name], right[name]) for name, share in shares.items())
    return found


def _row_products(left: Matrix, right: Matrix) -> NDArray[np.float32]:
    if sparse.issparse(left):
        return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float32).ravel()
    return np.asarray(np.einsum("pf,pf->p", left, right), dtype=np.float32)
