"""Off-policy estimates: by hand, of worlds whose true values are known, and how often the intervals cover them."""

from collections.abc import Callable

import numpy as np
import pytest

from ganrec_spark.learning.estimates import (
    WEIGHTS,
    Logged,
    PolicyValue,
    doubly_robust,
    fold_of,
    item_lifts,
    place_rates,
    reward_model,
    shown,
    snips,
    user_sums,
)
from ganrec_spark.learning.moments import Moments

Estimator = Callable[[Moments], PolicyValue]
WORLDS = 100
TASTES = np.random.default_rng(9).gamma(2, 0.5, 20_000)  # how much users click at all


def by_hand() -> Logged:
    return Logged(
        reward=np.array([1.0, 0.0, 1.0, 0.0]),
        propensity=np.array([0.5, 0.25, 0.5, 0.25]),
        target=np.array([0.25, 0.5, 0.25, 0.0]),
        cluster=np.array([7, 7, 3, 3]),
        modelled=np.array([0.5, 0.25, 0.5, 0.25]),
        expected=np.array([0.3, 0.3, 0.3, 0.3]),
    )


def test_values_by_hand() -> None:
    sums = user_sums(by_hand())  # weights 0.5, 2, 0.5, 0
    assert snips(sums).estimate.value == pytest.approx(1 / 3)
    assert snips(sums).effective == pytest.approx(9 / 4.5)
    assert snips(sums).support.value == 0.75
    # 0.3 + (0.5 x 0.5 - 2 x 0.25 + 0.5 x 0.5) / 3
    assert doubly_robust(sums).estimate.value == pytest.approx(0.3)
    assert shown(sums).estimate.value == 0.5
    assert sums.n == 2
    assert sums.sums[WEIGHTS] == 3


def test_the_logs_own_policy_is_estimated_by_its_own_rate() -> None:
    rng = np.random.default_rng(1)
    reward, p = (rng.random(500) < 0.2).astype(float), rng.uniform(0.1, 0.9, 500)
    sums = user_sums(Logged(reward, p, p, np.arange(500), np.full(500, 0.4), np.full(500, 0.4)))
    for estimator in (snips, doubly_robust):
        assert estimator(sums).estimate.value == pytest.approx(reward.mean())
        assert estimator(sums).effective == pytest.approx(500)
        assert not estimator(sums).lacks_support


def test_of_what_the_log_never_shows_snips_says_nothing_and_tells_so() -> None:
    # Item 2 is never drawn; the policy shows items 0 and 2 alike.
    rng = np.random.default_rng(2)
    item = rng.integers(2, size=4000)
    reward = (rng.random(4000) < np.where(item == 0, 0.1, 0.3)).astype(float)
    logged = Logged(reward, np.full(4000, 0.5), np.where(item == 0, 0.5, 0.0), np.arange(4000), reward * 0, reward * 0)
    found = snips(user_sums(logged))
    assert found.support.value == pytest.approx(0.5, abs=0.03)
    assert found.lacks_support
    assert found.estimate.value == pytest.approx(0.1, abs=0.02)  # of item 0


def test_without_any_overlap_there_is_no_bound() -> None:
    ones = np.ones(10)
    sums = user_sums(Logged(ones, ones, 0 * ones, np.arange(10), ones / 2, ones / 4))
    assert np.isnan(snips(sums).estimate.value)
    model = doubly_robust(sums)
    assert (model.estimate.value, model.estimate.low, model.estimate.high) == (0.25, -np.inf, np.inf)
    assert model.lacks_support


def test_the_reward_model_by_hand() -> None:
    # Fold 0 saw two places, fold 1 the first one alone.
    rates = place_rates(np.array([[2.0, 1.0], [3.0, 0.0]]), np.array([[4.0, 10.0], [5.0, 0.0]]))
    assert rates.tolist() == [[3 / 5, 3 / 5], [2 / 4, 1 / 10]]
    lifts = item_lifts(np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]]), 1.0)
    assert lifts.tolist() == [[1.0, 1 / 3], [2.0, 1.0]]


def test_the_reward_model_is_fitted_on_other_clusters() -> None:
    fold = fold_of(np.array([5, 5, 8, 8, 9, 9]), 2)
    assert fold.tolist() == [0, 0, 1, 1, 0, 0]
    reward, zeros = np.array([1.0, 1, 0, 0, 1, 1]), np.zeros(6, dtype=int)
    model = reward_model(reward, zeros, zeros, fold, 1, 1, prior=1.0)
    assert model.shape == (2, 1, 1)
    assert model[0, 0, 0] == 0  # fold 1 clicked nothing
    assert model[1, 0, 0] == 1


def one_world(seed: int, users: int, sharp: float, single: bool) -> tuple[float, Moments]:
    """Return the true value of a policy and the log's sums: users differ, three places each, eight items."""
    rng, n_items = np.random.default_rng(seed), 8
    utility = rng.uniform(0.02, 0.3, n_items)
    logging = np.exp(rng.normal(0, sharp, n_items))
    logging /= logging.sum()
    target = np.eye(n_items)[rng.integers(n_items)] if single else rng.dirichlet(np.ones(n_items))
    user = np.repeat(np.arange(users), 3)
    item = rng.choice(n_items, size=len(user), p=logging)
    chance = np.minimum(1, utility[item] * rng.choice(TASTES, users)[user])
    reward = (rng.random(len(user)) < chance).astype(float)
    fold = fold_of(user, 2)
    model = reward_model(reward, item, np.zeros(len(user), dtype=int), fold, n_items, 1, 5.0)[:, 0]
    sums = user_sums(Logged(reward, logging[item], target[item], user, model[fold, item], model[fold] @ target))
    return float(np.minimum(1, np.outer(TASTES, utility)).mean(axis=0) @ target), sums


@pytest.mark.parametrize("estimator", [snips, doubly_robust])
@pytest.mark.parametrize(
    ("users", "sharp", "single"),
    [(400, 1.0, False), (100, 1.0, False), (400, 2.0, False), (1000, 1.0, True), (200, 0.5, True)],
)
def test_intervals_cover_the_true_value(estimator: Estimator, users: int, sharp: float, single: bool) -> None:
    covered = 0
    for seed in range(WORLDS):
        truth, sums = one_world(seed, users, sharp, single)
        found = estimator(sums).estimate
        covered += found.low <= truth <= found.high
    assert covered >= 93


def test_the_doubly_robust_estimate_is_narrower_where_the_model_is_right() -> None:
    """Rewards that the items decide; the plain estimate has to average over which were drawn."""
    rng = np.random.default_rng(4)
    item = rng.integers(10, size=5000)
    utility, target = np.linspace(0.02, 0.98, 10), np.linspace(1, 3, 10) / 20
    reward = (rng.random(5000) < utility[item]).astype(float)
    logged = Logged(
        reward, np.full(5000, 0.1), target[item], np.arange(5000), utility[item], np.full(5000, utility @ target)
    )
    plain, robust = snips(user_sums(logged)).estimate, doubly_robust(user_sums(logged)).estimate
    assert robust.high - robust.low < 0.95 * (plain.high - plain.low)
    assert robust.low < utility @ target < robust.high
