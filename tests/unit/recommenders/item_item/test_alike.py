"""Weights between items that are alike are raised, in whatever form weights come."""

import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.attributes.likeness import Described
from ganrec_spark.recommenders.item_item.alike import Alike
from ganrec_spark.recommenders.item_item.gfcf import LowPass
from ganrec_spark.recommenders.item_item.weights import Weights, products

# Items 0 and 1 have one word each, the same; item 2 another one, of item 3 nothing is known.
WORDS = sparse.csr_array(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32))
ALIKE = Alike(Described(np.arange(4, dtype=np.int32), {"word": WORDS}), {"word": 1.0})
WEIGHTS = np.array([[0, 2, 1, 3], [2, 0, 0, 1], [1, -1, 0, 0], [3, 1, 0, 0]], np.float32)
RAISED = np.array([[0, 5, 1, 3], [5, 0, 0, 1], [1, -1, 0, 0], [3, 1, 0, 0]], np.float32)  # 2 * (1 + 1.5 * 1)
IDENTITY = sparse.csr_array(np.eye(4, dtype=np.float32))


@pytest.mark.parametrize("weights", [WEIGHTS, sparse.csr_array(WEIGHTS)], ids=["dense", "sparse"])
def test_what_is_alike_counts_more_and_what_is_unknown_as_before(weights: Weights) -> None:
    assert products(IDENTITY, ALIKE.believed(weights, 1.5)) == pytest.approx(RAISED)
    assert products(IDENTITY, weights) == pytest.approx(WEIGHTS), "they are not changed"


def test_of_a_low_pass_filter_the_near_weights_are_raised() -> None:
    left, right = np.ones((4, 1), np.float32), np.ones((1, 4), np.float32)
    found = ALIKE.believed(LowPass(sparse.csr_array(WEIGHTS), left, right), 1.5)
    assert products(IDENTITY, found) == pytest.approx(RAISED + 1)
