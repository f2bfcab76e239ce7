"""Calibration and diversity: lists worked by hand, and a second implementation that tries every item with care."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from ganrec_spark.blend.variety import Variety, calibrated, divergence, diverse, mix_of, relative, sameness

X, Y, Z = range(3)
# Items 0 to 4: X, X, Y, X and Z, none. Item 5 and above are not known.
VALUES = {"indptr": np.array([0, 1, 2, 3, 5, 5]), "codes": np.array([X, X, Y, X, Z])}


def variety(method: str, strength: float) -> Variety:
    return Variety(method, strength, n=2, pool=4, values=VALUES)  # type: ignore[arg-type]


def ranked(*items: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(items, dtype=np.int64), np.linspace(1.0, 0.1, len(items))


def test_relative_scores() -> None:
    assert relative(np.array([5.0, 3.0, 1.0])).tolist() == [1.0, 0.5, 0.0]
    assert relative(np.array([2.0, 2.0])).tolist() == [1.0, 1.0]
    assert relative(np.array([])).tolist() == []


def test_a_mix_shares_an_item_among_its_values_and_leaves_out_items_without_any() -> None:
    known = np.array([[1.0, 0, 0], [1, 0, 1], [0, 0, 0]])
    assert mix_of(known).tolist() == [0.75, 0.0, 0.25]
    assert mix_of(np.zeros((2, 3))).tolist() == [0.0, 0.0, 0.0]


def test_divergence_by_hand() -> None:
    half = np.array([0.5, 0.5])
    assert divergence(np.eye(2), half) == pytest.approx(0.0, abs=1e-12)
    only_first = 0.5 * log(0.5 / 0.995) + 0.5 * log(0.5 / 0.005)
    assert divergence(np.array([[1.0, 0.0], [1.0, 0.0]]), half) == pytest.approx(only_first)
    assert np.isnan(divergence(np.eye(2), np.zeros(2)))


def test_sameness_by_hand() -> None:
    known = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert sameness(known) == pytest.approx(1 / 3)  # one of three pairs is alike
    assert sameness(np.array([[1.0, 1.0], [1.0, 0.0]])) == pytest.approx(0.5**0.5)
    assert np.isnan(sameness(known[:1]))


def test_calibration_lists_what_the_user_likes_half_of_the_time() -> None:
    items, scores = ranked(0, 1, 2, 3, 4)
    ((order, places),) = variety("calibration", 0.5).reordered([(items, scores)], [np.array([0, 2])])
    assert order.tolist() == [0, 2, 1, 3, 4]
    assert places.tolist() == scores.tolist()  # the places' own
    ((order, _),) = variety("calibration", 0.01).reordered([(items, scores)], [np.array([0, 2])])
    assert order.tolist() == [0, 1, 2, 3, 4]
    measured = variety("calibration", 0.5).measured
    assert measured(items[[0, 2]], np.array([0, 2])) == pytest.approx(0.0, abs=1e-12)
    assert measured(items[[0, 1]], np.array([0, 2])) > 1.9


def test_without_a_history_or_without_values_in_it_nothing_is_calibrated() -> None:
    rows = [ranked(0, 1, 2), ranked(0, 1, 2), ranked()]
    histories = [np.array([], dtype=np.int32), np.array([4, 77]), np.array([0])]
    found = variety("calibration", 0.9).reordered(rows, histories)
    assert [order.tolist() for order, _ in found] == [[0, 1, 2], [0, 1, 2], []]


def test_diversity_takes_what_is_not_like_what_stands_above() -> None:
    ((order, _),) = variety("diversity", 0.5).reordered([ranked(0, 1, 2, 3)], [np.array([0])])
    assert order.tolist() == [0, 2, 1, 3]
    ((order, _),) = variety("diversity", 0.0).reordered([ranked(0, 1, 2, 3)], [np.array([0])])
    assert order.tolist() == [0, 1, 2, 3]


def test_items_behind_the_pool_stay_behind_it_and_unknown_ones_are_like_nothing() -> None:
    ((order, _),) = variety("diversity", 0.9).reordered([ranked(0, 1, 3, 77, 2)], [np.array([])])
    assert order.tolist() == [0, 77, 1, 3, 2]  # item 2 is behind the pool of four


def test_the_first_places_do_not_hang_on_how_long_the_list_is() -> None:
    rng = np.random.default_rng(0)
    known = (rng.random((30, 6)) < 0.3).astype(float)
    worth, mix = np.sort(rng.random(30))[::-1], mix_of(known[:5])
    for n in (3, 8):
        assert calibrated(worth, known, mix, 0.6, 12)[:n].tolist() == calibrated(worth, known, mix, 0.6, n)[:n].tolist()
        assert diverse(worth, known, 0.6, 12)[:n].tolist() == diverse(worth, known, 0.6, n)[:n].tolist()


def naive(worth: np.ndarray, known: np.ndarray, history: np.ndarray, method: str, strength: float, n: int) -> list[int]:
    """Return the order by the definitions: each place tries each item left, and looks at the whole list."""
    order: list[int] = []
    for _ in range(n):
        values = []
        for item in range(len(worth)):
            if item in order:
                values.append(-np.inf)
                continue
            if method == "calibration":
                loss = divergence(known[[*order, item]], mix_of(history))
            else:
                sizes = np.linalg.norm(known, axis=1)
                pairs = [known[item] @ known[j] / max(1e-9, sizes[item] * sizes[j]) for j in order]
                loss = max(pairs, default=0.0)
            values.append((1 - strength) * worth[item] - strength * loss)
        order.append(int(np.argmax(np.round(values, 9))))
    return order + [item for item in range(len(worth)) if item not in order]


@pytest.mark.parametrize("method", ["calibration", "diversity"])
@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_as_the_definitions_say(method: str, strength: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        known, history = ((rng.random((size, 5)) < 0.35).astype(float) for size in (25, 12))
        worth = np.sort(rng.random(25))[::-1]
        if method == "calibration":
            found = calibrated(worth, known, mix_of(history), strength, 10)
        else:
            found = diverse(worth, known, strength, 10)
        assert found.tolist() == naive(worth, known, history, method, strength, 10)


def test_more_strength_less_of_what_is_measured() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 6, 200)
    values = {"indptr": np.arange(201), "codes": codes}
    items, history = rng.permutation(200)[:60], rng.permutation(200)[:15]
    for method in ("calibration", "diversity"):
        measured = []
        for strength in (0.0, 0.3, 0.9):
            own = replace(variety(method, strength), n=10, pool=60, values=values)  # type: ignore[arg-type]
            ((order, _),) = own.reordered([ranked(*items)], [history])
            measured.append(own.measured(order[:10], history))
        assert measured[0] >= measured[1] >= measured[2]
        assert measured[0] > measured[2]
