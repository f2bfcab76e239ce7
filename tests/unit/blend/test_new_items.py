"""Places for new items: where they stand, what keeps them out, and what counts of the catalogue."""

import numpy as np

from ganrec_spark.blend.serving import NEW_BIT, Catalogue, Offer, Served, Terms, final_list
from ganrec_spark.experiment.explore import Exploration
from ganrec_spark.rules.keeping import Categories, ListRules

NOBODY = np.array([], dtype=np.int64)
ITEMS, NEW = np.array([3, 4, 5, 6]), np.array([10, 11, 12])


def served(terms: Terms, n: int = 4, disliked: tuple[int, ...] = (), blocked: tuple[int, ...] = ()) -> Served:
    """Return the list of ten items of which the blend has 3, 4, 5, 6; 10, 11, 12 are new, and 3 speaks for 11."""
    allowed = np.ones(13, dtype=bool)
    allowed[list(blocked)] = False
    indptr = np.array([0] * 12 + [1, 1])
    catalogue = Catalogue(np.arange(10), allowed, indptr, np.array([9]))
    blended = ITEMS, np.array([0.8, 0.4, 0.2, 0.1])
    offer = Offer(blended, [ITEMS], np.array([1.0]), np.array([2, 7]), 0, (NEW, np.array([0.9, 0.6, 0.3])))
    return final_list(offer, 30.0, np.array([9]), np.array(disliked, int), catalogue, n, terms)


def test_the_last_places_are_for_the_best_new_items() -> None:
    user = served(Terms(new_slots=2))
    assert user.items.tolist() == [3, 4, 10, 11]
    assert user.scores.tolist() == [0.8, 0.4, 0.4, 0.4]
    assert user.members.tolist() == [1, 1, NEW_BIT, NEW_BIT]
    assert user.because.tolist() == [-1, -1, -1, 9]
    # What lists may have of new items is no part of the catalogue.
    assert (user.n_unseen, user.n_available) == (9, 9)
    assert served(Terms()).items.tolist() == [3, 4, 5, 6]


def test_what_is_disliked_blocked_or_barred_makes_room_for_other_new_items_and_then_for_the_blend() -> None:
    assert served(Terms(new_slots=2), disliked=(10,)).items.tolist() == [3, 4, 11, 12]
    rules = ListRules(("blocked", "excluded"), lifted={"blocked": np.ones(13, dtype=bool)})
    terms = Terms(rules, {"excluded": np.array([12])}, new_slots=2)
    user = served(terms, disliked=(10,), blocked=(11,))
    assert user.items.tolist() == [3, 4, 5, 6]
    assert user.changed, "11 would have been listed, were it not blocked"


def test_new_items_count_in_the_quota_and_are_boosted() -> None:
    # Items 4, 10 and 11 are of one category.
    starts = np.array([0] * 5 + [1] * 6 + [2, 3, 3])
    terms = Terms(ListRules(("category",), categories=Categories(starts, np.array([0, 0, 0]), 1)), new_slots=2)
    assert served(terms).items.tolist() == [3, 4, 12, 5]
    factors = np.ones(13)
    factors[12] = 4.0
    assert served(Terms(ListRules(("boosted",), factors=factors), new_slots=2)).items.tolist() == [3, 4, 12, 10]


def test_drawn_places_come_behind_those_of_new_items() -> None:
    drawn = Exploration(1, 1.0, 0.01, 3, 0, "2026-11-01")
    users = [served(Terms(exploration=drawn, user_idx=user, new_slots=1)) for user in range(50)]
    assert {tuple(user.items[:3]) for user in users} == {(3, 4, 10)}
    assert {int(user.items[3]) for user in users} == {5, 6, 2}, "new items are not drawn"
    assert all(user.propensities[:3].tolist() == [1.0] * 3 and user.propensities[3] < 1 for user in users)
