"""Weighted fusion of several ranked lists, and the settings that its weights are chosen from.

score(item) = sum over members m of w_m * v_m(item), v_m by `place_values`; a member whose list lacks the item adds
nothing. Letters: M members, W weight settings, U items in any list.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Items = NDArray[np.integer[Any]]
Judge = Callable[[Floats], Floats]  # weights [W, M] -> NDCG@k of U users with each setting [U, W]

FUSIONS = ("ranks", "scores")
# The last of a list by scores is worth this much: more than an item that the list lacks.
_LEAST = 1e-3
_FEW_USERS = 1000  # up to so many, which of neighbouring weights is best is mostly luck
_TIE = 1e-9  # items of one score keep their order
_GRID_MEMBERS = 4  # in steps of .1 four members have 287 settings, six 3,004, eight 19,449
_STRIDES = np.array([-3, -1, 1, 3])  # steps that the ascent moves a member's weight by
# Weight of the popularity list that fills up a short list: small enough to come after every fused item.
TAIL_WEIGHT = 1e-6


def tried_settings(members: int, step: float, judge: Judge) -> tuple[Floats, Floats]:
    """Return settings [W, M] on the simplex, the most even first, and what `judge` says of them [U, W].

    Of few members the whole grid, of more what `ascent` comes by (docs/adr/0037). Corners are always among them.
    """
    if members > _GRID_MEMBERS:
        return ascent(members, step, judge)
    grid = weight_grid(members, step)
    return grid, judge(grid)


def ascent(members: int, step: float, judge: Judge) -> tuple[Floats, Floats]:
    """Return the settings that coordinate ascent on the simplex comes by, and what `judge` says of them, in that form.

    It starts at the best of equal weights and the corners. Each round judges the neighbours of the best setting so far:
    one member's weight moved by a few strides or to 0, the others' in proportion, at most 5 M settings. It ends where
    no neighbour is better on all users together.
    """
    settings = np.concatenate([np.full((1, members), 1 / members), np.eye(members)])
    ndcg = judge(settings)
    while len(ndcg):
        best = int(ndcg.mean(axis=0).argmax())
        new = _neighbours(settings, best, step)
        if not len(new):
            break
        found = judge(new)
        better = found.mean(axis=0).max() > ndcg[:, best].mean() + _TIE
        settings, ndcg = np.concatenate([settings, new]), np.concatenate([ndcg, found], axis=1)
        if not better:
            break
    order = np.argsort(np.round((settings**2).sum(axis=1), 9), kind="stable")
    return settings[order], ndcg[:, order]


def _neighbours(settings: Floats, place: int, step: float) -> Floats:
    """Return the neighbours [N, M] of one of the settings that are not among them."""
    weights = settings[place]
    new: list[Floats] = []
    for member, own in enumerate(weights):
        others = np.where(np.arange(len(weights)) == member, 0.0, weights)
        if not others.any():
            others = 1.0 - np.eye(len(weights))[member]
        for value in np.unique(np.clip([0.0, *(own + _STRIDES * step)], 0, 1)):
            setting = others / others.sum() * (1 - value)
            setting[member] = value
            if not any(np.allclose(setting, known, rtol=0, atol=_TIE) for known in (*settings, *new)):
                new.append(setting)
    return np.array(new).reshape(-1, len(weights))


def weight_grid(members: int, step: float) -> Floats:
    """Return [W, M] settings on the simplex in steps of about `step`, the corners and equal weights included.

    The most even settings come first, so that the first of several equally good settings leans on no member.
    """
    parts = max(1, math.ceil(1 / step - 1e-9))
    settings = {
        tuple(count / parts for count in counts)
        for counts in product(range(parts + 1), repeat=members)
        if sum(counts) == parts
    }
    settings.add(tuple([1 / members] * members))
    return np.array(sorted(settings, key=lambda weights: (sum(w * w for w in weights), weights)))


def place_values(scores: NDArray[np.floating[Any]], fusion: str, constant: float) -> Floats:
    """Return what each place of a list, best first, with these scores, is worth.

    ranks: 1 / (c + rank), rank from 1 (Cormack, Clarke & Buettcher 2009). scores: their place between the list's lowest
    (almost 0) and highest (1): how far ahead an item is counts, too.
    """
    if fusion == "ranks":
        return 1 / (constant + 1 + np.arange(len(scores)))
    exact = np.asarray(scores, dtype=np.float64)
    span = np.ptp(exact) if len(exact) else 0.0
    values = _LEAST + (1 - _LEAST) * (exact - exact.min()) / span if span > 0 else np.ones(len(exact))
    return np.asarray(values - _TIE * np.arange(len(exact)))


def by_item(lists: Sequence[Items], values: Sequence[Floats]) -> tuple[NDArray[np.int64], Floats]:
    """Return the items in any list, ascending [U], and the value of each in each list [M, U], 0 where absent."""
    items = np.unique(np.concatenate(lists)).astype(np.int64)
    table = np.zeros((len(lists), len(items)))
    for row, listed, worth in zip(table, lists, values, strict=True):
        row[np.searchsorted(items, listed)] = worth
    return items, table


def fused_scores(weights: Floats, values: Floats) -> Floats:
    """Return [W, U] from weights [W, M] and values [M, U].

    A plain sum in the members' order: a matrix product may round differently by shape, which would break ties.
    """
    total: Floats = weights[:, :1] * values[0]
    for member in range(1, len(values)):
        total = total + weights[:, member : member + 1] * values[member]
    return total


def fuse(lists: Sequence[Items], values: Sequence[Floats], weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return items and scores of the fused list, best first, ties by smaller item index.

    Items that only members of weight 0 list are left out, so weight 1 for one member gives that member's list.
    """
    items, table = by_item(lists, values)
    scores = fused_scores(weights[None, :], table)[0]
    items, scores = items[scores > 0], scores[scores > 0]
    order = np.lexsort((items, -scores))
    return items[order], scores[order]


