from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ganrec_spark.recommenders.als.fold_in import fixed_side, fold_in

ITEMS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_implicit_user_by_hand() -> None:
    # Y'Y = [[2, 1], [1, 2]]; item 0 with r = 3, alpha = 2: confidence 7, so A = Y'Y + 6 e0 e0' + 0.5 * 1 and
    # b = 7 e0. Item 1 with r = -1 has preference 0: it adds 2 e1 e1' to A, nothing to b or the ridge.
    left = np.array([[2 + 6 + 0.5, 1], [1, 2 + 2 + 0.5]])
    expected = np.linalg.solve(left, [7, 0])
    found = fold_in(fixed_side(ITEMS, True), [np.array([0, 1])], [np.array([3.0, -1.0])], 0.5, 2.0, True)
    assert found[0] == pytest.approx(expected)


def test_explicit_user_by_hand() -> None:
    # Items 0 and 2 rated 4 and 2: A = [[2, 1], [1, 1]] + 2 * 0.1 * 1, b = [6, 2].
    expected = np.linalg.solve([[2.2, 1], [1, 1.2]], [6, 2])
    found = fold_in(fixed_side(ITEMS, False), [np.array([0, 2])], [np.array([4.0, 2.0])], 0.1, 1.0, False)
    assert found[0] == pytest.approx(expected)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_user_without_ratings_is_zero_and_leaves_others_alone(implicit: bool) -> None:
    empty, own, side = np.array([], dtype=int), np.array([1, 2]), fixed_side(ITEMS, implicit)
    both = fold_in(side, [empty, own], [np.array([]), np.ones(2)], 0.1, 1.0, implicit)
    alone = fold_in(side, [own], [np.ones(2)], 0.1, 1.0, implicit)
    assert (both[0] == 0).all()
    assert both[1] == pytest.approx(alone[0])


@pytest.mark.parametrize("implicit", [True, False])
def test_rows_of_every_length_equal_the_normal_equations_solved_as_they_stand(implicit: bool) -> None:
    rng = np.random.default_rng(1)
    size, regularisation, alpha = 24, 0.1, 5.0
    vectors = rng.normal(size=(500, size))
    lengths = [*range(1, 40), 63, 64, 65, 250, 256, 257, 400]
    items = [rng.choice(500, size=n, replace=False) for n in lengths]
    # The same item twice, wanted and unwanted: a soft target.
    items[7] = np.append(items[7], items[7][0])
    ratings = [rng.choice([-1.0, 0.5, 3.0], size=len(row)) for row in items]
    found = fold_in(fixed_side(vectors, implicit), items, ratings, regularisation, alpha, implicit)

    def brute_force(row: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        own, shared = vectors[row], vectors.T @ vectors if implicit else 0.0
        extra = alpha * abs(values) if implicit else np.ones(len(row))
        target = np.where(values > 0, 1 + extra, 0.0) if implicit else values
        count = (values > 0).sum() if implicit else len(row)
        ridge = regularisation * count if count else 1.0
        return np.linalg.solve(shared + (own.T * extra) @ own + ridge * np.eye(size), target @ own)

    expected = np.array([brute_force(*pair) for pair in zip(items, ratings, strict=True)])
    assert found == pytest.approx(expected, abs=1e-5)


def test_large_confidences_cost_no_digits() -> None:
    rng = np.random.default_rng(4)
    vectors, ones = rng.normal(size=(300, 64)), np.ones(31)
    items = [rng.choice(300, size=n, replace=False) for n in (1, 3, 10, 31)]
    found = fold_in(fixed_side(vectors, True), items, [ones[: len(row)] for row in items], 0.2, 1e5, True)
    for row, vector in zip(items, found, strict=True):
        own, ridge = vectors[row], 0.2 * len(row) * np.eye(64)
        expected = np.linalg.solve(vectors.T @ vectors + 1e5 * own.T @ own + ridge, (1 + 1e5) * own.sum(axis=0))
        assert vector == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def test_a_row_has_the_same_bits_in_every_block() -> None:
    rng = np.random.default_rng(2)
    side = fixed_side(rng.normal(size=(100, 16)), True)
    items = [rng.choice(100, size=n, replace=False) for n in (1, 3, 5, 5, 9, 30, 70)]
    ratings = [np.ones(len(row)) for row in items]
    together = fold_in(side, items, ratings, 0.1, 2.0, True)
    alone = [fold_in(side, [row], [ones], 0.1, 2.0, True)[0] for row, ones in zip(items, ratings, strict=True)]
    assert together.tobytes() == np.array(alone).tobytes()
