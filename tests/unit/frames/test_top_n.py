"""The best unseen items, worked by hand."""

import numpy as np
import pytest

from ganrec_spark.frames.top_n import mask_seen, top_n


def test_seen_items_are_never_listed_even_where_all_scores_are_low() -> None:
    scores = np.array([[-5.0, -2.0, -3.0, -4.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    mask_seen(scores, [np.array([1]), np.array([0, 1, 2, 3])])
    items, values = top_n(scores, 4)
    assert [row.tolist() for row in items] == [[2, 3, 0], []]
    assert values[0].tolist() == [-3.0, -4.0, -5.0]


def test_ties_go_to_the_smaller_index() -> None:
    scores = np.array([[1.0, 7.0, 7.0, 7.0, 0.0]], dtype=np.float32)
    assert top_n(scores, 2)[0][0].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["distinct", "many ties", "all level", "mostly excluded"])
@pytest.mark.parametrize(("n_items", "n"), [(1, 3), (40, 40), (130, 1), (130, 7), (2003, 10)])
def test_lists_are_those_of_a_full_sort(kind: str, n_items: int, n: int) -> None:
    rng = np.random.default_rng(n_items + n)
    scores = rng.standard_normal((20, n_items)).astype(np.float32)
    if kind == "many ties":
        scores = scores.round()
    elif kind == "all level":
        scores[:] = 0
    elif kind == "mostly excluded":
        scores[rng.random(scores.shape) < 0.9] = -np.inf
    items, values = top_n(scores, n)
    for row, listed, value in zip(scores, items, values, strict=True):
        expected = [i for i in sorted(range(n_items), key=lambda i: (-row[i], i)) if row[i] > -np.inf][:n]
        assert listed.tolist() == expected
        assert value.tolist() == row[expected].tolist()


def test_no_users_no_items_and_lists_of_none_are_empty() -> None:
    assert top_n(np.zeros((0, 5), dtype=np.float32), 3) == ([], [])
    assert [len(row) for row in top_n(np.zeros((2, 0), dtype=np.float32), 3)[0]] == [0, 0]
    assert [len(row) for row in top_n(np.zeros((2, 5), dtype=np.float32), 0)[0]] == [0, 0]
