"""The best unseen items, worked by hand."""

import numpy as np

from ganrec_spark.ranking.top_n import mask_seen, top_n


def test_seen_items_are_never_listed_even_where_all_scores_are_low() -> None:
    scores = np.array([[-5.0, -2.0, -3.0, -4.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    mask_seen(scores, [np.array([1]), np.array([0, 1, 2, 3])])
    items, values = top_n(scores, 4)
    assert [row.tolist() for row in items] == [[2, 3, 0], []]
    assert values[0].tolist() == [-3.0, -4.0, -5.0]


def test_ties_go_to_the_smaller_index() -> None:
    scores = np.array([[1.0, 7.0, 7.0, 7.0, 0.0]], dtype=np.float32)
    assert top_n(scores, 2)[0][0].tolist() == [1, 2]
