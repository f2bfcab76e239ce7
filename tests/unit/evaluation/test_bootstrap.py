"""The paired bootstrap on data whose truth is known: its intervals cover, and a fill that does nothing fails."""

import numpy as np
import pytest

from ganrec_spark.evaluation.bootstrap import bonferroni, poisson_weights, relative_lift

USERS = np.arange(400)
# The same users in every simulated data set: weights cost more than the data.
WEIGHTS = poisson_weights(USERS, 400, seed=1)


def simulate(rng: np.random.Generator, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return NDCG-like values of 400 users, mostly 0, before and after; the mean after is (1 + lift) times as high."""
    base = rng.random(len(USERS)) * (rng.random(len(USERS)) < 0.3)
    noise = rng.normal(0, 0.05, len(USERS)) * (base > 0)
    return base, base * (1 + lift) + noise


def test_intervals_cover_the_true_lift_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    n, covered = 400, 0
    for _ in range(n):
        before, after = simulate(rng, 0.1)
        lift = relative_lift(before @ WEIGHTS, after @ WEIGHTS, 0.95)
        covered += lift.low <= 0.1 <= lift.high
    assert 0.91 <= covered / n <= 0.99


def test_a_fill_that_does_nothing_is_rarely_believed() -> None:
    rng = np.random.default_rng(6)
    accepted = 0
    for _ in range(400):
        before, after = simulate(rng, 0.0)
        accepted += relative_lift(before @ WEIGHTS, after @ WEIGHTS, 0.95).low > 0
    assert accepted / 400 < 0.05


def test_weights_follow_from_the_user_alone() -> None:
    alone = poisson_weights(np.array([7]), 50, seed=1)
    among = poisson_weights(np.array([3, 7, 9]), 50, seed=1)
    assert (alone[0] == among[1]).all()
    assert (alone[:, 0] == 1).all()
    assert (poisson_weights(np.array([7]), 50, seed=2) != alone).any()
    assert WEIGHTS[:, 1:].mean() == pytest.approx(1, abs=0.01)
    assert WEIGHTS[:, 1:].var() == pytest.approx(1, abs=0.02)


def test_nothing_to_compare_with_is_no_lift() -> None:
    zero = np.zeros(201)
    assert relative_lift(zero, zero, 0.95).value == 0
    assert relative_lift(zero, zero + 1, 0.95).low == np.inf


def test_bonferroni_divides_the_error() -> None:
    assert bonferroni(0.95, 1) == pytest.approx(0.95)
    assert bonferroni(0.95, 5) == pytest.approx(0.99)
