"""Which arms are compared, and how what was measured reaches tables and rules."""

import numpy as np
import pytest

from ganrec_spark.config.lists import Arm
from ganrec_spark.learning.drifted import Measured
from ganrec_spark.learning.effects import Difference
from ganrec_spark.learning.evidence import evidence
from ganrec_spark.learning.experiment import Group, arm_pairs, bounds, difference_rows, rounded
from ganrec_spark.learning.moments import Estimate, Moments

ARMS = tuple(Arm(name=name, share=0.25, lists=lists) for name, lists in (
    ("c", "popularity"), ("p", "published"), ("n", "no_fill"), ("a", "als")
))  # fmt: skip
DRIFT = [Measured("items", 0.4, 0.1, 9, 9), Measured("kinds", None, None, 0, 9), Measured("new_users", 0.2, None, 9, 9),
         Measured("new_items", None, None, 9, 0)]  # fmt: skip


def users(hits: float) -> Moments:
    ones = np.ones(50)
    return Moments.of(10 * ones, hits * ones, ones, 0 * ones, ones, 0 * ones, 0 * ones, 0 * ones, ones)


def test_what_is_published_is_compared_with_every_other_arm() -> None:
    assert arm_pairs(ARMS) == [("p", "c"), ("p", "n"), ("p", "a"), ("c", "n"), ("c", "a"), ("n", "a")]
    assert arm_pairs(ARMS[:1]) == []


def test_numbers_of_tables_are_rounded_and_endless_bounds_are_null() -> None:
    assert bounds(Estimate(1 / 3, -np.inf, np.inf)) == (0.3333333333, None, None)
    assert rounded(np.nan) is None


def test_evidence_takes_the_published_arm_against_members_and_popularity_and_the_fill_against_none() -> None:
    groups = {
        Group("published", name, "all", "click"): users(hits) for name, hits in (("c", 2.0), ("p", 1.0), ("a", 1.0))
    }
    worse, same = (Difference(Estimate(value, value - 0.01, value + 0.01), 0.0) for value in (-0.1, 0.0))
    compared = {
        (Group("published", "p", "all", "click"), "c", "rate"): worse,
        (Group("earlier", "p", "all", "click"), "c", "rate"): same,
        (Group("published", "p", "all", "click"), "a", "rate"): same,
        (Group("published", "p", "all", "click"), "n", "rate"): worse,
        (Group("fill:f", "p", "sparse", "click"), "n", "rate"): worse,
    }
    found = evidence(groups, compared, ARMS, "click", "f", DRIFT, 0.5, (7, 8, 9))
    assert [(one.control, one.rate, one.now, one.earlier) for one in found.against] == [
        ("c", pytest.approx(0.2), worse.estimate, same.estimate),
        ("a", pytest.approx(0.1), same.estimate, None),
    ]
    assert (found.fill, found.fill_effect) == ("f", worse.estimate)
    assert found.index == {"items": pytest.approx(0.3)}
    assert (found.new_users, found.new_items) == (0.2, 0.0)
    assert (found.events, found.ratings, found.changed_users) == (7, 8, 9)
    without = evidence(groups, compared, ARMS[:2], "click", "none", DRIFT, 0.5, (7, 8, 9))
    assert (without.fill, without.fill_effect) == ("", None)


def test_nothing_is_significant_where_arms_have_the_wrong_sizes() -> None:
    group = Group("all", "p", "all", "click")
    groups = {group: users(1.0), Group("all", "c", "all", "click"): users(2.0)}
    compared = {(group, "c", "rate"): Difference(Estimate(-0.1, -0.2, -0.05), 0.25)}
    (right,), (broken,) = (difference_rows(compared, groups, chance) for chance in (0.5, 0.0005))
    assert right == ("all", "p", "c", "all", "click", "rate", -0.1, -0.2, -0.05, 0.2, 0.25, 50, 50, True)
    assert broken == (*right[:-1], False)
