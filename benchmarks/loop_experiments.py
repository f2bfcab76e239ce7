"""Small worlds for benchmarks/loop.py: do the intervals of experiments and of policy estimates hold the true values?

Models are fitted on people of their own and stay as they are. The users of an experiment are drawn from the same world,
and the truth is that of everybody who could have been drawn: `everyone` users more, whose chances are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from loop_lists import Models, blended, fitted, listed
from loop_world import Bools, Floats, Size, Truth, World, looks
from numpy.typing import NDArray

from ganrec_spark.config.lists import Arm, Experiment
from ganrec_spark.experiment.arms import arm_of
from ganrec_spark.experiment.explore import Exploration, explored
from ganrec_spark.learning.effects import METRICS, difference, ideal_gain, mismatch
from ganrec_spark.learning.estimates import Logged, doubly_robust, fold_of, reward_model, snips, user_sums
from ganrec_spark.learning.moments import Estimate, Moments
from ganrec_spark.rules.keeping import Quota
from ganrec_spark.seeding import stable_rng

MEASURED = ("rate", "users", "discounted_hits")
FOLDS, PRIOR = 2, 5.0  # as learning.policies


@dataclass(frozen=True)
class Small:
    """How large a small world is: users of the experiment and of its models, days that lists are shown, n a list."""

    users: int = 1000
    trained: int = 500
    everyone: int = 10_000
    traced: int = 3000
    items: int = 60
    days: int = 3
    n: int = 6
    slots: int = 2
    control: float = 0.3


@dataclass(frozen=True)
class People:
    """Users with their chances [U, I], what they did before [U, I], and their probability of a visit on a day [U]."""

    chances: Floats
    known: Bools
    visits: Floats


def people(world: World, chances: Floats, known: Bools, first: int, last: int) -> People:
    """Return the users of a range."""
    return People(chances[first:last], known[first:last], world.activity[first:last])


@lru_cache(maxsize=1)
def grown(small: Small, seed: int) -> tuple[World, Models, People, People]:
    """Return a world, models of some of its users, those of the experiment, and everybody who could be in it."""
    size = Size(small.users + small.trained + small.everyone, small.items, 0, 0, 0, small.n)
    world = World(size, seed, Truth(base=-1.0))  # people who click more: fewer of them say as much
    chances = world.chances(0)
    known = world.history(chances)
    bounds = np.cumsum([0, small.trained, small.users, small.everyone])
    trained, tried, everyone = (people(world, chances, known, *span) for span in pairwise(bounds))
    return world, fitted(trained.known, trained.known.sum(axis=0).astype(np.float64), False, seed), tried, everyone


def popular(models: Models, known: Bools) -> Floats:
    """Return scores [U, I] of popularity."""
    return np.where(known, -np.inf, models.trending)


def at_places(whose: People, lists: NDArray[np.int64], world: World) -> Floats:
    """Return the probability [U, n] of a click where the user comes."""
    return np.asarray(np.take_along_axis(whose.chances, lists, axis=1) * looks(lists.shape[1], world.truth))


def experiments(small: Small, seed: int) -> Iterator[dict[str, object]]:
    """Yield a row for each metric: the blend against popularity, and the blend against itself."""
    world, models, tried, everyone = grown(small, seed)
    arms = (
        Arm(name="blend", share=1 - small.control, lists="published"),
        Arm(name="other", share=small.control, lists="popularity"),
    )
    assigned = Experiment(salt=f"world {seed}", arms=arms)
    in_blend = np.array([arm_of(f"u{user}", assigned) == "blend" for user in range(small.users)])
    counts = {"blend": int(in_blend.sum()), "other": int((~in_blend).sum())}
    chance = mismatch(counts, {arm.name: arm.share for arm in arms})
    for kind in ("a difference", "no difference"):
        sides, truths = [], []
        for own, is_blend in ((in_blend, True), (~in_blend, kind == "no difference")):
            scored = blended if is_blend else lambda models, known, _: popular(models, known)
            lists = [
                listed(scored(models, whose.known, small.items), small.n, None, np.zeros(0, int))
                for whose in (tried, everyone)
            ]
            truths.append(true_metrics(small, everyone, at_places(everyone, lists[1], world)))
            here = People(tried.chances[own], tried.known[own], tried.visits[own])
            sides.append(
                moments(
                    small, here, at_places(here, lists[0][own], world), stable_rng(seed, kind, is_blend, len(sides))
                )
            )
        for name in MEASURED:
            found = difference(*sides, METRICS[name])
            truth = truths[0][name] - truths[1][name] if kind == "a difference" else 0.0
            yield row(seed, kind, name, found.estimate, truth) | {"mismatch": chance, "reduction": found.reduction}


def moments(small: Small, whose: People, chances: Floats, rng: np.random.Generator) -> Moments:
    """Draw what the users of an arm did on all days; return the moments of learning.effects' measures."""
    come = rng.random((small.days, len(chances), 1)) < whose.visits[:, None]
    hits = come & (rng.random((small.days, *chances.shape)) < chances)
    discount = 1 / np.log2(np.arange(2, small.n + 2)) / ideal_gain(small.n)
    users, total = len(chances), hits.sum(axis=(0, 2))
    days = hits.any(axis=2).sum(axis=0)
    return Moments.of(
        np.full(users, small.days * small.n), total, np.full(users, small.days), (hits @ discount).sum(axis=0),
        total > 0, np.maximum(0, days - 1), np.zeros(users), np.log1p(whose.known.sum(axis=1)), np.ones(users),
    )  # fmt: skip


