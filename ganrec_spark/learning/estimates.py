"""What a policy would have earned, from the log of another one that drew what it showed.

Each row of the log is one exposure: item a was drawn with propensity p, and earned r. A policy whose probability of a
in the same place is t weighs it by w = t / p. Letters: N exposures, C clusters of them (users), q the reward model.

- SNIPS: sum w r / sum w (Swaminathan & Joachims 2015, "The self-normalized estimator for counterfactual learning",
  eq. 9): not moved by a constant added to all rewards, and never outside what rewards can be.
- Doubly robust: mean of q(policy), corrected by the weighted mean of r - q(a) (Dudik, Langford & Li 2011, "Doubly
  robust policy evaluation and learning", eq. 3), self-normalised as in SNIPS (Thomas & Brunskill 2016, WDR). It
  is right where either the propensities are or the model is, and narrower where the model says something.

Exposures of one user depend on each other, so both are functions of sums over users, with the delta method's intervals
(learning.moments).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.learning.moments import (
    Estimate,
    Floats,
    Moments,
    effective_size,
    ratio,
    share,
    share_interval,
    variance_of,
)

# Share of a policy's choices that may be unknown before anybody is told; without it one in forty would be by chance.
NEGLIGIBLE = 0.05
# Measures of one user in `user_sums`, in this order.
WEIGHTED, WEIGHTS, SQUARES, RESIDUALS, DOUBTS, EXPECTED, SHOWN, EARNED = range(8)


@dataclass(frozen=True)
class Logged:
    """Exposures [N]: what each earned, with which probability the log and the policy show it there, and whose it is.

    `modelled`: reward that the model gives to what was shown; `expected`: its mean over what the policy would show.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    cluster: NDArray[Any]
    modelled: Floats
    expected: Floats

    @property
    def weights(self) -> Floats:
        """Return the importance weights [N]."""
        return self.target / self.propensity


@dataclass(frozen=True)
class PolicyValue:
    """A policy's reward per exposure by one estimator.

    `effective`: number of exposures that decide it, as of equal weights (Kish). `support`: share of what the policy
    would show that the log could have shown, from the mean of the weights, which is 1 where it could all of it;
    SNIPS speaks of that share alone, the doubly robust estimate trusts its model with the rest.
    """

    estimate: Estimate
    effective: float
    support: Estimate

    @property
    def lacks_support(self) -> bool:
        """Whether it is proven that the log could not have shown a good part of what the policy would show."""
        return self.support.high < 1 - NEGLIGIBLE


def user_sums(logged: Logged) -> Moments:
    """Return the moments over clusters of what both estimators are functions of."""
    _, owner = np.unique(logged.cluster, return_inverse=True)
    weights = logged.weights
    rows = (
        weights * logged.reward,
        weights,
        weights**2,
        weights * (logged.reward - logged.modelled),
        weights**2 * logged.modelled * (1 - logged.modelled),
        logged.expected,
        np.ones(len(weights)),
        logged.reward,
    )
    return Moments.of(*(np.bincount(owner, weights=row) for row in rows))


def shown(sums: Moments) -> PolicyValue:
    """Return what the log's own policy earned per exposure. In: moments of `user_sums`."""
    return PolicyValue(share(sums, EARNED, SHOWN), float(sums.sums[SHOWN]), Estimate(1.0, 1.0, 1.0))


def snips(sums: Moments) -> PolicyValue:
    """Return the self-normalised estimate by inverse propensities. In: moments of `user_sums`."""
    draws = _draws(sums)
    return PolicyValue(share(sums, WEIGHTED, WEIGHTS, draws), draws, _support(sums))


def doubly_robust(sums: Moments) -> PolicyValue:
    """Return the doubly robust estimate, its correction self-normalised. In: moments of `user_sums`.

    Without any weight there is no correction, and so no proof of the model: the interval is endless.
    """
    exposures, draws = float(sums.means[SHOWN]), _draws(sums)
    model = float(sums.means[EXPECTED]) / exposures if exposures > 0 else np.nan
    if not draws > 0:
        return PolicyValue(Estimate(model, -np.inf, np.inf), draws, _support(sums))
    weights = float(sums.means[WEIGHTS])
    correction = float(sums.means[RESIDUALS]) / weights
    slope = {
        EXPECTED: 1 / exposures,
        SHOWN: -model / exposures,
        RESIDUALS: 1 / weights,
        WEIGHTS: -correction / weights,
    }
    variance = variance_of(sums.chosen(*slope), [*slope.values()])
    value, users = model + correction, effective_size(sums, WEIGHTS)
    around = max(value, model)
    # The variance is at least what the model itself expects, however few rewards the log happens to show.
    doubt = float(sums.sums[DOUBTS]) / float(sums.sums[WEIGHTS]) ** 2
    most = around * (1 - around) / doubt if doubt > 0 and 0 < around < 1 else draws
    return PolicyValue(share_interval(value, variance, users, most, around), draws, _support(sums))


def _draws(sums: Moments) -> float:
    """Return Kish's number of exposures that decide what weights decide: (sum w)^2 / sum w^2."""
    squares = float(sums.sums[SQUARES])
    return float(sums.sums[WEIGHTS]) ** 2 / squares if squares > 0 else 0.0


def _support(sums: Moments) -> Estimate:
    return ratio(sums, WEIGHTS, SHOWN)


def fold_of(cluster: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Return the fold [N] of each exposure, from 0: clusters in turn, so that none is in two."""
    _, owner = np.unique(cluster, return_inverse=True)
    return np.asarray(owner % folds, dtype=np.int64)


def place_rates(earned: Floats, exposures: Floats) -> Floats:
    """Return the reward per exposure [F folds, R places] in the *other* folds, from sums of each fold [F, R].

    A place that the others never showed has their mean over all places.
    """
    others, seen = earned.sum(axis=0) - earned, exposures.sum(axis=0) - exposures
    overall = others.sum(axis=1, keepdims=True) / np.maximum(1.0, seen.sum(axis=1, keepdims=True))
    return np.where(seen > 0, others / np.maximum(1.0, seen), overall)


def item_lifts(earned: Floats, expected: Floats, prior: float) -> Floats:
    """Return how many times its places' rate an item earns [F folds, I items], by the *other* folds.

    From sums of each fold [F, I]: rewards, and what the places' rates expect of them. `prior` expected rewards at the
    places' rate are added to each (the mean of a gamma prior): an item that was hardly seen has a lift of about 1.
    """
    others, foreseen = earned.sum(axis=0) - earned, expected.sum(axis=0) - expected
    return np.asarray((others + prior) / (foreseen + prior))


def reward_model(
    reward: Floats,
    item: NDArray[Any],
    place: NDArray[Any],
    fold: NDArray[Any],
    n_items: int,
    n_places: int,
    prior: float,
) -> Floats:
    """Return the rewards [F folds, R places, I items] that exposures of the other folds let expect.

    The rate of the place, times the item's lift over all places: clicks are too few to count each pair by itself.
    """
    n_folds = int(fold.max()) + 1 if len(fold) else 1

    def summed(of: NDArray[Any], slots: int, values: Floats | None = None) -> Floats:
        flat = np.bincount(fold * slots + of, weights=values, minlength=n_folds * slots)
        return flat.reshape(n_folds, slots).astype(np.float64)

    rates = place_rates(summed(place, n_places, reward), summed(place, n_places))
    lifts = item_lifts(summed(item, n_items, reward), summed(item, n_items, rates[fold, place]), prior)
    return np.minimum(1.0, rates[:, :, None] * lifts[:, None, :])
