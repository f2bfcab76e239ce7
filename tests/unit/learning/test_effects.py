"""What arms are worth and how they differ: by hand, in worlds of known differences, and where assignment is broken."""

import numpy as np
import pytest

from ganrec_spark.learning.effects import METRICS, Difference, difference, level, mismatch
from ganrec_spark.learning.moments import Moments

WORLDS = 100


def moments(**measures: object) -> Moments:
    """Return the moments of users of whom these measures are known, the others being 0."""
    names = ("exposures", "hits", "lists", "gain", "active", "returned", "value", "before")
    n = max(np.size(values) for values in measures.values())
    return Moments.of(*(np.zeros(n) + np.asarray(measures.get(name, 0.0), dtype=float) for name in names), np.ones(n))


def test_metrics_by_hand() -> None:
    users = moments(
        exposures=[10, 10, 20], hits=[1, 0, 3], lists=[1, 1, 2], gain=[0.5, 0, 0.7], active=[1, 0, 1],
        returned=[0, 0, 3], value=[4.0, 0, 2.0],
    )  # fmt: skip
    found = {name: level(users, metric).value for name, metric in METRICS.items()}
    assert found == {
        "rate": pytest.approx(4 / 40),
        "users": pytest.approx(2 / 3),
        "value": pytest.approx(2.0),
        "discounted_hits": pytest.approx(1.2 / 4),
        "repeat_visits": pytest.approx(1.0),
    }


def test_what_activity_before_says_is_taken_out_of_a_difference() -> None:
    """Value follows activity before exactly, and the arms differ by 2: the difference is 2, and certain."""
    before = np.arange(20.0)
    arm, control = moments(value=3 * before + 2, before=before), moments(value=3 * (before + 4), before=before + 4)
    found = difference(arm, control, METRICS["value"])
    assert found.estimate.value == pytest.approx(2)
    assert found.estimate.high - found.estimate.low == pytest.approx(0, abs=1e-6)
    assert found.reduction == pytest.approx(1)
    assert found.better


def test_arms_without_any_event_do_not_differ_for_certain() -> None:
    nobody = moments(exposures=np.full(200, 10.0), hits=0)
    found = difference(nobody, nobody, METRICS["rate"]).estimate
    assert found.value == 0
    assert found.low == pytest.approx(-found.high)
    assert 0.001 < found.high < 0.004


def world(seed: int, users: int, effect: float) -> tuple[Moments, Moments]:
    """Return two arms of users with ten exposures each, who differ in how active they are; one clicks `effect` more."""
    rng = np.random.default_rng(seed)
    arms = []
    for lift in (effect, 0.0):
        activity = rng.gamma(2.0, 1.0, users)
        hits = rng.binomial(10, np.clip(0.02 * activity + lift, 0, 1))
        before = np.log1p(rng.poisson(10 * activity))
        arms.append(
            moments(
                exposures=np.full(users, 10.0), hits=hits, lists=1.0, gain=hits / 10, active=hits > 0,
                returned=rng.poisson(0.3 * activity), value=hits * rng.lognormal(0, 0.5, users), before=before,
            )
        )  # fmt: skip
    return arms[0], arms[1]


def truth(metric: str, effect: float) -> float:
    """Return the true difference of the worlds above."""
    if metric in ("rate", "discounted_hits"):
        return effect
    if metric == "value":
        return 10 * effect * np.exp(0.125)
    return 0.0


@pytest.mark.parametrize("effect", [0.0, 0.02])
@pytest.mark.parametrize("users", [60, 600])
@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover_the_true_difference(metric: str, users: int, effect: float) -> None:
    if metric == "users" and effect:
        pytest.skip("its true difference has no closed form")
    found = [difference(*world(seed, users, effect), METRICS[metric]) for seed in range(WORLDS)]
    assert sum(one.estimate.low <= truth(metric, effect) <= one.estimate.high for one in found) >= 93


def test_adjusting_narrows_and_finds_what_is_there() -> None:
    found = [difference(*world(seed, 600, 0.01), METRICS["rate"]) for seed in range(WORLDS)]
    assert 0.1 < np.mean([one.reduction for one in found]) < 0.9
    assert sum(one.better for one in found) > 60
    plain = [difference(*(without(side) for side in world(seed, 600, 0.01)), METRICS["rate"]) for seed in range(WORLDS)]
    assert width(found) < 0.95 * width(plain)


def without(side: Moments) -> Moments:
    """Return the arm as if nothing was known of activity before."""
    keep = np.ones(len(side.sums))
    keep[7] = 0
    return Moments(side.n, side.sums * keep, side.products * np.outer(keep, keep))


def width(found: list[Difference]) -> float:
    return float(np.mean([one.estimate.high - one.estimate.low for one in found]))


def test_uneven_arms_by_hand() -> None:
    # 520 and 480 of 1,000 in halves: chi-square (20^2 + 20^2) / 500 = 1.6, p = 0.2059 with one degree of freedom.
    assert mismatch({"a": 520, "b": 480}, {"a": 0.5, "b": 0.5}) == pytest.approx(0.2059, abs=1e-4)
    assert mismatch({"a": 600, "b": 400}, {"a": 0.5, "b": 0.5}) < 1e-9
    assert mismatch({"a": 1000}, {"a": 1.0}) == 1.0
    assert mismatch({}, {"a": 0.5, "b": 0.5}) == 1.0
    assert mismatch({"a": 1000}, {"a": 0.9, "b": 0.1}) < 1e-9  # nobody is in b
    assert mismatch({"a": 10, "c": 1}, {"a": 1.0}) == 0.0  # who is in an arm that is not configured?


def test_a_broken_assignment_is_seen_and_a_right_one_is_not() -> None:
    rng = np.random.default_rng(7)
    shares = {"a": 0.8, "b": 0.1, "c": 0.1}
    right = [rng.multinomial(5000, [0.8, 0.1, 0.1]) for _ in range(WORLDS)]
    broken = [rng.multinomial(5000, [0.84, 0.06, 0.1]) for _ in range(WORLDS)]  # two fifths of b are lost
    warned = [
        sum(mismatch(dict(zip("abc", own, strict=True)), shares) < 0.001 for own in part) for part in (right, broken)
    ]
    assert warned[0] <= 1
    assert warned[1] == WORLDS
