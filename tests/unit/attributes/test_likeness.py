"""Likeness: by hand, for pairs as for all, and on another axis."""

import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.attributes.likeness import Described, likeness, likeness_of_pairs

WORDS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0]], np.float32)
VECTORS = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
SHARES = {"words": 0.5, "image": 0.5}


def items(words: np.ndarray, vectors: np.ndarray) -> Described:
    columns = {"words": sparse.csr_array(words), "image": vectors}
    return Described(np.arange(len(words), dtype=np.int32) + 5, columns)


def test_likeness_is_the_mean_of_cosines_and_what_is_missing_is_no_likeness() -> None:
    known = items(WORDS, VECTORS)
    new = items(WORDS[1:2], VECTORS[1:2])
    assert likeness(new, known, SHARES) == pytest.approx(np.array([[0.3, 1.0, 0.4, 0.0]]))
    assert likeness(new, known, {"words": 1.0}) == pytest.approx(np.array([[0.6, 1.0, 0.8, 0.0]]))


def test_pairs_are_as_alike_as_among_all() -> None:
    known = items(WORDS, VECTORS)
    every = likeness(known, known, SHARES)
    first, second = (axis.ravel() for axis in np.indices(every.shape))
    assert likeness_of_pairs(known, first, second, SHARES) == pytest.approx(every.ravel())


def test_on_an_axis_the_items_stand_where_they_belong_and_of_others_nothing_is_known() -> None:
    known = items(WORDS, VECTORS)  # of items 5 to 8
    found = known.on(np.array([2, 6, 7, 11], np.int32))
    assert found.columns["words"].toarray() == pytest.approx(np.array([[0, 0], [0.6, 0.8], [0, 1], [0, 0]]))
    assert found.columns["image"] == pytest.approx(np.array([[0, 0], [1, 0], [0, 0], [0, 0]]))
    assert found.idx.tolist() == [2, 6, 7, 11]
    none = Described(np.empty(0, np.int32), {"words": sparse.csr_array((0, 2), dtype=np.float32)})
    assert none.on(np.array([1, 2], np.int32)).columns["words"].shape == (2, 2)
    assert known.on(np.empty(0, np.int32)).columns["image"].shape == (0, 2)
