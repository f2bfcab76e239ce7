"""Drawn places: exact chances by enumeration, frequencies over users, and what is never drawn."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from math import exp

import numpy as np
import pytest

from ganrec_spark.experiment.explore import Exploration, explored, pool_weights
from ganrec_spark.rules.keeping import Categories, Quota

ITEMS, SCORES = np.array([10, 11, 12, 13, 14, 15]), np.array([0.9, 0.8, 0.6, 0.5, 0.3, 0.1])
N, FIXED = 4, 2
# Items 12 and 13 are of one category, of which a list has one item at most.
STARTS = np.array([0] * 13 + [1, 2, 2, 2])
ONE_OF_12_AND_13 = Categories(STARTS, np.array([7, 7]), 1)
Sequences = Iterator[tuple[tuple[int, ...], tuple[float, ...]]]


def how(slots: int = 2, temperature: float = 0.5, floor: float = 0.05, pool: int = 4, seed: int = 0) -> Exploration:
    return Exploration(slots, temperature, floor, pool, seed, "2026-11-01")


def weights_by_hand(temperature: float, floor: float) -> dict[int, float]:
    heights = [(score - 0.1) / (0.6 - 0.1) for score in SCORES[FIXED:]]
    total = sum(exp(height / temperature) for height in heights)
    return {
        int(item): (1 - 4 * floor) * exp(height / temperature) / total + floor
        for item, height in zip(ITEMS[FIXED:], heights, strict=True)
    }


def sequences(weights: dict[int, float], apart: set[int], chosen: tuple[int, ...] = ()) -> Sequences:
    """Yield every sequence of two draws with the chance of each draw: the second implementation, by enumeration."""
    if len(chosen) == N - FIXED:
        yield chosen, ()
        return
    left = {item: weight for item, weight in weights.items() if item not in chosen}
    if apart & set(chosen):
        left = {item: weight for item, weight in left.items() if item not in apart}
    for item, weight in left.items():
        for whole, chances in sequences(weights, apart, (*chosen, item)):
            yield whole, (weight / sum(left.values()), *chances)


@pytest.mark.parametrize(("categories", "apart"), [(None, set()), (ONE_OF_12_AND_13, {12, 13})])
def test_propensities_are_exact_and_frequencies_match(categories: Categories | None, apart: set[int]) -> None:
    expected = dict(sequences(weights_by_hand(0.5, 0.05), apart))
    assert sum(first * second for first, second in expected.values()) == pytest.approx(1)
    n_draws = 6000
    found: Counter[tuple[int, ...]] = Counter()
    told: dict[tuple[int, ...], set[tuple[float, ...]]] = defaultdict(set)
    for user in range(n_draws):
        places, propensities = explored(ITEMS, SCORES, N, how(), user, Quota(categories))
        assert places[:FIXED].tolist() == [0, 1]
        assert propensities[:FIXED].tolist() == [1, 1]
        drawn = tuple(int(item) for item in ITEMS[places[FIXED:]])
        found[drawn] += 1
        told[drawn].add(tuple(propensities[FIXED:]))
    assert set(told) == set(expected)
    for drawn, chances in expected.items():
        assert len(told[drawn]) == 1
        assert next(iter(told[drawn])) == pytest.approx(chances, rel=1e-12)
        chance = chances[0] * chances[1]
        assert abs(found[drawn] - chance * n_draws) < 4.5 * (chance * (1 - chance) * n_draws) ** 0.5


@pytest.mark.parametrize("temperature", [0.01, 0.2, 5.0])
@pytest.mark.parametrize("floor", [0.0, 0.01, 0.25])
def test_no_chance_is_below_the_floor(temperature: float, floor: float) -> None:
    weights = pool_weights(SCORES[FIXED:], temperature, floor)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= floor - 1e-15).all()
    chances = [
        explored(ITEMS, SCORES, N, how(temperature=temperature, floor=floor), user, Quota(None))[1][FIXED:]
        for user in range(200)
    ]
    assert np.min(chances) >= floor - 1e-15
    assert np.max(chances) <= 1


def test_the_cold_limit_is_the_blends_list_and_the_hot_one_uniform() -> None:
    for user in range(50):
        places, propensities = explored(ITEMS, SCORES, N, how(temperature=1e-3, floor=0.0), user, Quota(None))
        assert places.tolist() == [0, 1, 2, 3]
        assert propensities == pytest.approx(np.ones(N))
    assert pool_weights(SCORES[FIXED:], 1e6, 0.0) == pytest.approx(np.full(4, 0.25), rel=1e-5)
    assert pool_weights(np.full(3, 0.7), 0.1, 0.0) == pytest.approx(np.full(3, 1 / 3))


def test_nothing_is_drawn_twice_and_nothing_from_below_the_pool() -> None:
    items, scores = np.arange(100, 160), np.linspace(1, 0, 60)
    for user in range(200):
        places, _ = explored(items, scores, 10, how(slots=5, pool=20, temperature=2.0), user, Quota(None))
        assert len(set(places.tolist())) == 10
        assert places.max() < 25


def test_a_pool_that_runs_out_is_followed_by_the_best_below_it() -> None:
    places, propensities = explored(ITEMS, SCORES, 5, how(slots=3, pool=1), 0, Quota(None))
    assert places.tolist() == [0, 1, 2, 3, 4]
    assert propensities.tolist() == [1] * 5
    short, chances = explored(ITEMS[:3], SCORES[:3], N, how(slots=3), 0, Quota(None))
    assert sorted(short.tolist()) == [0, 1, 2]
    assert len(chances) == 3
    none, nothing = explored(ITEMS[:0], SCORES[:0], N, how(), 0, Quota(None))
    assert (len(none), len(nothing)) == (0, 0)


def test_draws_follow_from_seed_run_and_user_alone() -> None:
    def draws(which: Exploration) -> list[list[int]]:
        return [explored(ITEMS, SCORES, N, which, user, Quota(None))[0].tolist() for user in range(30)]

    assert draws(how()) == draws(how())
    assert draws(how()) != draws(how(seed=1))
    assert draws(how()) != draws(Exploration(2, 0.5, 0.05, 4, 0, "2026-11-02"))
    assert len({tuple(one) for one in draws(how())}) > 3, "users have draws of their own"
