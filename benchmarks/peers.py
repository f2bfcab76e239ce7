"""The peers that our recommenders are measured against, fitted from a matrix of ratings, without Spark.

EASE and RP3beta are written anew here, so that they are a second opinion on ours; ALS and BPR are those of `implicit`.
Letters: U users, I items. Every peer gives scores [B, I] to a block of users. None of them sees the order of ratings;
those that do have an environment of their own (sequential_peers.py).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack
from search import Setting
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float32]
Score = Callable[[slice], Floats]


@dataclass(frozen=True)
class Peer:
    """A named model, the settings to try, and how it is fitted: ratings [U, I], a setting and a seed to a `Score`.

    Of more than `max_items` items it cannot be fitted on one machine. `sees_order`: the ratings' order counts.
    """

    name: str
    settings: tuple[Setting, ...]
    fit: Callable[[sparse.csr_matrix, Setting, int], Score]
    max_items: int = 10**9
    sees_order: bool = False


def popularity(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Score items by their number of ratings, for everyone."""
    counts = ratings.getnnz(axis=0).astype(np.float32)
    return lambda block: np.tile(counts, (block.stop - block.start, 1))


def ease(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Fit EASE (Steck 2019, equation 8): B = I - P diag(1 / diag P), P = (X'X + lambda)^-1.

    One matrix [I, I] of float32 is all it needs (6.7 GB with 40,981 items): made in blocks, inverted in place.
    """
    binary = _binary(ratings)
    weights = gram_matrix(binary, setting["lambda"])
    invert(weights)
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0.0)
    return lambda block: np.asarray(binary[block] @ weights)


def gram_matrix(binary: sparse.csr_matrix, ridge: float, size: int = 2048) -> Floats:
    """Return X'X + ridge I as [I, I] float32, made in blocks of `size` columns so that no second one is needed."""
    n_items = binary.shape[1]
    items = binary.T.tocsr()
    gram = np.empty((n_items, n_items), dtype=np.float32)
    for block in blocks(n_items, size):
        gram[block] = (items[block] @ binary).toarray()
    gram[np.diag_indices(n_items)] += ridge
    return gram


def invert(matrix: Floats, size: int = 2048) -> None:
    """Replace a symmetric positive definite float32 matrix by its inverse, in the same memory (Cholesky's)."""
    # A symmetric matrix is its own transpose, and that of a C array is what LAPACK overwrites without a copy.
    factor, failed = lapack.spotrf(matrix.T, lower=False, overwrite_a=True)
    if not failed:
        inverse, failed = lapack.spotri(factor, lower=False, overwrite_c=True)
    if failed:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite in float32 (LAPACK's info {failed})")
    if not np.shares_memory(inverse, matrix):
        matrix[:] = inverse.T
    # Only one triangle is written: matrix[row, column] with row >= column; mirror it.
    for rows in blocks(len(matrix), size):
        for columns in blocks(rows.stop, size):
            part = matrix[rows, columns]
            if rows == columns:
                part = matrix[rows, columns] = np.tril(part) + np.tril(part, -1).T
            else:
                matrix[columns, rows] = part.T


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


def implicit_bpr(ratings: sparse.csr_matrix, setting: Setting, seed: int) -> Score:
    """Fit the `implicit` library's BPR (Rendle et al. 2009); its threads write without locks, so no fit is repeated."""
    from implicit.bpr import BayesianPersonalizedRanking
    from implicit.recommender_base import ModelFitError

    model = BayesianPersonalizedRanking(**setting, random_state=seed, use_gpu=False)
    try:
        model.fit(_binary(ratings), show_progress=False)
    except ModelFitError:  # it diverged: a search that steps past the edge gets there
        return lambda block: np.zeros((block.stop - block.start, ratings.shape[1]), dtype=np.float32)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)  # both have a column for the bias
    return lambda block: np.asarray(users[block] @ items.T)


def _product(**choices: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values()))


PEERS = (
    Peer("popularity", ({},), popularity),
    Peer("EASE", _product(**{"lambda": (10, 30, 100, 300, 1000, 3000)}), ease, max_items=41_000),
    Peer("RP3beta", _product(alpha=(0.4, 0.7, 1.0, 1.3), beta=(0.0, 0.2, 0.4, 0.6, 0.8)), rp3beta),
    Peer(
        "implicit ALS",
        _product(factors=(64, 128, 256), regularization=(0.01, 0.1, 1.0, 10.0), alpha=(1.0, 5.0, 20.0)),
        implicit_als,
    ),
    Peer(
        "implicit BPR",
        _product(
            factors=(64, 128, 256),
            learning_rate=(0.01, 0.03, 0.1),
            regularization=(0.001, 0.01, 0.1),
            iterations=(50, 100, 200),
        ),
        implicit_bpr,
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
