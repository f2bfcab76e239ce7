"""Whether the world that models were trained in is still there: how differently counts are spread now.

Population stability index of shares p (then) and q (now) over B bins: sum (q - p) ln(q / p), which is the symmetric
Kullback-Leibler divergence. By custom below 0.1 is nothing, above 0.25 is another population (Siddiqi 2006, "Credit
risk scorecards", chapter 8); under no change it is about chance of (B - 1) (1 / n + 1 / m) (Yurdakul & Naranjo 2020).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.learning.moments import Floats

BINS = 10
# Added to every bin, in counts: a bin that is empty on one side would make the index endless.
_HALF = 0.5


def stability_index(then: Floats, now: Floats) -> float:
    """Return the population stability index of two arrays of counts [B] over the same bins; 0 where one has none."""
    if not then.sum() or not now.sum():
        return 0.0
    before, after = ((counts + _HALF) / (counts + _HALF).sum() for counts in (then, now))
    return float(((after - before) * np.log(after / before)).sum())


def by_chance(n_bins: int, then: float, now: float) -> float:
    """Return the index to expect of as many counts, then and now, where nothing has changed."""
    return (n_bins - 1) * (1 / then + 1 / now) if then and now else 0.0


def equal_bins(counts: NDArray[Any], bins: int = BINS) -> NDArray[np.int64]:
    """Return a bin for each position: most counted first, bins of about equal sums; what is not counted is in none, -1.

    Single items are too many for an index of few events: it would be chance alone.
    """
    order = np.lexsort((np.arange(len(counts)), -counts))
    running = np.cumsum(counts[order]) - counts[order] / 2  # the middle of each one's own stretch
    total = counts.sum()
    found = np.full(len(counts), -1, dtype=np.int64)
    if total:
        found[order] = np.minimum(bins - 1, running * bins // total)
    found[counts == 0] = -1
    return found


def aligned(then: Mapping[str, int], now: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Return counts by name as arrays over the same names, in their order."""
    names = sorted({*then, *now})
    return tuple(np.array([own.get(name, 0) for name in names], dtype=np.float64) for own in (then, now))  # type: ignore[return-value]
