"""Rated together and alike: what is known of two items says how far what they have in common can be believed.

Of few ratings, two items that nobody would confuse are often rated together by chance. Weights between items that are
alike by what is known of them are raised, element by element: W * (1 + strength * L), L [I, I] their likeness.
Letters: I items of the axis.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from ganrec_spark.attributes.describing import descriptions
from ganrec_spark.attributes.likeness import Described, Shares, likeness, likeness_of_pairs
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.recommenders.item_item.gfcf import LowPass
from ganrec_spark.recommenders.item_item.weights import Weights

_BLOCK = 512
_MOST = 100_000  # items of the axis whose description the driver holds


@dataclass(frozen=True)
class Alike:
    """What is known of the items of the axis, in its order, and what share of likeness each column has."""

    known: Described
    shares: Shares

    def believed(self, weights: Weights, strength: float) -> Weights:
        """Return the weights, raised by likeness; they are not changed. Of GF-CF it is the near ones that are."""
        if isinstance(weights, np.ndarray):
            return self._dense(weights, strength)
        if isinstance(weights, LowPass):
            return LowPass(self._sparse(weights.near, strength), weights.left, weights.right)
        return self._sparse(weights, strength)

    def _dense(self, weights: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        found = np.empty_like(weights)
        for start in range(0, len(weights), _BLOCK):
            part = slice(start, start + _BLOCK)
            like = likeness(self.known.taken(part), self.known, self.shares)
            found[part] = weights[part] * (1 + np.float32(strength) * like)
        return found

    def _sparse(self, weights: sparse.csr_array, strength: float) -> sparse.csr_array:
        history = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        like = likeness_of_pairs(self.known, history, weights.indices, self.shares)
        raised = weights.data * (1 + np.float32(strength) * like)
        return sparse.csr_array((raised, weights.indices, weights.indptr), shape=weights.shape)


def known_alike(lake: StageLake, max_features: int, item_idx: NDArray[np.int32]) -> Alike | None:
    """Return what the items of the axis are alike by, with the shares that new items are ranked by.

    None where nothing is known of items, likeness does not find new ones their users (stage newcomers), or there are
    more than 100,000 items. Driver memory: what is known of the items.
    """
    chosen = lake.read("newcomers_choices", "choose").where("chosen").first()
    values = json.loads(chosen["parameters"]) if chosen else None
    if values is None or len(item_idx) > _MOST:
        return None
    found = descriptions(lake, max_features)
    axis = found.rows.sparkSession.createDataFrame(pa.table({"item_idx": item_idx}))
    return Alike(found.here(found.rows.join(axis, "item_idx", "left_semi")).on(item_idx), values["shares"])
