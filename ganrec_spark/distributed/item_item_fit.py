"""Fit one item-item model of one setting: EASE, RP3beta, GF-CF, or a mixture of two of them."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from scipy import sparse

from ganrec_spark.config import ItemItem
from ganrec_spark.distributed.item_item import (
    gathered,
    gram_matrix,
    graph_filter,
    graph_vectors,
    near_gram_matrix,
    popularity,
    profiles,
    rp3beta_weights,
)
from ganrec_spark.distributed.ranking import with_ages
from ganrec_spark.models.ease import ease_weights
from ganrec_spark.models.gfcf import low_pass
from ganrec_spark.models.item_weights import Weights, mixed

# Values of keys of section item_item, but for `method`: those that one fit takes, and history_half_life, which ranks.
# A mixture's method is two methods joined by MIX; its second one's weights are multiplied by SECOND_WEIGHT.
Setting = dict[str, float | str]
PAIR_HALF_LIFE, DAMPING, MIX, SECOND_WEIGHT = "pair_half_life", "ease_damping", "+", "second_weight"


class Fitter:
    """Fits settings of one rating_slope to one variant of merged_ratings; EASE's share one X'X, GF-CF's one graph."""

    def __init__(
        self, config: ItemItem, seed: int, ratings: DataFrame, item_idx: NDArray[np.int32], rating_slope: float
    ) -> None:
        self._config, self._seed, self._ratings, self._item_idx = config, seed, ratings, item_idx
        self._profiles = profiles(ratings, rating_slope)
        self._users = gathered(self._profiles, item_idx)
        self._gram: tuple[tuple[float | None, float], NDArray[np.float32]] | None = None

    def fit(self, setting: Setting) -> Weights:
        """Return the weights [I history items, I items]; TrainingError where EASE's lambda is too small."""
        config, half_life = self._config, setting.get(PAIR_HALF_LIFE)
        first, _, second = str(setting["method"]).partition(MIX)
        if second:
            weights = self.fit(setting | {"method": first})
            return mixed(weights, self.fit(setting | {"method": second}), float(setting[SECOND_WEIGHT]))
        if setting["method"] == "ease":
            damping = float(setting.get(DAMPING, 0.0))
            return ease_weights(self._gram_matrix(half_life, damping), float(setting["ease_regularisation"]), damping)
        self._gram = None  # [I, I], dense: other methods need its memory
        if setting["method"] == "rp3beta":
            alpha, beta = float(setting["rp3_alpha"]), float(setting["rp3_beta"])
            return rp3beta_weights(self._users, self._item_idx, alpha, beta, config.neighbours)
        near, vectors, counts = self._graph
        # The first vectors of many are those that fewer would have been.
        return low_pass(near, vectors[:, : int(setting["gfcf_rank"])], counts, float(setting["gfcf_weight"]))

    def _gram_matrix(self, half_life: float | str | None, damping: float) -> NDArray[np.float32]:
        near = None if half_life is None else float(half_life)
        if self._gram is None or self._gram[0] != (near, damping):
            self._gram = None  # the old one goes before the new one comes
            if near is None:
                found = gram_matrix(self._users, self._item_idx, damping)
            else:
                aged = with_ages(self._profiles, self._ratings)
                found = near_gram_matrix(aged, self._item_idx, near, damping)
            if damping:  # as large as without, so that one lambda suits both
                found *= np.float32(popularity(self._users, self._item_idx).sum() / found.trace(dtype=np.float64))
            self._gram = (near, damping), found
        return self._gram[1]

    @cached_property
    def _graph(self) -> tuple[sparse.csr_array, NDArray[np.float32], NDArray[np.float64]]:
        near = graph_filter(self._users, self._item_idx, self._config.neighbours)
        vectors = graph_vectors(self._users, self._item_idx, self._config.gfcf_rank, self._seed)
        return near, vectors, popularity(self._users, self._item_idx)
