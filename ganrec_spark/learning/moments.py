"""Sums over users from which every interval of this room follows: means, ratios of means, differences between groups.

An estimate is a smooth function of means over users, so its variance follows from their covariances (delta method;
Deng, Knoblich & Lu 2018, "Applying the delta method in metric analytics"). Sums and sums of products are enough for it:
Spark adds them up over any number of users, and the driver sees a few numbers a group. Letters: U users, K measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
# A change of a bounded measure that an interval cannot tell from half as much or half as much again says little.
TOO_WIDE = 0.5


@dataclass(frozen=True)
class Moments:
    """Of U users, who are independent of each other: `n` = U, `sums` [K] and `products` [K, K] of K measures each."""

    n: int
    sums: Floats
    products: Floats

    @classmethod
    def of(cls, *measures: NDArray[Any]) -> "Moments":
        """Return the moments of K arrays [U], one value a user."""
        values = np.stack([np.asarray(measure, dtype=np.float64) for measure in measures], axis=1)
        return cls(len(values), values.sum(axis=0), values.T @ values)

    @property
    def means(self) -> Floats:
        """Return the means [K]; NaN without users."""
        return self.sums / self.n if self.n else np.full(len(self.sums), np.nan)

    @property
    def covariance(self) -> Floats:
        """Return the covariances between users [K, K], with U - 1 in the denominator; NaN for fewer than two users."""
        if self.n < 2:
            return np.full(self.products.shape, np.nan)
        return (self.products - np.outer(self.sums, self.sums) / self.n) / (self.n - 1)

    def chosen(self, *measures: int) -> "Moments":
        """Return the moments of some of the measures, in this order."""
        return Moments(self.n, self.sums[[*measures]], self.products[np.ix_(measures, measures)])

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both groups' users together, who must be different people."""
        return Moments(self.n + other.n, self.sums + other.sums, self.products + other.products)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the bounds are infinite where too little was seen to say anything."""

    value: float
    low: float
    high: float

    @property
    def too_wide(self) -> bool:
        """Whether the interval reaches further from the value than half of it, so that it hardly means anything."""
        return not max(self.high - self.value, self.value - self.low) <= TOO_WIDE * abs(self.value)


def effective_size(moments: Moments, measure: int) -> float:
    """Return Kish's effective number of users, (sum w)^2 / sum w^2, who decide a measure of weights; 0 without any."""
    squares = float(moments.products[measure, measure])
    return float(moments.sums[measure]) ** 2 / squares if squares > 0 else 0.0


def smooth(moments: Moments, value: float, gradient: Sequence[float], users: float | None = None) -> Estimate:
    """Return `value`, a smooth function of the means, with its interval, by its gradient [K] there.

    `users`, by `effective_size`: how many decide it, if not all do.
    """
    return interval(value, variance_of(moments, gradient), moments.n if users is None else users)


def variance_of(moments: Moments, gradient: Sequence[float]) -> float:
    """Return the sampling variance of a smooth function of the means, by its gradient [K] there; NaN of one user."""
    slope = np.asarray(gradient, dtype=np.float64)
    found = float(slope @ moments.covariance @ slope) / max(1, moments.n)
    return found if np.isnan(found) else max(0.0, found)


def student(users: float) -> float:
    """Return how many standard errors an interval reaches to each side where so many users decide the value.

    By Student's t rather than the normal distribution: of few users the variance is known badly, too.
    """
    return float(stdtrit(users - 1, 0.5 + CONFIDENCE / 2)) if users >= 2 else np.inf


def interval(value: float, variance: float, users: float) -> Estimate:
    """Return an estimate from its sampling variance and the number of users that decide it."""
    if not (np.isfinite(value) and np.isfinite(variance)) or users < 2:
        return Estimate(value, -np.inf, np.inf)
    half = student(users) * variance**0.5
    return Estimate(value, value - half, value + half)


def share_interval(value: float, variance: float, users: float, draws: float, around: float | None = None) -> Estimate:
    """Return the estimate of a mean of what lies between 0 and 1, where it may be rare: Wilson's interval.

    As for proportions of complex surveys (Franco, Little, Louis & Slud 2019): of as many draws as give `variance`, and
    of no more than there were, `draws` (Kish's number where they are weighted). So no clicks of 100 are not [0, 0].
    `around`: where the variance of one draw is looked up, by default at the value.
    """
    if not np.isfinite(value) or not np.isfinite(variance) or users < 2 or draws <= 0:
        return Estimate(value, -np.inf, np.inf)
    place, at = min(1.0, max(0.0, value)), min(1.0, max(0.0, value if around is None else around))
    n = min(draws, at * (1 - at) / variance) if variance > 0 and 0 < at < 1 else draws
    z = student(users) ** 2
    centre = (place + z / (2 * n)) / (1 + z / n)
    half = (z * (place * (1 - place) / n + z / (4 * n * n))) ** 0.5 / (1 + z / n)
    return Estimate(value, min(value, centre - half), max(value, centre + half))


def mean(moments: Moments, measure: int = 0) -> Estimate:
    """Return the mean of a measure over users."""
    own = moments.chosen(measure)
    return smooth(own, float(own.means[0]), [1.0])


def ratio(moments: Moments, above: int = 0, below: int = 1) -> Estimate:
    """Return the sum of one measure per unit of another, such as value per list, where users are independent."""
    value, gradient, users = ratio_parts(moments, above, below)
    return smooth(moments.chosen(above, below), value, gradient, users)


def share(moments: Moments, above: int, below: int, draws: float | None = None) -> Estimate:
    """Return a ratio that lies between 0 and 1, such as the share of exposures that were clicked (`share_interval`).

    `draws`: of how many draws it is at most; by default the sum of the measure below.
    """
    value, gradient, users = ratio_parts(moments, above, below)
    variance = variance_of(moments.chosen(above, below), gradient)
    return share_interval(value, variance, users, float(moments.sums[below]) if draws is None else draws)


def ratio_parts(moments: Moments, above: int, below: int) -> tuple[float, list[float], float]:
    """Return a ratio of two means, its gradient there, and the number of users that decide it; NaN of nothing."""
    top, bottom = (float(one) for one in moments.chosen(above, below).means)
    if not bottom > 0:
        return np.nan, [np.nan, np.nan], 0.0
    return top / bottom, [1 / bottom, -top / bottom**2], effective_size(moments, below)
