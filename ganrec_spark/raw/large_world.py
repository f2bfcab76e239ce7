"""The world of raw.world at any size, made in Spark: to see what a job takes before there is data for it.

The same tastes, series and long tails. What a block of users rates follows from the seed and the block alone, so the
rows are the same on every machine, whatever the number of partitions. Letters: U users of a block, R their ratings.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.errors import ConfigError
from ganrec_spark.raw.world import (
    FIRST_SECOND,
    LAST_SECOND,
    LONGEST_GAP,
    MEAN_GAP,
    NEXT_IN_SERIES,
    OWN_TASTE,
    TASTES,
    activity,
    mean_ratings,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_USERS_PER_BLOCK = 5000
_LEAST = 3  # ratings of a user: one to learn from, one to choose by, one to test
_MONTH = 30 * 86_400
_ROWS = "user bigint, item bigint, rating double, timestamp bigint"
_ARROW = pa.schema([("user", pa.int64()), ("item", pa.int64()), ("rating", pa.float64()), ("timestamp", pa.int64())])


@dataclass(frozen=True)
class LargeWorld:
    """About so many ratings of so many users and items. Popularity falls with rank ** -skew: 0 is none, 1 is Zipf's.

    Raise ConfigError where there are fewer than 3 ratings a user or 3 * 8 items, or where users would rate more than a
    third of all items.
    """

    users: int
    items: int
    ratings: int
    skew: float = 1.0
    seed: int = 7

    def __post_init__(self) -> None:
        if self.users < 1 or self.items < 3 * TASTES or self.skew < 0:
            raise ConfigError(
                f"world: expected users, at least {3 * TASTES} items and a skew from 0, found {self.users} users, "
                f"{self.items} items, skew {self.skew:g}"
            )
        mean, most = self.ratings / self.users, self.items // 3
        if not _LEAST <= mean <= most / 2:
            raise ConfigError(
                f"world: expected {_LEAST} to {most // 2} ratings a user of {self.items} items, found {mean:.1f}; "
                "change --ratings, --users or --items"
            )

    def frame(self, spark: SparkSession) -> DataFrame:
        """Return (user_id, item_id, rating 1 to 5, timestamp in seconds), a pair once, in no order."""
        blocks = -(-self.users // _USERS_PER_BLOCK)

        def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for block in batch.column("id").to_pylist():
                    yield pa.RecordBatch.from_arrays([pa.array(own) for own in self.block(block)], schema=_ARROW)

        made = spark.range(blocks, numPartitions=min(blocks, 10_000)).mapInArrow(rows, _ROWS)
        return made.select(
            F.format_string("u%05d", "user").alias("user_id"),
            F.format_string("i%04d", "item").alias("item_id"),
            "rating",
            "timestamp",
        )

    def block(self, block: int) -> tuple[Ints, Ints, Floats, Ints]:
        """Return users, items, ratings and times [R] of a block of users, by user and time."""
        rng = np.random.default_rng([self.seed, block])
        first = block * _USERS_PER_BLOCK
        users = np.arange(first, min(first + _USERS_PER_BLOCK, self.users))
        counts = self._counts(rng, len(users))
        owners, items = _first_ones(*self._drawn(rng, users % TASTES, counts + counts // 3 + 4), counts)
        counts = np.bincount(owners, minlength=len(users))
        mood = rng.normal(0, 0.3, len(users))
        means = mean_ratings(users[owners] % TASTES == items % TASTES) + mood[owners]
        ratings = np.clip(np.rint(rng.normal(means, 0.8)), 1, 5)
        start = rng.integers(FIRST_SECOND, LAST_SECOND, len(users))
        # As in raw.world: gaps of hours, never 0, and all of a user's within a month.
        longest = np.minimum(LONGEST_GAP, _MONTH // np.maximum(counts, 1))
        gaps = 1 + np.minimum(rng.exponential(MEAN_GAP, len(items)), longest[owners] - 1)
        passed = np.cumsum(gaps.astype(np.int64))
        before = np.concatenate([[0], passed])[np.cumsum(counts) - counts]
        return users[owners], items, ratings, start[owners] + passed - before[owners]

    def _counts(self, rng: np.random.Generator, n: int) -> Ints:
        return _scaled(activity(rng, n), _scale(self.ratings / self.users), self.items // 3)

    def _drawn(self, rng: np.random.Generator, taste: Ints, draws: Ints) -> tuple[Ints, Ints]:
        """Return the users' places and the items that they come by, in order, the same item maybe more than once."""
        everywhere, at_home, starts = _popularity(self.items, self.skew, self.seed)
        order = np.argsort(-draws, kind="stable")
        drawn = np.full((len(draws), int(draws.max(initial=0))), -1, dtype=np.int64)
        last = np.full(len(draws), -1, dtype=np.int64)
        for step in range(drawn.shape[1]):
            own = order[: np.searchsorted(-draws[order], -step)]  # who has draws left
            how, where = rng.random((2, len(own)))
            home = np.searchsorted(at_home, taste[own] + where, side="right") - starts[taste[own]]
            item = np.where(
                how < NEXT_IN_SERIES + OWN_TASTE,
                taste[own] + TASTES * home,
                np.searchsorted(everywhere, where, side="right"),
            )
            following = np.where(last[own] + TASTES < self.items, last[own] + TASTES, last[own] % TASTES)
            last[own] = drawn[own, step] = np.where((how < NEXT_IN_SERIES) & (step > 0), following, item)
        owners, places = np.nonzero(drawn >= 0)
        return owners, drawn[owners, places]


def _first_ones(owners: Ints, items: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return what is left without what a user has come by before, and of that so many of each user."""
    _, first = np.unique(np.stack([owners, items]), axis=1, return_index=True)
    first.sort()
    owners, items = owners[first], items[first]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = place < counts[owners]
    return owners[kept], items[kept]


@lru_cache(maxsize=1)
def _popularity(items: int, skew: float, seed: int) -> tuple[Floats, Floats, Ints]:
    """Return cumulated chances of all items [I], and of each taste's items between the taste's number and the next.

    And where each taste's items begin in the latter. Ranks of popularity are drawn independently of taste and series.
    """
    popularity = (np.random.default_rng([seed, items]).permutation(items) + 5.0) ** -skew
    everywhere = np.cumsum(popularity) / popularity.sum()
    everywhere[-1] = 1.0
    parts = [np.cumsum(popularity[taste::TASTES]) for taste in range(TASTES)]
    at_home = [taste + part / part[-1] for taste, part in enumerate(parts)]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])[:-1]])
    return everywhere, np.concatenate(at_home), starts


@lru_cache(maxsize=8)
def _scale(mean: float) -> float:
    """Return what activity is to be multiplied by so that users have `mean` ratings on average."""
    sample = activity(np.random.default_rng(0), 100_000)
    low, high = 0.0, 2 * mean
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _scaled(sample, middle, 2**62).mean() < mean else (low, middle)
    return high


def _scaled(counts: Ints, scale: float, most: int) -> Ints:
    return np.asarray(np.clip(np.rint(counts * scale), _LEAST, most), dtype=np.int64)
