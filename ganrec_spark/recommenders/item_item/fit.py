"""Fit one item-item model of one setting: EASE, RP3beta, GF-CF, or a mixture of two; items may count as alike."""

import json
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from scipy import sparse

from ganrec_spark.config.models import ItemItem
from ganrec_spark.frames.histories import with_ages
from ganrec_spark.recommenders.item_item.alike import Alike
from ganrec_spark.recommenders.item_item.ease import ease_weights
from ganrec_spark.recommenders.item_item.gfcf import low_pass
from ganrec_spark.recommenders.item_item.profiles import profiles
from ganrec_spark.recommenders.item_item.sums import (
    Users,
    energy,
    gathered,
    gram_matrix,
    graph_filter,
    graph_vectors,
    near_gram_matrix,
    popularity,
    rp3beta_weights,
)
from ganrec_spark.recommenders.item_item.weights import Weights, mixed

# Values of keys of section item_item, but for `method`: what one fit takes, and history_half_life_visits, which ranks.
# A mixture's method is two methods joined by MIX; its second one's weights are multiplied by SECOND_WEIGHT.
ItemItemSetting = dict[str, float | str]
HISTORY_HALF_LIFE = "history_half_life_visits"
PAIR_HALF_LIFE, DAMPING, MIX, SECOND_WEIGHT = "pair_half_life_visits", "ease_damping", "+", "second_weight"
RATING_SLOPE, LIKENESS = "rating_slope", "likeness"

Graph: TypeAlias = tuple[sparse.csr_array, NDArray[np.float32], NDArray[np.float64]]  # filter, vectors, popularity


class Fitter:
    """Fits settings to one variant of merged_ratings; neighbouring settings share what costs most, X'X or the graph."""

    def __init__(
        self, config: ItemItem, seed: int, ratings: DataFrame, item_idx: NDArray[np.int32], alike: Alike | None = None
    ) -> None:
        self._config, self._seed, self._ratings, self._item_idx = config, seed, ratings, item_idx
        self._alike = alike
        self._users_of: dict[float, Users] = {}  # by rating_slope
        self._gram: tuple[tuple[float, float | None, float], NDArray[np.float32]] | None = None
        self._graph: tuple[float, Graph] | None = None

    def fit(self, setting: ItemItemSetting) -> Weights:
        """Return the weights [I history items, I items]; TrainingError where EASE's lambda is too small."""
        config, half_life = self._config, setting.get(PAIR_HALF_LIFE)
        if LIKENESS in setting:
            if self._alike is None:
                raise ValueError(f"expected to know what items are alike by, for setting {as_json(setting)}")
            plain = {key: value for key, value in setting.items() if key != LIKENESS}
            return self._alike.believed(self.fit(plain), float(setting[LIKENESS]))
        first, _, second = str(setting["method"]).partition(MIX)
        if second:
            weights = self.fit(setting | {"method": first})
            return mixed(weights, self.fit(setting | {"method": second}), float(setting[SECOND_WEIGHT]))
        slope = slope_of(setting)
        if setting["method"] == "ease":
            damping = float(setting.get(DAMPING, 0.0))
            gram = self._gram_matrix(slope, None if half_life is None else float(half_life), damping)
            return ease_weights(gram, float(setting["ease_regularisation"]), damping)
        self._gram = None  # [I, I], dense: other methods need its memory
        if setting["method"] == "rp3beta":
            alpha, beta = float(setting["rp3_alpha"]), float(setting["rp3_beta"])
            return rp3beta_weights(self._users(slope), self._item_idx, alpha, beta, config.neighbours)
        near, vectors, counts = self._graph_of(slope)
        # The first vectors of many are those that fewer would have been.
        return low_pass(near, vectors[:, : int(setting["gfcf_rank"])], counts, float(setting["gfcf_weight"]))

    def keep(self, slope: float) -> None:
        """Let go of what was read by other slopes."""
        self._users_of = {own: users for own, users in self._users_of.items() if own == slope}

    def _users(self, slope: float) -> Users:
        if slope not in self._users_of:
            self._users_of[slope] = gathered(profiles(self._ratings, slope), self._item_idx)
        return self._users_of[slope]

    def _gram_matrix(self, slope: float, half_life: float | None, damping: float) -> NDArray[np.float32]:
        wanted = slope, half_life, damping
        if self._gram is None or self._gram[0] != wanted:
            self._gram = None  # the old one goes before the new one comes
            users = self._users(slope)
            if half_life is None:
                found = gram_matrix(users, self._item_idx, damping)
            else:
                aged = with_ages(profiles(self._ratings, slope), self._ratings)
                found = near_gram_matrix(aged, self._item_idx, half_life, damping)
            if damping and found.any():  # the trace as without, so that one lambda suits both
                found *= np.float32(energy(users) / found.trace(dtype=np.float64))
            self._gram = wanted, found
        return self._gram[1]

    def _graph_of(self, slope: float) -> Graph:
        if self._graph is None or self._graph[0] != slope:
            self._graph = None
            users = self._users(slope)
            near = graph_filter(users, self._item_idx, self._config.neighbours)
            vectors = graph_vectors(users, self._item_idx, self._config.gfcf_rank, self._seed)
            self._graph = slope, (near, vectors, popularity(users, self._item_idx))
        return self._graph[1]


def slope_of(setting: ItemItemSetting) -> float:
    """Return the rating_slope that belongs to a setting."""
    return float(setting.get(RATING_SLOPE, 0.0))


def half_life_of(setting: ItemItemSetting) -> float | None:
    """Return the half-life of histories that belongs to a setting."""
    return float(setting[HISTORY_HALF_LIFE]) if HISTORY_HALF_LIFE in setting else None


def as_json(setting: ItemItemSetting) -> str:
    """Return the setting as JSON, keys in order."""
    return json.dumps(setting, sort_keys=True)
