"""How a peer's setting is searched: a grid in random order, then the best one's neighbours, past the grid's edge, too.

Plain Python: the peers' environment runs it as well.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Setting = dict[str, Any]
Limits = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Searched:
    """The best value and its setting, how many settings were tried, and in words where the search stopped."""

    value: float
    setting: Setting
    n_tried: int
    ended: str


def search(
    grid: Sequence[Setting],
    evaluate: Callable[[Setting, float], float],
    budget: float,
    ladders: Mapping[str, Sequence[float]] | None = None,
    limits: Limits | None = None,
) -> Searched:
    """Return the setting with the largest `evaluate(setting, seconds left)`; the budget is looked at before each.

    The grid is tried in its order until half of `budget` seconds are spent, then the best setting's neighbours for as
    long as one is better, then the rest of the grid. `ladders` are each hyper-parameter's values, ascending: by
    default those of the grid. They grow past their ends, within `limits`.
    """
    started = time.monotonic()
    known = {name: list(values) for name, values in (ladders or _ladders(grid)).items()}
    ends = {name: (values[0], values[-1]) for name, values in known.items()}
    tried: dict[tuple[Any, ...], tuple[float, Setting]] = {}
    waiting, best, value, near, spent = list(grid), grid[0], -math.inf, [], 0.0
    while waiting or near:
        setting = waiting[0] if waiting and (not near or spent <= budget / 2) else near[0]
        tried[_key(setting)] = (evaluate(setting, budget - spent), setting)
        for name, values in known.items():
            known[name] = sorted({*values, setting[name]})
        value, best = max(tried.values(), key=lambda one: one[0])
        waiting = [one for one in waiting if _key(one) not in tried]
        near = [one for one in neighbours(best, known, limits or {}) if _key(one) not in tried]
        spent = time.monotonic() - started
        if spent > budget:
            break
    beyond = [name for name, (low, high) in ends.items() if not low <= best[name] <= high]
    words = f"beyond the first values in {', '.join(beyond)}; " if beyond else ""
    left = f"{len(waiting)} of the grid and {len(near)} of its neighbours" if waiting else f"{len(near)} neighbours"
    words += f"the budget ended before {left} were tried" if waiting or near else "no neighbour is better"
    return Searched(value, best, len(tried), words)


def neighbours(setting: Setting, ladders: Mapping[str, Sequence[float]], limits: Limits) -> Iterator[Setting]:
    """Yield the settings one step away in one hyper-parameter, up before down."""
    for name, ladder in ladders.items():
        at = ladder.index(setting[name])
        low, high = limits.get(name, (-math.inf, math.inf))
        above = ladder[at + 1] if at + 1 < len(ladder) else beyond(ladder)
        below = ladder[at - 1] if at else beyond(ladder[::-1])
        for value in (above, below):
            if value is not None and low <= value <= high:
                yield {**setting, name: value}


def beyond(ladder: Sequence[float]) -> float | None:
    """Return the value that follows the ladder's last one: by its step where all steps are equal, else by its factor.

    Whole numbers stay whole and at least 1, positive numbers positive; None where nothing follows.
    """
    if len(ladder) < 2:
        return None
    steps = [after - before for before, after in itertools.pairwise(ladder)]
    last, before = ladder[-1], ladder[-2]
    even = len(steps) > 1 and all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    if not even and before == 0:
        return None
    value = last + steps[-1] if even else last * last / before
    if all(isinstance(one, int) for one in ladder):
        return max(1, round(value)) if max(1, round(value)) != last else None
    value = float(f"{value:.6g}")  # 0.30000000000000004 would be another setting than 0.3
    return None if value == last or (value <= 0 < min(ladder)) else value


def _ladders(grid: Sequence[Setting]) -> dict[str, list[float]]:
    return {name: sorted({setting[name] for setting in grid}) for name in grid[0]}


def _key(setting: Setting) -> tuple[Any, ...]:
    return tuple(sorted(setting.items()))