def true_metrics(small: Small, whose: People, chances: Floats) -> dict[str, float]:
    """Return the metrics that everybody would have with these chances at each place [U, n]."""
    discount = 1 / np.log2(np.arange(2, small.n + 2)) / ideal_gain(small.n)
    nothing = 1 - whose.visits * (1 - np.prod(1 - chances, axis=1))
    return {
        "rate": float((whose.visits * chances.mean(axis=1)).mean()),
        "users": float((1 - nothing**small.days).mean()),
        "discounted_hits": float((whose.visits * (chances @ discount)).mean()),
    }


def policies(small: Small, seed: int) -> Iterator[dict[str, object]]:
    """Yield a row for each policy and estimator: what its choices at the drawn places would earn, from the log."""
    world, models, tried, everyone = grown(small, seed)
    few = People(everyone.chances[: small.traced], everyone.known[: small.traced], everyone.visits[: small.traced])
    logs = [
        Log(small, world, models, whose, seed, part, days)
        for whose, part, days in ((tried, "log", small.days), (few, "truth", 1))
    ]
    log, truth = logs
    rng = stable_rng(seed, "rewards")
    reward = (rng.random(len(log.item)) < log.chance(log.item)).astype(np.float64)
    fold = fold_of(log.user, FOLDS)
    model = reward_model(reward, log.item, log.place, fold, small.items, small.n, PRIOR)
    for name in ("blend", "item_item", "popularity"):
        choice = log.choice(name)
        target = (choice == log.item).astype(np.float64)
        rows = (model[fold, log.place, item] for item in (log.item, choice))
        sums = user_sums(Logged(reward, log.propensity, target, log.user, *rows))
        own = float(truth.chance(truth.choice(name)).mean())
        for estimator in (snips, doubly_robust):
            found = estimator(sums)
            more = {"effective": found.effective, "too_wide": found.estimate.too_wide}
            yield row(seed, f"policy {name}", estimator.__name__, found.estimate, own) | more


class Log:
    """Drawn places of lists of the blend: user, item, place (from 0) and propensity of each, and what stands above."""

    def __init__(
        self, small: Small, world: World, models: Models, whose: People, seed: int, part: str, days: int
    ) -> None:
        self._world, self._whose = world, whose
        scores = blended(models, whose.known, small.items)
        self._scores = {
            "blend": scores,
            "item_item": np.where(whose.known, -np.inf, whose.known.astype(np.float32) @ models.weights),
            "popularity": popular(models, whose.known),
        }
        self._above: list[NDArray[np.int64]] = []
        users, items, places, propensities = [], [], [], []
        for day in range(days):
            how = Exploration(small.slots, 0.3, 0.4 / small.items, small.items, seed, f"{part} {day}")
            for user, own in enumerate(scores):
                ranked = np.argsort(-own, kind="stable")
                ranked = ranked[np.isfinite(own[ranked])]
                chosen, propensity = explored(ranked, own[ranked], small.n, how, user, Quota(None))
                for place in np.flatnonzero(propensity < 1):
                    users.append(user)
                    items.append(ranked[chosen[place]])
                    places.append(place)
                    propensities.append(propensity[place])
                    self._above.append(ranked[chosen[:place]])
        self.user, self.item, self.place = (np.array(values) for values in (users, items, places))
        self.propensity = np.array(propensities)

    def chance(self, item: NDArray[np.int64]) -> Floats:
        """Return the true probability of an event of these items at the places of the log, visit and all."""
        look = looks(int(self.place.max()) + 1, self._world.truth)[self.place]
        return np.asarray(self._whose.visits[self.user] * look * self._whose.chances[self.user, item])

    def choice(self, policy: str) -> NDArray[np.int64]:
        """Return the policy's best item at each place that does not stand above, as learning.policies has it."""
        scores = self._scores[policy][self.user].copy()
        for row_scores, above in zip(scores, self._above, strict=True):
            row_scores[above] = -np.inf
        return np.asarray(scores.argmax(axis=1))


def row(seed: int, kind: str, name: str, found: Estimate, truth: float) -> dict[str, object]:
    """Return what one interval says, and whether it holds the truth."""
    holds = found.low <= truth <= found.high
    return {
        "seed": seed,
        "kind": kind,
        "name": name,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "truth": truth,
        "holds": holds,
    }
