"""The one-standard-error rule on values worked by hand."""

import numpy as np
import pytest

from ganrec_spark.evaluation.choice import is_ahead, simplest, standard_error


def test_the_standard_error_is_that_of_the_mean() -> None:
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(np.sqrt(2) / np.sqrt(2))
    assert standard_error(np.array([5.0])) == 0
    assert standard_error(np.empty(0)) == 0


def test_the_first_within_one_standard_error_of_the_best_is_taken() -> None:
    base = np.zeros(4)
    best = np.array([1.0, 1.0, 0.0, 0.0])
    assert standard_error(best - base) == pytest.approx(1 / np.sqrt(12))
    assert simplest({"plain": base, "best": best}) == "best"  # .5 > .29
    near = np.array([1.0, 0.0, 0.0, 1.0])
    assert simplest({"plain": base, "near": near, "best": best}) == "near"  # as good as the best, and before it
    assert simplest({"plain": base, "other": np.array([0.9, -0.8, 0.0, 0.0])}) == "plain"  # .025 of .35


def test_nobody_judges_the_first_is_taken() -> None:
    assert simplest({1: np.empty(0), 2: np.empty(0)}) == 1


def test_ahead_is_more_than_the_standard_error_and_never_equal() -> None:
    assert is_ahead(np.array([0.2]), np.array([0.1]))
    assert not is_ahead(np.array([0.1]), np.array([0.1]))
    assert not is_ahead(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert not is_ahead(np.empty(0), np.empty(0))
