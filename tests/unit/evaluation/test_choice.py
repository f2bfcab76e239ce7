"""The one-standard-error rule on values worked by hand."""

from collections.abc import Collection

import numpy as np
import pytest

from ganrec_spark.evaluation.choice import foremost, highest, in_words, is_ahead, search, simplest, standard_error


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


def test_what_is_no_more_than_as_good_stays_behind_what_came_before() -> None:
    level = np.array([0.5, 0.5])
    assert foremost({"first": level, "same": level, "noisy": np.array([0.0, 1.2])}) == "first"
    assert foremost({"first": level, "ahead": level + 0.1, "further": level + 0.2, "back": level}) == "further"
    assert highest({"first": level, "same": level, "noisy": np.array([0.0, 1.2])}) == "noisy"


def test_a_setting_is_told_in_words() -> None:
    assert in_words({"method": "ease", "regularisation": 100.0, "half_life": None, "rank": 64}) == (
        "method ease, regularisation 100, rank 64"
    )


def test_a_search_goes_on_beyond_the_edge_and_judges_each_value_once() -> None:
    judged: list[int] = []

    def judge(value: int) -> np.ndarray:
        judged.append(value)
        return np.array([-abs(value - 17.0)])

    def doubled(best: int, tried: Collection[int]) -> int | None:
        return 2 * best if best == max(tried) else None

    assert search([1, 2, 2], judge, highest, doubled) == 16
    assert judged == [1, 2, 4, 8, 16, 32]
