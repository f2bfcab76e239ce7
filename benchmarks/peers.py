"""The peers that our recommenders are measured against, fitted from a matrix of ratings, without Spark.

EASE and RP3beta are written anew here, so that they are a second opinion on ours; ALS is that of `implicit`.
Letters: U users, I items. Every peer gives scores [B, I] to a block of users.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float32]
Setting = dict[str, Any]
Score = Callable[[slice], Floats]


@dataclass(frozen=True)
class Peer:
    """A named model, the settings to try, and how it is fitted: ratings [U, I], a setting and a seed to a `Score`.

    Of more than `max_items` items it cannot be fitted on one machine.
    """

    name: str
    settings: tuple[Setting, ...]
    fit: Callable[[sparse.csr_matrix, Setting, int], Score]
    max_items: int = 10**9


def popularity(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Score items by their number of ratings, for everyone."""
    counts = ratings.getnnz(axis=0).astype(np.float32)
    return lambda block: np.tile(counts, (block.stop - block.start, 1))


def ease(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Fit EASE (Steck 2019, equation 8): B = I - P diag(1 / diag P), P = (X'X + lambda)^-1."""
    binary = _binary(ratings)
    gram = np.asarray((binary.T @ binary).todense(), dtype=np.float32)
    gram[np.diag_indices_from(gram)] += setting["lambda"]
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return lambda block: np.asarray(binary[block] @ weights)


def rp3beta(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Fit RP3beta (Paudel et al. 2017), the strongest 200 neighbours of each item kept."""
    binary = _binary(ratings)
    counts = np.maximum(binary.sum(axis=0).A1, 1.0)
    to_items = binary.multiply(1 / np.maximum(binary.sum(axis=1), 1.0)).tocsr()
    to_users = binary.T.multiply(1 / counts[:, None]).tocsr()
    to_items.data, to_users.data = to_items.data ** setting["alpha"], to_users.data ** setting["alpha"]
    walks = (to_users @ to_items).multiply(counts ** -setting["beta"]).tocsr()
    walks.setdiag(0)
    weights = _strongest(walks, 200)
    return lambda block: np.asarray((binary[block] @ weights).todense(), dtype=np.float32)


def implicit_als(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Fit the `implicit` library's ALS (Hu, Koren & Volinsky 2008) on confidence 1 + alpha for every rating."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(**setting, iterations=15, random_state=seed, use_gpu=False)
    # It has threads of its own: BLAS's beside them take about half of its speed.
    with threadpool_limits(1, "blas"):
        model.fit(_binary(ratings), show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda block: np.asarray(users[block] @ items.T)


def _product(**choices: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values()))


PEERS = (
    Peer("popularity", ({},), popularity),
    Peer("EASE", _product(**{"lambda": (10, 30, 100, 300, 1000, 3000)}), ease, max_items=20_000),
    Peer("RP3beta", _product(alpha=(0.4, 0.7, 1.0, 1.3), beta=(0.0, 0.2, 0.4, 0.6, 0.8)), rp3beta),
    Peer(
        "implicit ALS",
        _product(factors=(64, 128, 256), regularization=(0.01, 0.1, 1.0, 10.0), alpha=(1.0, 5.0, 20.0)),
        implicit_als,
    ),
)


def blocks(n_users: int, size: int = 512) -> Iterator[slice]:
    """Yield slices of at most `size` users."""
    for start in range(0, n_users, size):
        yield slice(start, min(start + size, n_users))


def _binary(ratings: sparse.csr_matrix) -> sparse.csr_matrix:
    binary = ratings.astype(np.float32)
    binary.data[:] = 1.0
    return binary


def _strongest(weights: sparse.csr_matrix, n: int) -> sparse.csr_matrix:
    """Return the matrix with each row's n largest entries."""
    kept = []
    for row in range(weights.shape[0]):
        span = slice(weights.indptr[row], weights.indptr[row + 1])
        best = np.argsort(-weights.data[span], kind="stable")[:n] + span.start
        kept.append(np.sort(best))
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
    order = np.concatenate(kept).astype(np.int64)
    return sparse.csr_matrix((weights.data[order], weights.indices[order], indptr), shape=weights.shape)
