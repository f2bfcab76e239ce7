"""The stability index and its bins, by hand, and what chance alone makes of it."""

import numpy as np
import pytest

from ganrec_spark.learning.drift import aligned, by_chance, equal_bins, stability_index


def test_the_index_by_hand() -> None:
    # Shares 0.5, 0.5 -> 0.9, 0.1: 0.4 ln 1.8 - 0.4 ln 0.2 = 0.8789, but for the halves that are added to counts.
    assert stability_index(np.array([5e5, 5e5]), np.array([9e5, 1e5])) == pytest.approx(0.87889, abs=1e-4)
    # With 1 and 3 of 4: (1.5, 3.5) / 5 against (2.5, 2.5) / 5.
    expected = 0.2 * np.log(0.5 / 0.3) - 0.2 * np.log(0.5 / 0.7)
    assert stability_index(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == pytest.approx(expected)
    assert stability_index(np.array([10.0, 30.0]), np.array([10.0, 30.0])) == 0
    assert stability_index(np.zeros(3), np.ones(3)) == 0
    assert np.isfinite(stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))


def test_bins_hold_equal_sums_most_counted_first() -> None:
    assert equal_bins(np.array([1, 4, 1, 1, 1]), bins=2).tolist() == [1, 0, 1, 1, 1]
    assert equal_bins(np.array([2, 2, 0, 2, 2]), bins=4).tolist() == [0, 1, -1, 2, 3]
    assert equal_bins(np.zeros(3, dtype=int)).tolist() == [-1, -1, -1]
    counts = np.random.default_rng(0).zipf(1.6, 5000)
    bins = equal_bins(counts)
    sums = np.bincount(bins, weights=counts)
    assert sums.sum() == counts.sum()
    assert all(counts[bins == one].min() >= counts[bins == one + 1].max() for one in set(bins) if one + 1 in bins)


def test_kinds_that_one_side_lacks_count_as_none() -> None:
    then, now = aligned({"click": 3, "cart": 1}, {"click": 2, "hide": 5})
    assert (then.tolist(), now.tolist()) == ([1.0, 3.0, 0.0], [0.0, 2.0, 5.0])


def test_chance_alone_makes_what_it_is_said_to() -> None:
    rng = np.random.default_rng(3)
    found = [stability_index(rng.multinomial(2000, [0.1] * 10), rng.multinomial(500, [0.1] * 10)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(by_chance(10, 2000, 500), rel=0.1)
    assert by_chance(10, 0, 5) == 0
