"""A small generated world of ratings whose structure is known: for the demo and for tests.

Users and items have one of eight tastes. Users rate items of their own taste more often and higher; items of a taste
form a series, and a user who rated one is likely to rate the next. Activity and popularity are long-tailed.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ganrec_spark.lake.files import write_file

TASTES = 8
NEXT_IN_SERIES, OWN_TASTE = 0.35, 0.45  # the rest is picked by popularity alone
FIRST_SECOND, LAST_SECOND = 1_746_057_600, 1_790_812_800  # 2025-05-01 to 2026-10-01, UTC
MEAN_GAP, LONGEST_GAP = 6_000, 17_000  # seconds between two ratings


def taste_of_user(user_id: str) -> int:
    """Return the taste, 0 to 7, of a user of the world such as u00042."""
    return int(user_id.removeprefix("u")) % TASTES


def taste_of_item(item_id: str) -> int:
    """Return the taste, 0 to 7, of an item of the world such as i0123."""
    return int(item_id.removeprefix("i")) % TASTES


def next_in_series(item_id: str, items: int = 800) -> str:
    """Return the item of the same taste that follows `item_id` in its series; after the last comes the first."""
    position = int(item_id.removeprefix("i")) + TASTES
    return f"i{position if position < items else position % TASTES:04d}"


def write_world(path: str | Path, users: int = 3000, items: int = 800, seed: int = 7) -> int:
    """Write ratings (user_id, item_id, rating 1-5, timestamp in seconds) to a Parquet file; return their number.

    The same arguments give the same file. Times lie between 2025-05-01 and 2026-11-01.
    """
    rng = np.random.default_rng(seed)
    # Ranks of popularity are drawn independently of taste and series.
    popularity = 1.0 / (rng.permutation(items) + 5.0)
    columns: dict[str, list[NDArray[np.int64]]] = {"user": [], "item": [], "rating": [], "timestamp": []}
    counts = np.minimum(activity(rng, users), max(3, items // 3))
    for user, count in enumerate(counts):
        history = _history(rng, user % TASTES, int(count), popularity)
        columns["user"].append(np.full(len(history), user))
        columns["item"].append(history)
        columns["rating"].append(_ratings(rng, user % TASTES, history))
        columns["timestamp"].append(_times(rng, len(history)))
    table = _table({name: np.concatenate(parts) for name, parts in columns.items()})
    content = io.BytesIO()
    pq.write_table(table, content)
    write_file(str(path), content.getvalue())
    return int(table.num_rows)


def activity(rng: np.random.Generator, users: int) -> NDArray[np.int64]:
    """Return ratings per user: 65 % of users have 3-10, 25 % 11-40, 10 % 41-150."""
    kind = rng.choice(3, size=users, p=[0.65, 0.25, 0.10])
    low, high = np.array([3, 11, 41])[kind], np.array([10, 40, 150])[kind]
    # Squared: within each kind the small numbers are the frequent ones.
    return np.asarray(low + ((high - low + 1) * rng.random(users) ** 2).astype(np.int64))


def mean_ratings(own_taste: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return what an item is rated on average, of the user's own taste or not."""
    return np.where(own_taste, 4.1, 2.8)


def _history(rng: np.random.Generator, taste: int, count: int, popularity: NDArray[np.float64]) -> NDArray[np.int64]:
    items = len(popularity)
    own = np.arange(taste, items, TASTES)
    everywhere = np.cumsum(popularity) / popularity.sum()
    at_home = np.cumsum(popularity[own]) / popularity[own].sum()
    history: list[int] = []
    seen: set[int] = set()
    while len(history) < min(count, items):
        how, where = rng.random(2)
        if history and how < NEXT_IN_SERIES:
            item = history[-1] + TASTES if history[-1] + TASTES < items else history[-1] % TASTES
        elif how < NEXT_IN_SERIES + OWN_TASTE:
            item = int(own[np.searchsorted(at_home, where)])
        else:
            item = int(np.searchsorted(everywhere, where))
        if item not in seen:
            seen.add(item)
            history.append(item)
    return np.array(history, dtype=np.int64)


def _ratings(rng: np.random.Generator, taste: int, history: NDArray[np.int64]) -> NDArray[np.int64]:
    mean = mean_ratings(history % TASTES == taste) + rng.normal(0, 0.3)
    rounded: NDArray[np.int64] = np.clip(np.rint(rng.normal(mean, 0.8)), 1, 5).astype(np.int64)
    return rounded


def _times(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    start = rng.integers(FIRST_SECOND, LAST_SECOND)
    # Gaps of hours, never 0; even 150 of them end within the month that is left.
    times: NDArray[np.int64] = start + np.cumsum(1 + np.minimum(rng.exponential(MEAN_GAP, count), LONGEST_GAP)).astype(
        np.int64
    )
    return times


def _table(columns: dict[str, NDArray[np.int64]]) -> pa.Table:
    order = np.argsort(columns["timestamp"], kind="stable")
    return pa.table(
        {
            "user_id": [f"u{user:05d}" for user in columns["user"][order]],
            "item_id": [f"i{item:04d}" for item in columns["item"][order]],
            "rating": pa.array(columns["rating"][order].astype(np.float64)),
            "timestamp": pa.array(columns["timestamp"][order]),
        }
    )
