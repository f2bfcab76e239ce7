"""What an arm's lists are worth, and by how much two arms differ, from moments of users' sums.

Users are assigned, so users are what is counted: every interval is over them (learning.moments). Differences are
adjusted for how active users were before the experiment (CUPED: Deng, Xu, Kohavi & Walker 2013, "Improving the
sensitivity of online controlled experiments by utilizing pre-experiment data", eq. 4), which no list of the experiment
can have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from ganrec_spark.learning.moments import (
    Estimate,
    Floats,
    Moments,
    interval,
    mean,
    ratio,
    ratio_parts,
    share,
)

# Measures of one user, in this order: exposures; of them those with an event of the kind; lists; the lists' discounted
# hits; whether there was any event, on how many days after the first; values; how active before; always 1.
EXPOSURES, HITS, LISTS, GAIN, ACTIVE, RETURNED, VALUE, BEFORE, ONE = range(9)
# Below this probability of so uneven arms by chance alone the assignment is held for broken (Fabijan et al. 2019,
# "Diagnosing sample ratio mismatch in online controlled experiments").
MISMATCH = 0.001


@dataclass(frozen=True)
class Metric:
    """A ratio of two measures; `bounded` ones lie between 0 and 1. `doc` says what it is."""

    above: int
    below: int
    bounded: bool
    doc: str


METRICS = {
    "rate": Metric(HITS, EXPOSURES, True, "share of exposures with an event of the kind"),
    "users": Metric(ACTIVE, ONE, True, "share of users with at least one"),
    "value": Metric(VALUE, ONE, False, "sum of the events' values per user"),
    "discounted_hits": Metric(GAIN, LISTS, True, "DCG of a list's items with an event, divided by that of all of them"),
    "repeat_visits": Metric(RETURNED, ONE, False, "further days with an event per user, after the first one"),
}


@dataclass(frozen=True)
class Difference:
    """An arm's metric minus the control's; `reduction`: share of the variance that the adjustment took away."""

    estimate: Estimate
    reduction: float

    @property
    def worse(self) -> bool:
        """Whether the arm is significantly worse."""
        return self.estimate.high < 0

    @property
    def better(self) -> bool:
        """Whether the arm is significantly better."""
        return self.estimate.low > 0


def level(users: Moments, metric: Metric) -> Estimate:
    """Return the metric of a group of users with its 95 % interval. In: moments of the measures above."""
    if metric.bounded:
        return share(users, metric.above, metric.below)
    if metric.below == ONE:
        return mean(users, metric.above)
    return ratio(users, metric.above, metric.below)


def difference(arm: Moments, control: Moments, metric: Metric) -> Difference:
    """Return by how much the arm's metric is above the control's, adjusted for activity before, with its interval.

    Each ratio is linearised, and the part of it that activity before predicts (one slope for both arms) is taken out of
    the difference. A bounded metric may be rare: its interval is put together from the arms' own (Newcombe 1998; MOVER,
    Zou & Donner 2008), as much narrower as the adjustment makes the standard error.
    """
    sides = [_linear(side, metric) for side in (arm, control)]
    value = sides[0].value - sides[1].value
    plain = sides[0].variance + sides[1].variance
    slope = _slope(sides)
    adjusted = sum(side.adjusted(slope) for side in sides)
    shift = slope * (sides[0].before - sides[1].before)
    if not np.isfinite(plain):
        return Difference(Estimate(value, -np.inf, np.inf), 0.0)
    kept = float(np.sqrt(adjusted / plain)) if plain > 0 else 1.0
    value -= shift
    if not metric.bounded:
        users = _welch(sides, slope)
        return Difference(interval(value, adjusted, users), 1 - kept**2)
    ours, theirs = level(arm, metric), level(control, metric)
    down = np.hypot(ours.value - ours.low, theirs.high - theirs.value)
    up = np.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Difference(Estimate(value, value - kept * float(down), value + kept * float(up)), 1 - kept**2)


@dataclass(frozen=True)
class _Side:
    """One arm's ratio: value, variance, mean activity before, their variances and covariance between users."""

    value: float
    n: int
    before: float
    spread: float  # variance of the linearised ratio between users
    activity: float  # variance of activity before
    together: float  # covariance of both

    @property
    def variance(self) -> float:
        return self.spread / self.n if self.n else np.nan

    def adjusted(self, slope: float) -> float:
        """Return the sampling variance of the ratio without what `slope` times activity before says."""
        left = self.spread - 2 * slope * self.together + slope**2 * self.activity
        return max(0.0, left) / self.n if self.n else np.nan


def _linear(users: Moments, metric: Metric) -> _Side:
    value, gradient, _ = ratio_parts(users, metric.above, metric.below)
    own = users.chosen(metric.above, metric.below, BEFORE)
    line, activity = np.array([*gradient, 0.0]), np.array([0.0, 0.0, 1.0])
    covariance = own.covariance
    spread, together = float(line @ covariance @ line), float(line @ covariance @ activity)
    return _Side(value, users.n, float(own.means[2]), spread, float(covariance[2, 2]), together)


def _slope(sides: list[_Side]) -> float:
    """Return theta, which makes the difference's variance least: pooled covariance over pooled variance."""
    activity = sum(side.activity / side.n for side in sides if side.n)
    together = sum(side.together / side.n for side in sides if side.n)
    return together / activity if activity > 0 else 0.0


def _welch(sides: list[_Side], slope: float) -> float:
    """Return the number of users whose Student's t the difference has (Welch 1947), plus 1."""
    parts = [side.adjusted(slope) for side in sides]
    below = sum(part**2 / max(1, side.n - 1) for part, side in zip(parts, sides, strict=True))
    return sum(parts) ** 2 / below + 1 if below > 0 else float(min(side.n for side in sides))


def mismatch(users: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Return the probability that chance alone makes arms of the configured shares so uneven (chi-square test).

    `users`: arm -> users seen. Arms of the configuration that nobody is in count as 0; 1.0 with fewer than two arms.
    Users in an arm that the configuration does not name make it 0: they cannot have been assigned.
    """
    if any(count and not shares.get(arm, 0) for arm, count in users.items()):
        return 0.0
    total, whole = sum(users.values()), sum(shares.values())
    wanted: Floats = np.array([total * share / whole for share in shares.values() if share > 0])
    seen = np.array([users.get(arm, 0) for arm, share in shares.items() if share > 0])
    if len(wanted) < 2 or not total:
        return 1.0
    return float(chdtrc(len(wanted) - 1, float(((seen - wanted) ** 2 / wanted).sum())))


def ideal_gain(n: int) -> float:
    """Return the DCG of a list of n items that all have an event; what `discounted_hits` divides by."""
    return float((1 / np.log2(np.arange(2, n + 2))).sum())
