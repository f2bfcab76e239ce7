"""What one user's list must keep, as arrays: who may be listed, what counts more, how many of a category."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

EXCLUDED, SHOWN, AVAILABLE, BLOCKED, BOOSTED, CATEGORY = RULES = (
    "excluded",
    "shown",
    "available",
    "blocked",
    "boosted",
    "category",
)
PER_USER = (EXCLUDED, SHOWN)


@dataclass(frozen=True)
class Categories:
    """The categories of each of I items: those of item i are `codes[starts[i] : starts[i + 1]]`; `most` in a list."""

    starts: Items
    codes: Items
    most: int

    def of(self, item: int) -> list[int]:
        """Return the item's categories; none where it has no category, or came later."""
        return [int(code) for code in self.codes[self.starts[item] : self.starts[item + 1]]]


class Quota:
    """How many of each category a list has so far; without categories everything fits."""

    def __init__(self, categories: Categories | None) -> None:
        self._categories = categories
        self._counts: dict[int, int] = {}

    def fits(self, items: Items) -> NDArray[np.bool_]:
        """Return for each item whether the list may have it beside what it has."""
        if self._categories is None:
            return np.ones(len(items), dtype=np.bool_)
        return np.array([self._fits(int(item)) for item in items], dtype=np.bool_)

    def take(self, item: int | np.integer[Any]) -> None:
        """Count an item that the list now has."""
        if self._categories is not None:
            for code in self._categories.of(int(item)):
                self._counts[code] = self._counts.get(code, 0) + 1

    def first(self, items: Items, n: int) -> NDArray[np.int64]:
        """Return the places of the first n items that fit beside each other, and count them."""
        if self._categories is None:
            return np.arange(min(n, len(items)))
        places: list[int] = []
        for place, item in enumerate(items):
            if len(places) == n:
                break
            if self._fits(int(item)):
                self.take(item)
                places.append(place)
        return np.array(places, dtype=np.int64)

    def _fits(self, item: int) -> bool:
        own = self._categories
        return own is None or all(self._counts.get(code, 0) < own.most for code in own.of(item))


@dataclass(frozen=True)
class ListRules:
    """The rules of a run that are set, by item index.

    `names`: which (of RULES). `lifted`: for the rules on items alone, which items [I] the others would allow. `factors`
    [I]: what scores are multiplied by, None where nothing is boosted.
    """

    names: tuple[str, ...] = ()
    lifted: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    factors: Floats | None = None
    categories: Categories | None = None

    def candidates(
        self, items: Items, scores: Floats, allowed: NDArray[np.bool_], barred: Mapping[str, Items], without: str = ""
    ) -> tuple[Items, Floats]:
        """Return what may be listed, best first: `items` that are `allowed` [I] and not `barred` to the user.

        `without` names a rule that is left out, to see what it changes.
        """
        kept = self.lifted.get(without, allowed)[items]
        for rule, own in barred.items():
            if rule != without:
                kept &= ~np.isin(items, own)
        items, scores = items[kept], scores[kept]
        if self.factors is None or without == BOOSTED:
            return items, scores
        scores = scores * self.factors[items]
        order = np.argsort(-scores, kind="stable")
        return items[order], scores[order]

    def quota(self, without: str = "") -> Quota:
        """Return the quota of a new list."""
        return Quota(None if without == CATEGORY else self.categories)


def bits(changed: Sequence[str]) -> int:
    """Return the names of rules as bits, in the order of RULES."""
    return sum(1 << RULES.index(rule) for rule in changed)
