"""Intervals from sums: worked by hand, and against sums over all users."""

import numpy as np
import pytest

from ganrec_spark.learning.moments import (
    Estimate,
    Moments,
    effective_size,
    interval,
    mean,
    ratio,
    share,
    share_interval,
)


def test_moments_are_sums_over_users_and_groups_add_up() -> None:
    first, second = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 0.0]])
    both = Moments.of(*np.concatenate([first, second]).T)
    parts = Moments.of(*first.T) + Moments.of(*second.T)
    assert (both.n, both.sums.tolist()) == (3, [9.0, 6.0])
    assert both.products.tolist() == [[35.0, 14.0], [14.0, 20.0]]
    assert (parts.n, parts.sums.tolist(), parts.products.tolist()) == (3, [9.0, 6.0], both.products.tolist())
    assert np.allclose(both.covariance, np.cov(np.concatenate([first, second]).T))


def test_a_mean_by_hand() -> None:
    # 1, 2, 3: mean 2, variance 1, standard error 1 / sqrt(3); t with 2 degrees of freedom is 4.3027.
    found = mean(Moments.of(np.array([1.0, 2.0, 3.0])))
    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.302653 / 3**0.5)
    assert found.low + found.high == pytest.approx(4)


def test_a_ratio_by_hand() -> None:
    # Clicks 1 and 1 of 1 and 3 exposures: 2 / 4. Linearised: (1 - 0.5) / 2 and (1 - 1.5) / 2, standard error
    # sqrt(0.125 / 2) = 0.25. Users 1 and 3 decide as 16 / 10 = 1.6 equal ones: too few for any interval.
    found = ratio(Moments.of(np.array([1.0, 1.0]), np.array([1.0, 3.0])))
    assert (found.value, found.low, found.high) == (0.5, -np.inf, np.inf)
    assert effective_size(Moments.of(np.array([1.0, 3.0])), 0) == 1.6
    many = ratio(Moments.of(np.array([1.0, 1.0] * 8), np.array([1.0, 3.0] * 8)))
    deviations = np.array([0.25, -0.25] * 8)
    t = 2.202147  # 16 x 1.6 / 2 = 12.8 users, 11.8 degrees of freedom... of scipy.stats.t.ppf(0.975, 11.8)
    assert many.high - 0.5 == pytest.approx(t * (deviations.var(ddof=1) / 16) ** 0.5, rel=0.01)


def test_none_of_a_hundred_is_no_certainty() -> None:
    nothing = share(Moments.of(np.zeros(100), np.ones(100)), 0, 1)
    assert nothing.value == nothing.low == 0
    assert 0.03 < nothing.high < 0.045  # the rule of three says 0.03
    assert nothing.too_wide
    half = share_interval(0.5, 0.25 / 100, 1e9, 100)
    assert (half.low, half.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))  # Wilson 1927


def test_what_was_hardly_seen_has_no_bounds() -> None:
    for found in (mean(Moments.of(np.array([1.0]))), ratio(Moments.of(np.zeros(3), np.zeros(3))), interval(1, 1, 1.5)):
        assert (found.low, found.high) == (-np.inf, np.inf)
        assert found.too_wide


@pytest.mark.parametrize(("low", "high", "too_wide"), [(0.6, 1.4, False), (0.4, 1.4, True), (0.6, 1.6, True)])
def test_too_wide_is_further_than_half_of_the_value(low: float, high: float, too_wide: bool) -> None:
    assert Estimate(1.0, low, high).too_wide is too_wide
