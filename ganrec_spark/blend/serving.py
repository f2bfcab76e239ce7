"""The list that one user is given: filters, filling up, where each item came from and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.blend.weights import fill_up
from ganrec_spark.experiment.explore import Exploration, explored
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.rules.keeping import ListRules, Quota, bits

Items = NDArray[np.integer[Any]]

NO_REASON = -1
# The bits of Served.members that stand for what is no member: popularity, which may be what an arm lists, lists by
# attributes, and new items.
POPULARITY_BIT, ALIKE_BIT, NEW_BIT = (1 << len(MEMBER_NAMES) + bit for bit in range(3))


@dataclass(frozen=True)
class Catalogue:
    """What serving knows of items, I of them by index.

    `popular`: the catalogue, most popular first. `allowed` [I]: available and not blocked; only items of the
    catalogue, and new ones where lists have places for them. `indptr` [I + 1] and `neighbours`: the history items that
    speak for each item, strongest first.
    """

    popular: Items
    allowed: NDArray[np.bool_]
    indptr: Items
    neighbours: Items

    @cached_property
    def listable(self) -> NDArray[np.bool_]:
        """The allowed items of the catalogue [I]: those that any list may have, which new ones do not count among."""
        mask = np.zeros(len(self.allowed), dtype=np.bool_)
        mask[self.popular] = True
        return mask & self.allowed

    @cached_property
    def n_allowed(self) -> int:
        """Number of allowed items of the catalogue."""
        return int(self.listable.sum())


@dataclass(frozen=True)
class Offer:
    """What one user is offered, before anything is taken out.

    `blended`: items and scores, best first, of the blend of `ranked` by `weights`; the items of `tail`, which the user
    has not seen, follow. `filler`: the bits of Served.members for what follows. `new`: items that nobody has rated,
    and scores, best first.
    """

    blended: tuple[NDArray[np.int64], NDArray[np.float64]]
    ranked: Sequence[Items]
    weights: NDArray[np.float64]
    tail: Items
    filler: int = 0
    new: tuple[Items, NDArray[np.float64]] = (np.empty(0, dtype=np.int64), np.empty(0))


@dataclass(frozen=True)
class Terms:
    """What holds for one user's list beside what they have seen and dislike.

    `barred`: by rule of rules.keeping.PER_USER the items that this user is not listed. `exploration`: None where
    nothing is drawn. `new_slots`: places for new items at the end of the list, before those that are drawn.
    """

    rules: ListRules = field(default_factory=ListRules)
    barred: Mapping[str, Items] = field(default_factory=dict)
    exploration: Exploration | None = None
    user_idx: int = 0
    new_slots: int = 0


@dataclass(frozen=True)
class Served:
    """One user's list, best first, with parallel arrays, and how many items were left to choose from.

    `members`: bit m is set where member m lists the item and has a weight; Offer.filler where a popular item fills up,
    NEW_BIT of a new item.
    `because`: the history item that speaks most for it, NO_REASON where none does. `propensities`: the chance that each
    was drawn, given what stands above; 1 where nothing was. `changed`: rules.keeping.bits of the rules without which
    the list would be another. `n_unseen` counts the catalogue without what the user has seen, `n_available` those of
    them that are allowed.
    """

    items: Items
    scores: NDArray[np.float64]
    members: Items
    because: Items
    propensities: NDArray[np.float64]
    changed: int
    n_unseen: int
    n_available: int


def final_list(
    offer: Offer, constant: float, seen: Items, disliked: Items, catalogue: Catalogue, n: int, terms: Terms
) -> Served:
    """Cut the offer, without seen, disliked and forbidden items, by its rules to n.

    Filled up from its tail; where that does not suffice, the whole catalogue is searched, so the list is short only
    where fewer than n items may be listed.
    """
    gone = np.union1d(seen, disliked)
    rules, drawn = terms.rules, terms.exploration
    untouched = ~np.isin(offer.new[0], gone)
    own_new = offer.new[0][untouched], offer.new[1][untouched]
    above = max(0, n - terms.new_slots - (drawn.slots if drawn else 0))

    def listed(without: str = "") -> tuple[Items, NDArray[np.float64], NDArray[np.int64]]:
        """Return what may be listed, with scores, and the places of the n best that the quota admits."""
        for popular in (offer.tail, catalogue.popular):
            items, scores = fill_up(*offer.blended, popular, constant)
            unknown = ~np.isin(items, gone)
            found = rules.candidates(items[unknown], scores[unknown], catalogue.allowed, terms.barred, without)
            if terms.new_slots:
                fresh = rules.candidates(*own_new, catalogue.allowed, terms.barred, without)
                found = with_new_items(*found, fresh[0], above, terms.new_slots, rules.quota(without))
            places = rules.quota(without).first(found[0], n)
            if len(places) == n:
                break
        return *found, places

    items, scores, places = listed()
    others = {rule: listed(rule) for rule in rules.names}
    changed = [rule for rule, (own, _, kept) in others.items() if not np.array_equal(own[kept], items[places])]
    propensities = np.ones(len(places))
    if drawn:
        places, propensities = explored(items, scores, n, drawn, terms.user_idx, rules.quota())
    items, scores = items[places], scores[places]
    members = np.zeros(len(items), dtype=np.int32)
    for member, (ranked, weight) in enumerate(zip(offer.ranked, offer.weights, strict=True)):
        if weight > 0:
            members |= np.isin(items, ranked).astype(np.int32) << member
    if terms.new_slots:
        members[np.isin(items, own_new[0])] = NEW_BIT
    because = np.where(members > 0, explain(items, seen, catalogue), NO_REASON)
    barred = np.unique(np.concatenate([gone, *terms.barred.values()])) if terms.barred else gone
    return Served(
        items,
        scores,
        np.where(members > 0, members, offer.filler).astype(np.int32),
        because,
        propensities,
        bits(changed),
        len(catalogue.popular) - len(gone),
        catalogue.n_allowed - int(catalogue.listable[barred].sum()),
    )


def with_new_items(
    items: Items, scores: NDArray[np.float64], new: Items, above: int, slots: int, quota: Quota
) -> tuple[Items, NDArray[np.float64]]:
    """Return the list with the first new items that the quota admits, at most `slots`, behind `above` of its own.

    What an item that nobody has rated scores is on no common scale: it takes over the score of what stands above.
    """
    head = quota.first(items, above)
    fresh = new[quota.first(new, slots)]
    if not len(fresh):
        return items, scores
    rest = np.setdiff1d(np.arange(len(items)), head)
    level = scores[head[-1]] if len(head) else scores.max(initial=0.0)
    return (
        np.concatenate([items[head], fresh, items[rest]]),
        np.concatenate([scores[head], np.full(len(fresh), level), scores[rest]]),
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
