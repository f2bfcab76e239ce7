"""Reorder a list towards the user's own mix of an attribute's values, or away from more of the same.

Place after place takes the item of the pool that is worth most given those above it:

    (1 - strength) * score + strength * gain,    scores between the pool's lowest (0) and highest (1).

calibration (Steck, RecSys 2018, equations 2 to 5): the gain is minus the Kullback-Leibler divergence of the list's mix,
with the item, from the mix of the user's history. diversity (MMR: Carbonell & Goldstein, SIGIR 1998): it is minus the
largest cosine between the item's values and those of an item above. Letters: N items of the pool, V values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.frames.ship import Shipped

Floats = NDArray[np.float64]
Items = NDArray[np.integer[Any]]
Ranked = tuple[NDArray[np.int64], Floats]  # items and scores, best first
Gain = Callable[[int | None], Floats]  # the item that was taken last, None at first -> the gain of each of the pool [N]

CALIBRATION, DIVERSITY = "calibration", "diversity"
MEASURES = {CALIBRATION: "divergence from users' own mix", DIVERSITY: "likeness within a list"}
_SMOOTHED = 0.01  # share of the user's own mix in that of the list, so that no divergence is endless


@dataclass(frozen=True)
class Variety:
    """How lists are reordered: the first `n` places from a pool of the first `pool` items; the rest keep their order.

    `values`: the shipped arrays indptr [I + 1] and codes: which values each of I items has, by index.
    """

    method: str
    strength: float
    n: int
    pool: int
    values: Shipped

    def reordered(self, rows: Sequence[Ranked], histories: Sequence[Items]) -> list[Ranked]:
        """Return the lists with items in another order; they take over the scores of their places.

        `histories`: the items that each user has rated; they count for calibration alone.
        """
        return [(self._reordered(*row, history), row[1]) for row, history in zip(rows, histories, strict=True)]

    def _reordered(self, items: NDArray[np.int64], scores: Floats, history: Items) -> NDArray[np.int64]:
        head, (known, own) = items[: self.pool], self._tables(items[: self.pool], history)
        worth = relative(scores[: self.pool])
        if self.method == CALIBRATION:
            order = calibrated(worth, known, mix_of(own), self.strength, self.n)
        else:
            order = diverse(worth, known, self.strength, self.n)
        return np.concatenate([head[order], items[self.pool :]])

    def measured(self, items: Items, history: Items) -> float:
        """Return what is to become less: the list's divergence, or the mean cosine of its pairs; NaN: none to tell."""
        known, own = self._tables(items, history)
        return divergence(known, mix_of(own)) if self.method == CALIBRATION else sameness(known)

    def _tables(self, items: Items, history: Items) -> tuple[Floats, Floats]:
        """Return [N, V] and [H, V] of items and history: 1 where it has the value, of the values that any has."""
        indptr, codes, slots = self.values["indptr"], self.values["codes"], len(self.values["indptr"]) - 1
        rows = np.concatenate([items, history]).astype(np.int64)
        known = rows < slots
        starts = indptr[np.where(known, rows, 0)]
        lengths = np.where(known, indptr[np.where(known, rows + 1, 0)] - starts, 0)
        owners = np.repeat(np.arange(len(rows)), lengths)
        places = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        values, columns = np.unique(codes[places], return_inverse=True)
        table = np.zeros((len(rows), len(values)))
        table[owners, columns] = 1.0
        return table[: len(items)], table[len(items) :]


def relative(scores: Floats) -> Floats:
    """Return the scores between their lowest (0) and highest (1); 1 where they are all the same."""
    span = np.ptp(scores) if len(scores) else 0.0
    return np.asarray((scores - scores.min()) / span) if span > 0 else np.ones(len(scores))


def mix_of(known: Floats) -> Floats:
    """Return [V]: what share each value has of the items that have any; one with several is shared among them."""
    shares = _shares(known)
    return np.asarray(shares.sum(axis=0) / max(1.0, shares.sum()))


def calibrated(worth: Floats, known: Floats, mix: Floats, strength: float, n: int) -> NDArray[np.int64]:
    """Return the order [N] of the pool: the first n places by Steck's greedy rule, then the others as they were.

    `mix` [V] of the history; without one nothing is reordered.
    """
    if not mix.any():
        return np.arange(len(worth))
    shares = _shares(known)[:, mix > 0]
    weighs = (known.sum(axis=1) > 0).astype(np.float64)
    mix = mix[mix > 0]
    total, valued = np.zeros(len(mix)), 0.0

    def gain(chosen: int | None) -> Floats:
        nonlocal total, valued
        if chosen is not None:
            total, valued = total + shares[chosen], valued + weighs[chosen]
        reached = (total + shares) / np.maximum(valued + weighs, 1.0)[:, None]
        return -_divergence(reached, mix)

    return _greedy(worth, gain, strength, n)


def diverse(worth: Floats, known: Floats, strength: float, n: int) -> NDArray[np.int64]:
    """Return the order [N] of the pool: the first n places by maximal marginal relevance, the others as they were."""
    like = _cosines(known)
    largest = np.zeros(len(worth))

    def gain(chosen: int | None) -> Floats:
        nonlocal largest
        if chosen is not None:
            largest = np.maximum(largest, like[chosen])
        return -largest

    return _greedy(worth, gain, strength, n)


def divergence(known: Floats, mix: Floats) -> float:
    """Return the divergence in nats of a list's mix [N, V] from that of a history [V]; NaN without a history's."""
    if not mix.any():
        return float("nan")
    own = mix > 0
    return float(_divergence(mix_of(known)[None, own], mix[own])[0])


def sameness(known: Floats) -> float:
    """Return the mean cosine of a list's pairs; NaN of a list of one."""
    n, like = len(known), _cosines(known)
    return float((like.sum() - np.trace(like)) / (n * (n - 1))) if n > 1 else float("nan")


def _greedy(worth: Floats, gain: Gain, strength: float, n: int) -> NDArray[np.int64]:
    left, order, chosen = np.ones(len(worth), dtype=np.bool_), [], None
    for _ in range(min(n, len(worth))):
        value = np.where(left, (1 - strength) * worth + strength * gain(chosen), -np.inf)
        chosen = int(value.argmax())  # of equals the one that stood higher
        left[chosen] = False
        order.append(chosen)
    return np.concatenate([np.array(order, dtype=np.int64), np.flatnonzero(left)])


def _divergence(reached: Floats, mix: Floats) -> Floats:
    """Return [N]: the divergence of each row of `reached` [N, V] from `mix` [V], whose values are above 0."""
    smoothed = (1 - _SMOOTHED) * reached + _SMOOTHED * mix
    return np.asarray((mix * np.log(mix / smoothed)).sum(axis=1))


def _shares(known: Floats) -> Floats:
    return np.asarray(known / np.maximum(known.sum(axis=1, keepdims=True), 1.0))


def _cosines(known: Floats) -> Floats:
    units = known / np.maximum(np.sqrt(known.sum(axis=1, keepdims=True)), 1.0)
    return np.asarray(units @ units.T)
