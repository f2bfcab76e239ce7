"""One half-step of ALS: the vectors of one side's rows with the other side's vectors fixed.

Rows are solved exactly, or go on from the vectors that they had by a few steps of conjugate gradients (Takacs,
Pilaszy & Tikk 2011), which is enough while the other side still moves. Folding a user in is the exact step.

Letters: I fixed vectors, D their length, B rows to solve, n ratings of a row. What all rows share is found in double
precision, rows are solved in single: half the memory to go through, and as exact as users need (docs/adr/0007).
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
_CELLS = 2**13  # ratings of a padded block: of fewer, threads would wait for Python's lock
_PART = 2**12
_STEPS = 3  # of conjugate gradients


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


class PaddedRows:
    """The ratings of B rows, padded to a few widths once, to be solved with many vectors of the other side."""

    def __init__(self, lengths: Ints, items: Ints, ratings: NDArray[Any]) -> None:
        """Take the rows one after the other: `items` are rows of the fixed side, `ratings` their ratings."""
        self.n, self._last = len(lengths), int(np.max(items, initial=-1))
        self._blocks = list(_padded(np.asarray(lengths, dtype=np.int64), items, ratings))

    def solve(
        self,
        side: FixedSide,
        regularisation: float,
        alpha: float,
        implicit: bool,
        start: Floats | None = None,
        threads: int = 1,
    ) -> Floats:
        """Return the vectors [B, D] of the rows; see `fold_in`. With `start` [B, D] it goes on from there."""
        if self._last >= len(side.vectors):  # blocks are read without a look at each index
            raise IndexError(f"ALS: expected indices below the {len(side.vectors)} fixed vectors, found {self._last}")
        solved = np.zeros((self.n, len(side.eigenvalues)), dtype=np.float32)

        def put(block: _Block) -> None:
            went_from = None if start is None else start[block.rows]
            solved[block.rows] = _solved(block, side, regularisation, alpha, implicit, went_from)

        if threads == 1:
            for block in self._blocks:
                put(block)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(put, self._blocks))
        return solved


def fold_in(
    side: FixedSide,
    items: Sequence[Ints],
    ratings: Sequence[NDArray[Any]],
    regularisation: float,
    alpha: float,
    implicit: bool,
) -> Floats:
    """Return the vectors [B, D] of rows with the given ratings of fixed vectors.

    `items[b]` are rows of the fixed side and `ratings[b]` their ratings. Implicit (Hu et al. 2008, eq. 4, as MLlib):
    confidence 1 + alpha * |r|, preference 1 where r > 0, ridge regularisation * number of r > 0. Explicit: squared
    error, ridge regularisation * number of ratings. A row without (positive) ratings gets zeros.

    MLlib solves users last, so folding a training user in gives back its fitted vector.
    """
    lengths = np.array([len(row) for row in items], dtype=np.int64)
    flat = [np.concatenate([*side_of, np.empty(0, dtype=kind)]) for side_of, kind in ((items, int), (ratings, float))]
    return PaddedRows(lengths, flat[0].astype(np.int64), flat[1]).solve(side, regularisation, alpha, implicit)


@dataclass(frozen=True)
class _Block:
    """Rows of one width n: their numbers [B] and lengths [B], items [B, n] and ratings [B, n], zeros beyond."""

    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    items: NDArray[np.int32]
    ratings: Floats


def _padded(lengths: NDArray[np.int64], items: Ints, ratings: NDArray[Any]) -> Iterator[_Block]:
    """Yield rows by the width that they are padded to; long rows come alone, as long as they are."""
    widths = lengths.copy()
    short = lengths <= _WIDTHS[-1]
    widths[short] = _WIDTHS[np.searchsorted(_WIDTHS, lengths[short])]
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(widths, kind="stable")
    for width in np.unique(widths).tolist():
        rows = order[np.searchsorted(widths[order], width) : np.searchsorted(widths[order], width, side="right")]
        step = max(1, _CELLS // width) if width <= _WIDTHS[-1] else 1
        for part in (rows[first : first + step] for first in range(0, len(rows), step)):
            given = np.arange(width) < lengths[part, None]
            places = (starts[part, None] + np.arange(width))[given]
            block = _Block(
                part, lengths[part], np.zeros(given.shape, dtype=np.int32), np.zeros(given.shape, dtype=np.float32)
            )
            block.items[given] = items[places]
            block.ratings[given] = ratings[places]
            yield block


def _solved(
    block: _Block, side: FixedSide, regularisation: float, alpha: float, implicit: bool, start: Floats | None
) -> NDArray[np.float64]:
    """Return the vectors [B, D] of a block's rows."""
    given = np.arange(block.items.shape[1]) < block.lengths[:, None]
    positive = block.ratings > 0
    extra = np.float32(alpha) * np.abs(block.ratings) if implicit else given.astype(np.float32)
    target = np.where(positive, 1 + extra, np.float32(0)) if implicit else block.ratings
    ridge = regularisation * (positive if implicit else given).sum(axis=1)
    vectors = np.take(side.vectors, block.items, axis=0, mode="clip")  # not to check each index: twice as fast
    diagonal = (side.eigenvalues + np.where(ridge > 0, ridge, 1.0)[:, None]).astype(np.float32)
    # Double: a product of matrices rounds by its shape, which single precision would show.
    if start is not None:
        rotated = (start.astype(np.float64) @ side.rotation).astype(np.float32)
        found = _by_steps(vectors, extra, target, diagonal, rotated)
    else:
        solve = _by_ratings if block.items.shape[1] <= len(side.eigenvalues) // 2 else _by_factors
        found = solve(vectors, extra, target, diagonal)
    if not np.isfinite(found).all():
        raise np.linalg.LinAlgError("ALS: a row's system has no finite solution; look for ratings not finite")
    return np.asarray(found.astype(np.float64) @ side.rotation.T)


def _by_steps(vectors: Floats, extra: Floats, target: Floats, diagonal: Floats, start: Floats) -> Floats:
    """Go on from `start` [B, D] towards the solution of (G + V' C V) x = V' t, G diagonal [B, D], V [B, n, D].

    Conjugate gradients, preconditioned by the matrix's diagonal. What all rows share is diagonal, so a step costs two
    passes over the row's vectors and nothing of D squared.
    """
    strength = 1 / (diagonal + _sums(extra, vectors * vectors))
    found = start.copy()
    residual = _sums(target - extra * _seen(vectors, found), vectors) - diagonal * found
    direction = strength * residual
    left = np.einsum("bd,bd->b", residual, direction)
    for _ in range(_STEPS):
        product = _sums(extra * _seen(vectors, direction), vectors) + diagonal * direction
        length = np.einsum("bd,bd->b", direction, product)
        share = np.divide(left, length, out=np.zeros_like(left), where=length > 0)[:, None]
        found += share * direction
        residual -= share * product
        towards = strength * residual
        before, left = left, np.einsum("bd,bd->b", residual, towards)
        direction = towards + np.divide(left, before, out=np.zeros_like(left), where=before > 0)[:, None] * direction
    return found


def _seen(vectors: Floats, own: Floats) -> Floats:
    """Return V x of each row [B, n]."""
    return np.asarray(np.matmul(vectors, own[:, :, None])[:, :, 0])


def _sums(weights: Floats, vectors: Floats) -> Floats:
    """Return V' w of each row [B, D]."""
    return np.asarray(np.matmul(weights[:, None, :], vectors)[:, 0])


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
    return np.asarray(np.linalg.solve(system, np.matmul(target[:, None, :], vectors).transpose(0, 2, 1))[:, :, 0])
