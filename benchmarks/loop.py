"""Is the loop worth it, and do its intervals hold? Simulated worlds in which the truth is known.

    .venv/bin/python benchmarks/loop.py [--seeds 5] [--days 20] [--worlds 100] [--out DIR]

The first part (loop_lists.py in worlds of loop_world.py) lists to the same people in six ways for days: clicks, and
how many items are shown. The second (loop_experiments.py) asks in many small worlds whether the intervals of
experiments and of policy estimates hold the true values. Writes loop.md and loop.svg.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from loop_experiments import Small, experiments, policies
from loop_lists import Models, blended, fitted, forgotten, listed
from loop_report import write
from loop_world import Bools, Floats, Size, World, looks
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ganrec_spark.experiment.explore import Exploration
from ganrec_spark.seeding import stable_rng

ALONE = 0.3  # probability that a visitor finds something without us


@dataclass(frozen=True)
class Way:
    """One way of listing: whether models are trained every day, lists follow their users within the day, and so on."""

    name: str
    daily: bool = True
    refresh: bool = False
    explore: bool = False
    fills: bool = False


WAYS = (
    Way("static lists", daily=False),
    Way("daily"),
    Way("daily, explored", explore=True),
    Way("daily, filled", fills=True),
    Way("daily, refreshed", refresh=True),
    Way("all three", refresh=True, explore=True, fills=True),
)


def main() -> None:
    """Parse the command line, simulate, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--users", type=int, default=Size.users)
    parser.add_argument("--items", type=int, default=Size.items)
    parser.add_argument("--worlds", type=int, default=100, help="of each kind of small world")
    parser.add_argument("--small-users", type=int, default=Small.users)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "benchmarks")
    options = parser.parse_args()
    size = Size(users=options.users, items=options.items, days=options.days)
    small = Small(users=options.small_users)
    with threadpool_limits(1):  # small matrices: threads would only wait for each other
        days = pd.DataFrame(
            [row for seed in range(options.seeds) for way in WAYS for row in simulated(size, seed, way)]
        )
        worlds = range(options.worlds)
        found = pd.DataFrame([row for seed in worlds for row in (*experiments(small, seed), *policies(small, seed))])
    told = f"benchmarks/loop.py --seeds {options.seeds} --days {options.days} --worlds {options.worlds}"
    write(options.out, days, found, size, small, told)


def simulated(size: Size, seed: int, way: Way) -> Iterator[dict[str, object]]:
    """Yield one row a day: expected clicks, the best possible ones, Gini and number of the items shown."""
    world = World(size, seed)
    chances = world.chances(0)
    known = world.history(chances)
    trending = known.sum(axis=0).astype(np.float64)
    models, first = fitted(known, trending, way.fills, seed), known.copy()
    for day in range(size.days):
        chances = world.chances(day)
        if way.daily and day:
            models = fitted(known, trending, way.fills, seed)
        before, clicks = known.copy(), np.zeros(size.all_items)
        shown, worth, best = np.zeros(size.all_items), 0.0, 0.0
        for half in range(2):
            users = world.visitors(day, half)
            history = known if way.refresh else before if way.daily else first
            lists = lists_of(
                models, history[users], world.items_on(day if way.daily else 0), way, users, (seed, day, size.n)
            )
            open_ones = np.where(known[users], 0.0, chances[users])
            worth += expected(open_ones, lists, world)
            best += expected(open_ones, np.argsort(-open_ones, axis=1)[:, : size.n], world)
            np.add.at(shown, lists, 1)
            clicked = drawn(open_ones, lists, world, (day, half))
            known[users] |= clicked
            clicks += clicked.sum(axis=0)
            alone = users[stable_rng(seed, "alone", day, half).random(len(users)) < ALONE]
            items = world.found_alone(chances, known, alone, f"{day} {half}")
            known[alone, items] = True
            np.add.at(clicks, items, 1)
        trending = forgotten(trending, clicks)
        there = shown[: world.items_on(day)]
        yield {
            "seed": seed, "way": way.name, "day": day + 1, "clicks": worth, "best": best, "gini": gini(there),
            "distinct": int((there > 0).sum()), "items": len(there),
            "new_shown": float(there[size.items :].sum() / there.sum()),
        }  # fmt: skip


def lists_of(
    models: Models, history: Bools, there: int, way: Way, users: NDArray[np.int64], drawn_by: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Return the lists [users, n] of the visitors."""
    seed, day, n = drawn_by
    how = Exploration(2, 0.2, 0.002, 100, seed, f"day {day}") if way.explore else None
    return listed(blended(models, history, there), n, how, users)


def expected(open_ones: Floats, lists: NDArray[np.int64], world: World) -> float:
    """Return the clicks to expect of lists, by the true probabilities of what has not been clicked yet."""
    return float((np.take_along_axis(open_ones, lists, axis=1) * looks(lists.shape[1], world.truth)).sum())


def drawn(open_ones: Floats, lists: NDArray[np.int64], world: World, when: tuple[int, int]) -> Bools:
    """Return which items [users, I] are clicked. Somebody's mood of an item is the same in every way of listing."""
    mood = stable_rng(world.seed, "clicks", *when).random(open_ones.shape)
    look = np.zeros(open_ones.shape)
    np.put_along_axis(look, lists, np.broadcast_to(looks(lists.shape[1], world.truth), lists.shape), axis=1)
    return np.asarray(mood < look * open_ones)


def gini(counts: Floats) -> float:
    """Return the Gini coefficient of exposures over items: 0 all alike, towards 1 all of one."""
    ordered, n = np.sort(counts), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


if __name__ == "__main__":
    main()
