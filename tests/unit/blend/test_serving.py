"""One user's list: filters, filling up, sources, explanations."""

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.blend.serving import NO_REASON, Catalogue, Offer, Served, Terms, final_list
from ganrec_spark.blend.weights import fuse, place_values

NONE = np.array([], dtype=np.int32)


def catalogue(blocked: tuple[int, ...] = ()) -> Catalogue:
    """Return ten items, 0 the most popular; 0 speaks for 5, and 1 more than 0 for 6."""
    allowed = np.ones(10, dtype=bool)
    allowed[list(blocked)] = False
    starts = np.array([0, 0, 0, 0, 0, 0, 1, 3, 3, 3, 3])
    return Catalogue(np.arange(10), allowed, starts, np.array([0, 1, 0]))


def served_list(
    lists: list[NDArray[np.int64]],
    weights: list[float],
    tail: list[int],
    seen: list[int],
    items: Catalogue,
    n: int,
    disliked: tuple[int, ...] = (),
) -> Served:
    shares = np.array(weights)
    blended = fuse(lists, [place_values(np.zeros(len(one)), "ranks", 30.0) for one in lists], shares)
    offer = Offer(blended, lists, shares, np.array(tail, int))
    return final_list(offer, 30.0, np.array(seen, int), np.array(disliked, int), items, n, Terms())


def test_sources_and_explanations() -> None:
    lists = [np.array([5, 8]), np.array([6, 5]), np.array([9])]
    served = served_list(lists, [0.5, 0.5, 0.0], [2, 3], [0, 1], catalogue(), 5)
    assert served.items.tolist() == [5, 6, 8, 2, 3]
    assert served.members.tolist() == [0b11, 0b10, 0b01, 0, 0]
    assert served.because.tolist() == [0, 1, NO_REASON, NO_REASON, NO_REASON]
    assert (served.n_unseen, served.n_available) == (8, 8)


def test_seen_and_blocked_items_are_never_listed_and_the_list_is_filled_from_the_catalogue() -> None:
    lists = [np.array([1, 5, 6, 7])]
    served = served_list(lists, [1.0], [2], [1], catalogue(blocked=(5, 2)), 6)
    assert served.items.tolist() == [6, 7, 0, 3, 4, 8]
    assert (np.diff(served.scores) < 0).all()


def test_disliked_items_are_never_listed_and_explain_nothing() -> None:
    served = served_list([np.array([6, 7, 5])], [1.0], [2, 3], [4], catalogue(), 3, disliked=(1, 0, 7, 2))
    assert served.items.tolist() == [6, 5, 3]
    assert served.because.tolist() == [NO_REASON] * 3  # 0 and 1, which speak for 5 and 6, are disliked
    assert (served.n_unseen, served.n_available) == (5, 5)


def test_short_only_where_too_few_items_are_left() -> None:
    served = served_list([NONE], [1.0], [], list(range(8)), catalogue(blocked=(9,)), 3)
    assert served.items.tolist() == [8]
    assert (served.n_unseen, served.n_available) == (2, 1)
