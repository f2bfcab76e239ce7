"""Paired Poisson bootstrap over users: whether one system's mean is provably above another's.

Each of S samples gives each user an independent Poisson(1) weight, which for many users is resampling with
replacement (Hanley & MacGibbon 2006; Chamandy et al. 2012). Weights follow from seed and user alone, so sums over
users can be taken in any partition and order, and both systems see the same resampled users.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.seeding import stable_rng

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lift:
    """Relative change of a mean over users, `value`, with its confidence interval; 0.05 is 5 % better."""

    value: float
    low: float
    high: float


def poisson_weights(user_idx: NDArray[np.integer[Any]], samples: int, seed: int) -> Floats:
    """Return [B users, 1 + S]: how often each user counts in the data (column 0: once) and in each sample."""
    weights = np.ones((len(user_idx), 1 + samples))
    for row, user in zip(weights, user_idx.tolist(), strict=True):
        row[1:] = stable_rng(seed, "bootstrap", user).poisson(1.0, samples)
    return weights


def relative_lift(before: Floats, after: Floats, confidence: float) -> Lift:
    """Return the lift from weighted sums [1 + S] of two systems' values over the same users (`poisson_weights`).

    Percentile interval, without interpolation and outwards, so that it is never narrower than `confidence`. A
    sample whose sum before is 0 counts as no change where the sum after is 0 too, else as endlessly better.
    """
    better = np.where(after > before, np.inf, 0.0)
    lifts = np.divide(after - before, before, out=better, where=before > 0)
    tail = (1 - confidence) / 2
    low = np.quantile(lifts[1:], tail, method="lower")
    high = np.quantile(lifts[1:], 1 - tail, method="higher")
    # Rounded: the last bits of sums depend on the order of partitions.
    value, low, high = (round(float(number), 10) for number in (lifts[0], low, high))
    return Lift(value, low, high)


def bonferroni(confidence: float, tests: int) -> float:
    """Return the confidence that each of several intervals needs for all to hold together with `confidence`."""
    return 1 - (1 - confidence) / max(1, tests)
