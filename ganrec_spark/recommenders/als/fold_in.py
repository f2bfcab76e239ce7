"""One half-step of ALS: the vectors of one side's rows with the other side's vectors fixed, solved exactly.

Letters: I fixed vectors, D their length, B rows to solve, n ratings of a row. Folding a user in is the same step.
What all rows share is found in double precision, rows are solved in single: half the memory to go through, and as
exact as users need (docs/adr/0007).
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.integer[Any]]

# Rows are padded to one of these lengths, by their own length alone: a row's last bits do not depend on its block.
_WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
_CELLS = 2**21  # of a padded block: 8 MiB
_PART = 2**12


@dataclass(frozen=True)
class FixedSide:
    """The fixed vectors in the basis in which what all rows share is diagonal.

    Implicit ALS adds Y'Y of all vectors Y to every row's matrix; with Y'Y = Q diag(e) Q', `vectors` are Y Q [I, D],
    `eigenvalues` e [D], `rotation` Q [D, D]. Explicit ALS adds nothing: Q = 1, e = 0.
    """

    vectors: Floats
    eigenvalues: NDArray[np.float64]
    rotation: NDArray[np.float64]


def fixed_side(vectors: NDArray[np.floating[Any]], implicit: bool) -> FixedSide:
    """Return `vectors` [I, D], zeros where there is none, ready for `fold_in`."""
    given = np.asarray(vectors, dtype=np.float32)
    size = given.shape[1]
    if not implicit:
        return FixedSide(given, np.zeros(size), np.eye(size))
    # In parts of one size, added in one order: the same bits however many threads there are.
    parts = [given[start : start + _PART] for start in range(0, max(len(given), 1), _PART)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        gram = reduce(np.add, pool.map(_squared, parts))
        eigenvalues, rotation = np.linalg.eigh(gram)
        single = rotation.astype(np.float32)
        rotated = np.concatenate(list(pool.map(lambda part: part @ single, parts)))
    return FixedSide(rotated, np.maximum(eigenvalues, 0.0), rotation)


def _squared(vectors: Floats) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    return np.asarray(exact.T @ exact)


def fold_in(
    side: FixedSide,
    items: Sequence[Ints],
    ratings: Sequence[NDArray[Any]],
    regularisation: float,
    alpha: float,
    implicit: bool,
) -> NDArray[np.float32]:
    """Return the vectors [B, D] of rows with the given ratings of fixed vectors.

    `items[b]` are rows of the fixed side and `ratings[b]` their ratings. Implicit (Hu et al. 2008, eq. 4, as MLlib):
    confidence 1 + alpha * |r|, preference 1 where r > 0, ridge regularisation * number of r > 0. Explicit: squared
    error, ridge regularisation * number of ratings. A row without (positive) ratings gets zeros.

    MLlib solves users last, so folding a training user in gives back its fitted vector.
    """
    size = len(side.eigenvalues)
    # Double: a product of matrices rounds by its shape, which single precision would show.
    solved = np.zeros((len(items), size))
    lengths = np.array([len(row) for row in items], dtype=np.int64)
    for rows, width in _blocks(lengths, size):
        indices = np.zeros((len(rows), width), dtype=np.int64)
        values = np.zeros((len(rows), width), dtype=np.float32)
        given = np.arange(width) < lengths[rows, None]
        indices[given] = np.concatenate([items[row] for row in rows])
        values[given] = np.concatenate([ratings[row] for row in rows])
        positive = values > 0
        extra = np.float32(alpha) * np.abs(values) if implicit else given.astype(np.float32)
        target = np.where(positive, 1 + extra, np.float32(0)) if implicit else values
        ridge = regularisation * (positive if implicit else given).sum(axis=1)
        vectors = side.vectors[indices]
        solve = _by_ratings if width <= size // 2 else _by_factors
        diagonal = side.eigenvalues + np.where(ridge > 0, ridge, 1.0)[:, None]
        solved[rows] = solve(vectors, extra, target, diagonal.astype(np.float32))
    return np.asarray(solved @ side.rotation.T, dtype=np.float32)


def _blocks(lengths: NDArray[np.int64], size: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield row numbers and the width that they are padded to; long rows come alone, as long as they are."""
    padded = lengths.copy()
    short = lengths <= _WIDTHS[-1]
    padded[short] = _WIDTHS[np.searchsorted(_WIDTHS, lengths[short])]
    order = np.argsort(padded, kind="stable")
    for width in np.unique(padded):
        rows = order[np.searchsorted(padded[order], width) : np.searchsorted(padded[order], width, side="right")]
        step = max(1, _CELLS // int(width * size)) if width <= _WIDTHS[-1] else 1
        for start in range(0, len(rows), step):
            yield rows[start : start + step], int(width)


def _by_ratings(vectors: Floats, extra: Floats, target: Floats, diagonal: Floats) -> Floats:
    """Solve (G + V' C V) x = V' t for G diagonal [B, D] and V [B, n, D] by systems of size n.

    With W = sqrt(C) V: x = G^-1 W' (1 + W G^-1 W')^-1 C^-1/2 t (push-through identity). Nothing is subtracted, so
    large confidences cost no digits, as they would in Woodbury's form.
    """
    root = np.sqrt(extra)
    weighted = vectors * root[:, :, None]
    inverse = 1 / diagonal
    system = np.matmul(weighted * inverse[:, None, :], weighted.transpose(0, 2, 1))
    system += np.eye(vectors.shape[1], dtype=np.float32)
    # What has no confidence has no target either.
    wanted = np.divide(target, root, out=np.zeros_like(target), where=root > 0)
    solved = np.linalg.solve(system, wanted[:, :, None])
    return np.asarray(inverse * np.matmul(solved.transpose(0, 2, 1), weighted)[:, 0])


def _by_factors(vectors: Floats, extra: Floats, target: Floats, diagonal: Floats) -> Floats:
    """Solve the same systems as they stand, of size D.

    A whole block a call, in which NumPy lets other threads run.
    """
    weighted, corner = vectors * np.sqrt(extra)[:, :, None], np.arange(diagonal.shape[1])
    system = np.matmul(weighted.transpose(0, 2, 1), weighted)
    system[:, corner, corner] += diagonal
    solved = np.linalg.solve(system, np.matmul(target[:, None, :], vectors).transpose(0, 2, 1))[:, :, 0]
    if not np.isfinite(solved).all():
        raise np.linalg.LinAlgError("ALS: a row's system has no finite solution; look for ratings not finite")
    return np.asarray(solved)
