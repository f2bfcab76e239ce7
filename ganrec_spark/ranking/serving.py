"""The list that one user is given: filters, filling up, where each item came from and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.ranking.blend import fuse

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

    `sources`: bit m is set where member m lists the item and has a weight; 0 where a popular item fills up.
    `because`: the history item that speaks most for it, NO_REASON where none does. `n_unseen` counts the catalogue
    without what the user has seen, `n_available` those of them that are allowed.
    """

    items: Items
    scores: NDArray[np.float64]
    sources: Items
    because: Items
    n_unseen: int
    n_available: int


def final_list(
    ranked: Sequence[Items],
    weights: NDArray[np.float64],
    constant: float,
    tail: Items,
    seen: Items,
    catalogue: Catalogue,
    n: int,
) -> Served:
    """Blend `ranked`, one list per member, without seen and forbidden items; fill up to n from `tail`.

    `tail` are the user's own popularity candidates; where they do not suffice, the whole catalogue is searched, so
    the list is short only where fewer than n allowed items are left.
    """
    for popular in (tail, catalogue.popular):
        items, scores = fuse(ranked, weights, constant, popular)
        kept = catalogue.allowed[items] & ~np.isin(items, seen)
        items, scores = items[kept][:n], scores[kept][:n]
        if len(items) == n:
            break
    sources = np.zeros(len(items), dtype=np.int32)
    for member, (listed, weight) in enumerate(zip(ranked, weights, strict=True)):
        if weight > 0:
            sources |= np.isin(items, listed).astype(np.int32) << member
    because = [
        explain(item, seen, catalogue) if source else NO_REASON for item, source in zip(items, sources, strict=True)
    ]
    return Served(
        items,
        scores,
        sources,
        np.array(because, dtype=np.int32),
        len(catalogue.popular) - len(seen),
        catalogue.n_allowed - int(catalogue.allowed[seen].sum()),
    )


def explain(item: int, history: Items, catalogue: Catalogue) -> int:
    """Return the history item that speaks most for `item`, or NO_REASON."""
    neighbours = catalogue.neighbours[catalogue.indptr[item] : catalogue.indptr[item + 1]]
    found = np.flatnonzero(np.isin(neighbours, history))
    return int(neighbours[found[0]]) if len(found) else NO_REASON