def fill_up(items: NDArray[np.int64], scores: Floats, tail: Items, constant: float) -> tuple[NDArray[np.int64], Floats]:
    """Return the list with the items of `tail` (the popular ones) that it lacks behind it, in their order."""
    rest = tail[~np.isin(tail, items)].astype(np.int64)
    tail_scores = TAIL_WEIGHT / (constant + 1 + np.arange(len(rest)))
    return np.concatenate([items, rest]), np.concatenate([scores, tail_scores])


def grid_ndcg(lists: Sequence[Items], values: Sequence[Floats], relevant: Items, weights: Floats, k: int) -> Floats:
    """Return [W]: one user's NDCG@k of the list that each of the weight settings would fuse.

    Only the places of the held-out items are computed: 1 + items that score more, or as much with a smaller index.
    """
    gains = np.zeros(len(weights))
    # Most users' held-out items are in no list: nothing to fuse for them.
    if not np.isin(relevant, np.concatenate(lists)).any():
        return gains
    items, table = by_item(lists, values)
    scores = fused_scores(weights, table)
    for column in np.flatnonzero(np.isin(items, relevant)):
        own = scores[:, column : column + 1]
        ahead = (scores > own).sum(axis=1) + (scores[:, :column] == own).sum(axis=1)
        counts = (own[:, 0] > 0) & (ahead < k)
        gains += np.where(counts, 1 / np.log2(ahead + 2), 0.0)
    ideal = (1 / np.log2(np.arange(2, min(k, len(relevant)) + 2))).sum()
    return np.asarray(gains / ideal, dtype=np.float64)


def bagged(tried: Sequence[tuple[Floats, Floats]], resampled: Floats) -> tuple[int, Floats]:
    """Return a fusion and its weights [M], as many resamples of the users choose them on average.

    `tried` has for each fusion W settings [W, M] and NDCG@k of U users with them [U, W], `resampled` [U, S] how often
    each user counts in each of S samples (evaluation.bootstrap.poisson_weights). The fusion that is best in most
    samples is taken, and the mean of each sample's best settings: one in thirty of those tried with up to 1,000 users,
    fewer in proportion with more, the best alone with many. Where users are many all samples agree; where few they lie
    apart, and their mean leans to the middle: the best of many settings owes its place to luck, their mean owes less
    (bagging: Breiman 1996; of ensembles' weights: Caruana et al., ICML 2004).
    """
    sums = [np.round(resampled.T @ ndcg, 9) for _, ndcg in tried]  # of each fusion [S, W]
    winners = np.stack([own.max(axis=1) for own in sums]).argmax(axis=0)
    fusion = int(np.bincount(winners, minlength=len(tried)).argmax())
    settings, _ = tried[fusion]
    n_best = max(1, round(len(settings) / 30 * min(1.0, _FEW_USERS / max(1, len(resampled)))))
    best = np.argsort(-sums[fusion], axis=1, kind="stable")[:, :n_best]
    weights: Floats = settings[best].mean(axis=(0, 1))
    return fusion, weights
