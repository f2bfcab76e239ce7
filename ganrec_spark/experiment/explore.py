"""The last places of a list, drawn: items that the blend places lower get their chance, and its size is known.

The places are filled one after the other, without replacement, each item with a chance in proportion to its weight
among those that are left (Plackett-Luce). All draws of a list come from one vector of Gumbel noise: the largest of
log weight + noise is such a draw, the next largest is the next one (Kool, van Hoof & Welling, ICML 2019).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.config.sections import Config
from ganrec_spark.rules.keeping import Items, Quota
from ganrec_spark.seeding import stable_rng

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exploration:
    """How lists are explored: `slots` places at the end, drawn from `pool` items at most.

    `floor`: the least propensity of a drawn item; `seed` and `run_id` make the draws, with the user's index.
    """

    slots: int
    temperature: float
    floor: float
    pool: int
    seed: int
    run_id: str

    def rng(self, user_idx: int) -> np.random.Generator:
        """Return what a user's noise comes from: the same in every partition and retry of a run."""
        return stable_rng(self.seed, "explore", self.run_id, user_idx)


def exploration_of(config: Config, run_id: str) -> Exploration | None:
    """Return how a run explores, None where it does not."""
    explore, n = config.explore, config.recommend.n
    pool = config.recommend.n_candidates - n + explore.slots
    if not explore.slots:
        return None
    return Exploration(explore.slots, explore.temperature, explore.min_propensity, pool, config.run.seed, run_id)


def pool_weights(scores: Floats, temperature: float, floor: float) -> Floats:
    """Return the weights [K] of a pool's items by their scores, which sum to 1, none below `floor`.

    A softmax of the scores between the pool's lowest (0) and highest (1), so that a temperature means the same for
    every fusion; mixed with the uniform distribution: (1 - K floor) softmax + floor. K floor is 1 at most.
    """
    span = np.ptp(scores) if len(scores) else 0.0
    heights = (scores - scores.max()) / span if span > 0 else np.zeros(len(scores))
    chances = np.exp(heights / temperature)
    return np.asarray((1 - len(scores) * floor) * chances / chances.sum() + floor)


def explored(
    items: Items, scores: Floats, n: int, how: Exploration, user_idx: int, quota: Quota
) -> tuple[NDArray[np.int64], Floats]:
    """Return the places in `items` of the n that are listed, and the propensity of each.

    In: what may be listed to the user, best first, and a fresh quota. The first n - slots that the quota admits stand
    as they are, with propensity 1. The propensity of a drawn item is its exact conditional probability: its weight over
    the weights of all that could have been drawn there, given what stands above. Where the pool has none left, the
    best items below it follow.
    """
    head = quota.first(items, max(0, n - how.slots))
    rest = np.setdiff1d(np.arange(len(items)), head)
    rest = rest[quota.fits(items[rest])]
    pool, below = rest[: how.pool], rest[how.pool :]
    weights = pool_weights(scores[pool], how.temperature, how.floor)
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + how.rng(user_idx).gumbel(size=len(pool))
    drawn: list[int] = []
    propensities: list[float] = []
    is_open = np.ones(len(pool), dtype=np.bool_)
    while len(head) + len(drawn) < n:
        is_open &= quota.fits(items[pool])
        if not is_open.any():
            break
        best = int(np.flatnonzero(is_open)[keys[is_open].argmax()])
        propensities.append(float(weights[best] / weights[is_open].sum()))
        drawn.append(int(pool[best]))
        is_open[best] = False
        quota.take(items[pool[best]])
    following = below[quota.first(items[below], n - len(head) - len(drawn))]
    places = np.concatenate([head, np.array(drawn, dtype=np.int64), following])
    return places, np.concatenate([np.ones(len(head)), propensities, np.ones(len(following))])
