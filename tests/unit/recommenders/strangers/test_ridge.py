"""Effects of attributes: by hand, and by a second way to solve the same problem."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.recommenders.strangers.ridge import Sums, effects


def test_a_group_is_believed_by_half_where_it_has_as_many_users_as_the_shrinkage() -> None:
    # Four of eight users have the feature; they all like item 0, nobody else does; everybody likes item 1.
    features = sparse.csr_array(np.repeat([[1.0], [0.0]], 4, axis=0))
    rows = sparse.csr_array(np.array([[1.0, 1.0]] * 4 + [[0.0, 1.0]] * 4))
    # Centred, the feature has a sum of squares of 2, and 2 are its products with item 0.
    found = effects(Sums.of(features, rows), 2.0, np.array([0.5, 1.0]))
    assert found.added == pytest.approx(np.array([[0.5, 0.0]]))
    assert found.base == pytest.approx([0.25, 1.0])
    with_and_without = sparse.csr_array(np.array([[1.0], [0.0]], np.float32))
    assert found.scores(with_and_without) == pytest.approx(np.array([[0.75, 1.0], [0.25, 1.0]]))


def test_effects_are_shares_of_what_an_item_has_lately() -> None:
    features = sparse.csr_array(np.repeat([[1.0], [0.0]], 4, axis=0))
    rows = sparse.csr_array(np.array([[1.0]] * 4 + [[0.0]] * 4))
    found = effects(Sums.of(features, rows), 2.0, np.array([0.1]))
    # A fifth of the .5 of all time; .75 becomes .15.
    assert found.scores(sparse.csr_array(np.array([[1.0]], np.float32))) == pytest.approx(np.array([[0.15]]))


def test_equal_to_least_squares_with_a_row_of_shrinkage_for_each_feature() -> None:
    rng = np.random.default_rng(0)
    features = sparse.random_array((50, 6), density=0.4, rng=rng, format="csr")
    rows = sparse.csr_array((rng.random((50, 9)) < 0.3).astype(float))
    parts = [Sums.of(features[start : start + 10], rows[start : start + 10]) for start in range(0, 50, 10)]
    dense, wanted = features.toarray(), rows.toarray()
    left = np.vstack([dense - dense.mean(axis=0), np.sqrt(3.0) * np.eye(6)])
    right = np.vstack([wanted - wanted.mean(axis=0), np.zeros((6, 9))])
    expected = np.linalg.lstsq(left, right, rcond=None)[0]
    found = effects(reduce(add, parts), 3.0, wanted.mean(axis=0))
    assert found.added == pytest.approx(expected, abs=1e-6)
    assert found.scores(features) == pytest.approx(
        wanted.mean(axis=0) + (dense - dense.mean(axis=0)) @ expected, abs=1e-6
    )
