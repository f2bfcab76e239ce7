"""A world whose truth is known, for benchmarks/loop.py: who would click what, tonight and after it has changed.

Letters: U users, I items, D hidden factors. Somebody who looks at item i at place k clicks with probability

    look(k) * sigmoid(base + steepness * u.v / sqrt(D) + quality_i - fading * age_i),   look(k) = k^-0.7

and never a second time. Users' tastes u walk a little every day, items grow old, both come anew every day. People also
find things themselves, by what they like: that is how a new item gets its first events, and a new user a history.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.seeding import stable_rng

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FACTORS = 6


@dataclass(frozen=True)
class Size:
    """How large a world is; `new_users` and `new_items` a day, `n` items a list."""

    users: int = 400
    items: int = 250
    new_users: int = 10
    new_items: int = 5
    days: int = 20
    n: int = 10

    @property
    def all_users(self) -> int:
        return self.users + self.new_users * self.days

    @property
    def all_items(self) -> int:
        return self.items + self.new_items * self.days


@dataclass(frozen=True)
class Truth:
    """How people choose: the constants of the formula above, and how far tastes walk in a day (0: not at all)."""

    base: float = -2.2
    steepness: float = 2.2
    quality: float = 0.6
    fading: float = 0.08
    walk: float = 0.12
    look: float = 0.7


def looks(n: int, truth: Truth) -> Floats:
    """Return the probability [n] that somebody looks at each place of a list."""
    return np.asarray(np.arange(1, n + 1) ** -truth.look)


def sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


class World:
    """One drawn world; the same seed is the same world for every way of making lists."""

    def __init__(self, size: Size, seed: int, truth: Truth | None = None) -> None:
        self.size, self.seed, self.truth = size, seed, truth or Truth()
        rng = stable_rng(seed, "world")
        self._tastes = rng.standard_normal((size.all_users, FACTORS))
        self._vectors = rng.standard_normal((size.all_items, FACTORS))
        self._quality = self.truth.quality * rng.standard_normal(size.all_items)
        self.activity = rng.beta(2.0, 3.0, size.all_users)  # probability of a visit in each half of a day
        self._day = 0

    def users_on(self, day: int) -> int:
        """Return how many users there are: the first so many."""
        return self.size.users + self.size.new_users * day

    def items_on(self, day: int) -> int:
        """Return how many items there are: the first so many."""
        return self.size.items + self.size.new_items * day

    def chances(self, day: int) -> Floats:
        """Return the probability [U, I] that a user who looks at an item clicks; 0 where one is not there yet.

        Days must not go back: tastes walk on.
        """
        for step in range(self._day + 1, day + 1):
            moved = stable_rng(self.seed, "walk", step).standard_normal(self._tastes.shape)
            self._tastes = np.sqrt(1 - self.truth.walk**2) * self._tastes + self.truth.walk * moved
        self._day = day
        own = self.truth
        later = np.arange(self.size.all_items) - self.size.items
        born = np.where(later < 0, 0, 1 + later // max(1, self.size.new_items))
        height = own.steepness * self._tastes @ self._vectors.T / FACTORS**0.5
        found = sigmoid(own.base + height + self._quality - own.fading * np.maximum(0, day - born))
        found[self.users_on(day) :] = 0
        found[:, self.items_on(day) :] = 0
        return found

    def found_alone(self, chances: Floats, known: Bools, users: NDArray[np.int64], part: str) -> NDArray[np.int64]:
        """Return one item [users] that each finds without us, none of those that they know, in proportion to liking."""
        noise = stable_rng(self.seed, "alone", part).gumbel(size=chances.shape)[users]
        with np.errstate(divide="ignore"):
            keys = np.where(known[users], -np.inf, np.log(chances[users]) + noise)
        return np.asarray(keys.argmax(axis=1))

    def history(self, chances: Floats) -> Bools:
        """Return what users [U, I] did before the first day: 1 and more things, the active ones more."""
        rng, known = stable_rng(self.seed, "history"), np.zeros(chances.shape, dtype=np.bool_)
        wanted = 1 + rng.poisson(14 * self.activity**2)[: self.size.users]
        for step in range(int(wanted.max())):
            users = np.flatnonzero(wanted > step)
            known[users, self.found_alone(chances, known, users, f"history {step}")] = True
        return known

    def visitors(self, day: int, half: int) -> NDArray[np.int64]:
        """Return who comes in a half of a day."""
        come = stable_rng(self.seed, "visits", day, half).random(self.size.all_users) < self.activity
        return np.flatnonzero(come[: self.users_on(day)])
