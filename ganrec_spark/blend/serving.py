"""The list that one user is given: filters, filling up, where each item came from and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.blend.weights import fill_up

Items = NDArray[np.integer[Any]]

NO_REASON = -1


@dataclass(frozen=True)
class Catalogue:
    """What serving knows of items, I of them by index.

    `popular`: the catalogue, most popular first. `allowed` [I]: available and not blocked; only items of the
    catalogue. `indptr` [I + 1] and `neighbours`: the history items that speak for each item, strongest first.
    """

    popular: Items
    allowed: NDArray[np.bool_]
    indptr: Items
    neighbours: Items

    @cached_property
    def n_allowed(self) -> int:
        """Number of allowed items."""
        return int(self.allowed.sum())


@dataclass(frozen=True)
class Served:
    """One user's list, best first, with parallel arrays, and how many items were left to choose from.

    `members`: bit m is set where member m lists the item and has a weight; 0 where a popular item fills up.
    `because`: the history item that speaks most for it, NO_REASON where none does. `n_unseen` counts the catalogue
    without what the user has seen, `n_available` those of them that are allowed.
    """

    items: Items
    scores: NDArray[np.float64]
    members: Items
    because: Items
    n_unseen: int
    n_available: int


def final_list(
    blended: tuple[NDArray[np.int64], NDArray[np.float64]],
    ranked: Sequence[Items],
    weights: NDArray[np.float64],
    constant: float,
    tail: Items,
    seen: Items,
    disliked: Items,
    catalogue: Catalogue,
    n: int,
) -> Served:
    """Cut `blended`, the items and scores of the blend of `ranked`, without seen, disliked and forbidden items, to n.

    Filled up from `tail`, popular items that the user has not seen; where they do not suffice, the whole catalogue is
    searched, so the list is short only where fewer than n allowed items are left.
    """
    gone = np.union1d(seen, disliked)
    for popular in (tail, catalogue.popular):
        items, scores = fill_up(*blended, popular, constant)
        kept = catalogue.allowed[items] & ~np.isin(items, gone)
        items, scores = items[kept][:n], scores[kept][:n]
        if len(items) == n:
            break
    members = np.zeros(len(items), dtype=np.int32)
    for member, (listed, weight) in enumerate(zip(ranked, weights, strict=True)):
        if weight > 0:
            members |= np.isin(items, listed).astype(np.int32) << member
    because = np.where(members > 0, explain(items, seen, catalogue), NO_REASON)
    return Served(
        items,
        scores,
        members,
        because,
        len(catalogue.popular) - len(gone),
        catalogue.n_allowed - int(catalogue.allowed[gone].sum()),
    )


def explain(items: Items, history: Items, catalogue: Catalogue) -> Items:
    """Return, for each of `items`, the history item that speaks most for it, or NO_REASON."""
    starts, stops = catalogue.indptr[items], catalogue.indptr[items + 1]
    stored = [catalogue.neighbours[start:stop] for start, stop in zip(starts, stops, strict=True)]
    because = np.full(len(items), NO_REASON, dtype=np.int32)
    if stored:
        flat, owners = np.concatenate(stored), np.repeat(np.arange(len(items)), stops - starts)
        found = np.flatnonzero(np.isin(flat, history))
        explained, first = np.unique(owners[found], return_index=True)
        because[explained] = flat[found[first]]
    return because
