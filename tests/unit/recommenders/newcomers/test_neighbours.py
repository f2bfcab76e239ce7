"""Weights of neighbours: by hand, and by a second way to solve the same problem."""

import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.attributes.likeness import Described
from ganrec_spark.recommenders.newcomers.neighbours import neighbours, predicted

WORDS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0]], np.float32)
VECTORS = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)


def items(words: np.ndarray, vectors: np.ndarray) -> Described:
    columns = {"words": sparse.csr_array(words), "image": vectors}
    return Described(np.arange(len(words), dtype=np.int32) + 5, columns)


def test_a_neighbour_and_its_double_share_the_weight_of_one() -> None:
    one, two = items(WORDS[[0]], VECTORS[[0]]), items(WORDS[[0, 0]], VECTORS[[0, 0]])
    new = items(WORDS[[0]], VECTORS[[0]])
    (places,), (weights,) = neighbours(new, one, {"words": 1.0}, 1.0)
    assert (places.tolist(), weights.tolist()) == ([0], [0.5])  # (1 + 1)^-1 1
    (places,), (weights,) = neighbours(new, two, {"words": 1.0}, 1.0)
    assert places.tolist() == [0, 1]
    assert weights == pytest.approx([1 / 3, 1 / 3])


def test_an_item_that_is_like_none_has_no_neighbours() -> None:
    found = neighbours(items(WORDS[[3, 0]], VECTORS[[3, 0]]), items(WORDS, VECTORS), {"words": 1.0}, 1.0)
    assert [own.tolist() for own in found[0]] == [[], [0, 1]]
    assert len(found[1][0]) == 0


def test_equal_to_ridge_regression_on_features_where_all_items_are_neighbours() -> None:
    """The dual of a regression of who rated the items on their features, one coefficient a feature and user."""
    rng = np.random.default_rng(0)
    features = rng.random((30, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rated, new = Described(np.arange(30), {"f": features[:30]}), Described(np.arange(4), {"f": features[:4] * 1.0})
    who = (rng.random((30, 12)) < 0.3).astype(np.float64)  # items x users
    coefficients = np.linalg.solve(features.T @ features + 2.0 * np.eye(8), features.T @ who)
    places, weights = neighbours(new, rated, {"f": 1.0}, 2.0)
    found = predicted(new.idx, [rated.idx[own] for own in places], weights, np.zeros((30, 1), np.float32), 0.0)
    rows = sparse.csr_array(who.T.astype(np.float32))
    assert found.scores(rows, np.zeros((12, 1), np.float32)) == pytest.approx((features[:4] @ coefficients).T, abs=1e-5)


def test_taste_adds_the_product_with_the_vector_that_neighbours_give() -> None:
    table = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    found = predicted(np.array([7]), [np.array([0, 1])], [np.array([0.5, 0.25])], table, 0.5)
    assert found.vectors == pytest.approx(np.array([[0.5, 0.5]]))
    without = predicted(np.array([7]), [np.array([0, 3])], [np.array([0.5, 0.25])], table, 0.5)
    assert without.weights.shape == (1, 4), "3 is rated and has no vector"
    assert without.vectors == pytest.approx(np.array([[0.5, 0.0]]))
    scores = found.scores(sparse.csr_array(np.array([[1.0, 0.0]], np.float32)), np.array([[2.0, 4.0]], np.float32))
    assert scores == pytest.approx(np.array([[0.5 + 0.5 * 3.0]]))
