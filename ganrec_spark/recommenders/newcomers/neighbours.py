"""What the rated items say of one that nobody has rated: its neighbours among them, by likeness.

Letters: N items, T items that are rated, K neighbours of one item. Who rates a new item is predicted from who rates its
K likest items: a kernel ridge regression on these alone, w = (L + s I)^-1 l, with L [K, K] their likeness to each
other, l [K] that to the new item, s the shrinkage (Saunders, Gammerman & Vovk, ICML 1998). Neighbours that say the same
share their weight, which sums of cosines would count twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ganrec_spark.attributes.likeness import Described, Shares, likeness
from ganrec_spark.frames.products import products
from ganrec_spark.frames.top_n import top_n

NEIGHBOURS = 100
_BLOCK = 256


def neighbours(
    new: Described, rated: Described, shares: Shares, shrinkage: float
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.float32]]]:
    """Return of each new item the places of its likest rated items among `rated`, likest first, and their weights.

    An item that is like none has none. Memory: 4 bytes x 256 x T.
    """
    places: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    for start in range(0, len(new.idx), _BLOCK):
        like = likeness(new.taken(slice(start, start + _BLOCK)), rated, shares)
        like[like <= 0] = -np.inf
        found, values = top_n(like, NEIGHBOURS)
        places += found
        weights += [_weights(rated, own, likest, shares, shrinkage) for own, likest in zip(found, values, strict=True)]
    return places, weights


def _weights(
    rated: Described, places: NDArray[np.int32], like: NDArray[np.float32], shares: Shares, shrinkage: float
) -> NDArray[np.float32]:
    if not len(places):
        return like
    system = shrinkage * np.eye(len(places))
    for name, share in shares.items():
        own = rated.columns[name][places]
        found = own @ own.T
        system += share * (found.toarray() if sparse.issparse(found) else found)
    return np.asarray(np.linalg.solve(system, like.astype(np.float64)), dtype=np.float32)


@dataclass(frozen=True)
class Predicted:
    """Who rates N new items: `weights` [N, I] of the rated items by index, `vectors` [N, D] in the space of ALS.

    `taste` is how much of the score is by vectors, which say what a user likes beyond the items that they have rated.
    """

    idx: NDArray[np.int32]
    weights: sparse.csr_array
    vectors: NDArray[np.float32]
    taste: float

    def scores(self, rows: sparse.csr_array, factors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [B, N] for users with rows [B, I] of 1 where they rated the item, and vectors of ALS [B, D]."""
        found = np.asarray((rows @ self.weights.T).toarray(), dtype=np.float32)
        if self.taste:
            found += np.float32(self.taste) * products(factors, self.vectors.T)
        return found


def predicted(
    idx: NDArray[np.int32],
    items: Sequence[NDArray[np.integer[Any]]],
    weights: Sequence[NDArray[Any]],
    table: NDArray[np.float32],
    taste: float,
) -> Predicted:
    """Return what is predicted of new items `idx` [N] by their neighbours' indices and weights.

    `table` [I, D]: vectors of ALS by item index, zeros where there is none, maybe not of the last items; a new item's
    is the weighted sum of those of its neighbours.
    """
    starts = np.concatenate([[0], np.cumsum([len(own) for own in items])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, np.int64), *items]).astype(np.int64)
    values = np.concatenate([np.empty(0, np.float32), *weights])
    n_items = max(len(table), 1 + int(flat.max(initial=-1)))  # the last ones may have no vector
    matrix = sparse.csr_array((values, flat, starts), shape=(len(idx), n_items))
    return Predicted(idx, matrix, np.asarray(matrix[:, : len(table)] @ table, dtype=np.float32), taste)
