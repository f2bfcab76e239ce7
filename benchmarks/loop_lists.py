"""How the worlds of benchmarks/loop.py are listed to: the project's own pieces on arrays, without Spark.

Two members and what is trending are fused by reciprocal ranks, as a blend with equal weights: EASE
(recommenders.item_item.ease) and implicit ALS (recommenders.als.fold_in, both half-steps). A fill gives ALS what EASE
would list to users of few events, at a lower weight, as augment and merge do. There is no gate, no search, and no
Transformer.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from loop_world import Bools, Floats
from numpy.typing import NDArray

from ganrec_spark.blend.weights import place_values
from ganrec_spark.experiment.explore import Exploration, explored
from ganrec_spark.recommenders.als.fold_in import FixedSide, fixed_side, fold_in
from ganrec_spark.recommenders.item_item.ease import ease_weights
from ganrec_spark.rules.keeping import Quota
from ganrec_spark.seeding import stable_rng

_DAMPING, _CONSTANT = 20.0, 30.0
_FACTORS, _STEPS, _RIDGE, _ALPHA = 12, 4, 0.05, 10.0
SPARSE, FILLED, FILL_WEIGHT = 5, 10, 0.3
_FORGET = 0.7  # of what was trending, what counts a day later


@dataclass(frozen=True)
class Models:
    """What a day's lists are made from: EASE's weights [I, I], ALS's items, what is trending [I]."""

    weights: NDArray[np.float32]
    items: FixedSide
    trending: Floats
    fills: bool


def fitted(known: Bools, trending: Floats, fills: bool, seed: int) -> Models:
    """Fit both members on what users [U, I] did."""
    table = known.astype(np.float32)
    weights = ease_weights(table.T @ table, _DAMPING)
    rows, ratings = _rows(table, weights, fills)
    pairs = np.concatenate([np.stack([np.full(len(row), user), row]) for user, row in enumerate(rows)], axis=1)
    values = np.concatenate(ratings)
    order = np.lexsort((pairs[0], pairs[1]))
    starts = np.searchsorted(pairs[1][order], np.arange(known.shape[1] + 1))
    of_items = [order[begin:end] for begin, end in pairwise(starts)]
    users = stable_rng(seed, "als").standard_normal((len(known), _FACTORS)).astype(np.float32)
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    whose, theirs = [pairs[0][own] for own in of_items], [values[own] for own in of_items]
    items = fixed_side(fold_in(fixed_side(users, True), whose, theirs, _RIDGE, _ALPHA, True), True)
    for _ in range(_STEPS - 1):
        users = fold_in(items, rows, ratings, _RIDGE, _ALPHA, True)
        items = fixed_side(fold_in(fixed_side(users, True), whose, theirs, _RIDGE, _ALPHA, True), True)
    return Models(weights, items, trending, fills)


def _rows(
    table: NDArray[np.float32], weights: NDArray[np.float32], fills: bool
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Return each user's items and ratings as ALS reads them: what was done, and the fill of sparse users."""
    rows = [np.flatnonzero(row) for row in table]
    ratings = [np.ones(len(row), dtype=np.float32) for row in rows]
    if not fills:
        return rows, ratings
    sparse = [user for user, row in enumerate(rows) if 0 < len(row) <= SPARSE]
    scores = np.where(table[sparse] > 0, -np.inf, table[sparse] @ weights)
    for user, best in zip(sparse, np.argsort(-scores, axis=1, kind="stable")[:, :FILLED], strict=True):
        ratings[user] = np.concatenate([ratings[user], np.full(len(best), FILL_WEIGHT, dtype=np.float32)])
        rows[user] = np.concatenate([rows[user], best])
    return rows, ratings


def blended(models: Models, known: Bools, there: int) -> Floats:
    """Return scores [users, I] of the blend for the given histories, minus infinity for what may not be listed."""
    table = known.astype(np.float32)
    vectors = fold_in(models.items, *_rows(table, models.weights, models.fills), _RIDGE, _ALPHA, True)
    members = (table @ models.weights, vectors @ models.items.rotation.astype(np.float32) @ models.items.vectors.T)
    worth = place_values(np.zeros(known.shape[1]), "ranks", _CONSTANT)
    found = np.zeros(known.shape)
    for scores, weight in ((members[0], 1.0), (members[1], 1.0), (np.broadcast_to(models.trending, known.shape), 0.5)):
        place = np.argsort(np.argsort(-np.where(known, -np.inf, scores), axis=1, kind="stable"), axis=1)
        found += np.where(scores > 0, weight * worth[place], 0.0)  # what a member knows nothing of, it does not list
    found[known] = -np.inf
    found[:, there:] = -np.inf
    return found


def listed(scores: Floats, n: int, how: Exploration | None, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the n items [users, n] of each list, its last places drawn where `how` says so."""
    order = np.argsort(-scores, axis=1, kind="stable")
    if how is None:
        return np.asarray(order[:, :n])
    rows = []
    for user, own, ranked in zip(users, scores, order, strict=True):
        items = ranked[np.isfinite(own[ranked])]
        places, _ = explored(items, own[items], n, how, int(user), Quota(None))
        rows.append(items[places])
    return np.array(rows)


def forgotten(trending: Floats, clicks: Floats) -> Floats:
    """Return what is trending a day later."""
    return np.asarray(_FORGET * trending + clicks)
