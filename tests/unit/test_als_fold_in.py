import numpy as np
import pytest

from ganrec_spark.models.als_fold_in import fold_in, item_gram

ITEMS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_implicit_user_by_hand() -> None:
    # Y'Y = [[2, 1], [1, 2]]; item 0 with r = 3, alpha = 2: confidence 7, so A = Y'Y + 6 e0 e0' + 0.5 * 1 and
    # b = 7 e0. Item 1 with r = -1 has preference 0: it adds 2 e1 e1' to A, nothing to b or the ridge.
    left = np.array([[2 + 6 + 0.5, 1], [1, 2 + 2 + 0.5]])
    expected = np.linalg.solve(left, [7, 0])
    found = fold_in(ITEMS, [np.array([0, 1])], [np.array([3.0, -1.0])], 0.5, 2.0, True)
    assert found[0] == pytest.approx(expected)


def test_explicit_user_by_hand() -> None:
    # Items 0 and 2 rated 4 and 2: A = [[2, 1], [1, 1]] + 2 * 0.1 * 1, b = [6, 2].
    expected = np.linalg.solve([[2.2, 1], [1, 1.2]], [6, 2])
    found = fold_in(ITEMS, [np.array([0, 2])], [np.array([4.0, 2.0])], 0.1, 1.0, False)
    assert found[0] == pytest.approx(expected)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_user_without_ratings_is_zero_and_leaves_others_alone(implicit: bool) -> None:
    empty, own = np.array([], dtype=int), np.array([1, 2])
    gram = item_gram(ITEMS)
    both = fold_in(ITEMS, [empty, own], [np.array([]), np.ones(2)], 0.1, 1.0, implicit, gram)
    alone = fold_in(ITEMS, [own], [np.ones(2)], 0.1, 1.0, implicit)
    assert (both[0] == 0).all()
    assert both[1] == pytest.approx(alone[0])
