"""Rules on one user's list: what is barred, what counts more, how many of a category; lists stay full."""

import numpy as np

from ganrec_spark.blend.serving import Catalogue, Offer, Served, Terms, final_list
from ganrec_spark.experiment.explore import Exploration
from ganrec_spark.rules.keeping import RULES, Categories, ListRules, bits

NOBODY = np.array([], dtype=np.int64)
ITEMS = np.array([3, 4, 5, 6])
# Items 3, 4, 5 are of category 0, item 4 of 1 as well; the others have none.
STARTS = np.array([0, 0, 0, 0, 1, 3, 4, 4, 4, 4, 4])
CODES = np.array([0, 0, 1, 0])


def served(
    terms: Terms,
    n: int = 3,
    allowed: np.ndarray | None = None,
    seen: tuple[int, ...] = (),
    tail: tuple[int, ...] = (2, 9),
) -> Served:
    """Return the list of ten items of which the blend has 3, 4, 5, 6; 0, 1, 2, ... are popular in this order."""
    mask = np.ones(10, dtype=bool) if allowed is None else allowed
    catalogue = Catalogue(np.arange(10), mask, np.zeros(11, int), NOBODY)
    offer = Offer((ITEMS, np.array([0.8, 0.4, 0.2, 0.1])), [ITEMS], np.array([1.0]), np.array(tail))
    return final_list(offer, 30.0, np.array(seen, int), NOBODY, catalogue, n, terms)


def changed(user: Served) -> list[str]:
    return [rule for rule in RULES if user.changed & bits([rule])]


def test_what_is_barred_to_a_user_makes_room_and_is_counted() -> None:
    rules = ListRules(("excluded", "shown"))
    user = served(Terms(rules, {"excluded": np.array([4]), "shown": np.array([9])}))
    assert user.items.tolist() == [3, 5, 6]
    assert changed(user) == ["excluded"], "9 would not have been listed"
    assert (user.n_unseen, user.n_available) == (10, 8)
    # The tail moves up, then the whole catalogue.
    many = Terms(rules, {"excluded": np.array([3, 4, 5, 6, 9]), "shown": NOBODY})
    assert served(many).items.tolist() == [0, 1, 2]


def test_boosts_multiply_scores_and_reorder() -> None:
    factors = np.ones(10)
    factors[6], factors[3] = 10.0, 0.5
    user = served(Terms(ListRules(("boosted",), factors=factors)))
    assert user.items.tolist() == [6, 3, 4]
    assert user.scores.tolist() == [1.0, 0.4, 0.4]
    assert changed(user) == ["boosted"]
    same = served(Terms(ListRules(("boosted",), factors=np.ones(10))))
    assert same.items.tolist() == [3, 4, 5]
    assert changed(same) == []


def test_so_many_of_a_category_and_candidates_below_move_up() -> None:
    one = ListRules(("category",), categories=Categories(STARTS, CODES, 1))
    user = served(Terms(one), n=4)
    assert user.items.tolist() == [3, 6, 2, 9]
    assert changed(user) == ["category"]
    two = ListRules(("category",), categories=Categories(STARTS, CODES, 2))
    assert served(Terms(two), n=3).items.tolist() == [3, 4, 6]
    # Where too few are left the list is short, not broken.
    scarce = np.zeros(10, dtype=bool)
    scarce[[3, 4, 5]] = True
    assert served(Terms(one), allowed=scarce).items.tolist() == [3]


def test_which_rule_on_items_changed_a_list() -> None:
    allowed, unblocked = np.ones(10, dtype=bool), np.ones(10, dtype=bool)
    allowed[[3, 9]] = False
    rules = ListRules(("available", "blocked"), lifted={"available": unblocked, "blocked": allowed})
    assert changed(served(Terms(rules), allowed=allowed)) == ["available"]


def test_what_is_drawn_keeps_the_rules() -> None:
    one = ListRules(("excluded", "category"), categories=Categories(STARTS, CODES, 1))
    allowed = np.ones(10, dtype=bool)
    allowed[2] = False
    drawn = set()
    for user in range(300):
        terms = Terms(one, {"excluded": np.array([8])}, Exploration(2, 1.0, 0.01, 20, 0, "2026-11-01"), user)
        items = served(terms, n=3, allowed=allowed, seen=(1,), tail=(2, 9, 0, 7, 8)).items.tolist()
        assert items[0] == 3
        assert len(set(items)) == 3
        drawn |= set(items[1:])
    # Neither seen (1), nor blocked (2), nor of the category that 3 has (4, 5), nor excluded (8).
    assert drawn == {6, 9, 0, 7}
