from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ganrec_spark.recommenders.als import fold_in as module
from ganrec_spark.recommenders.als.fold_in import PaddedRows, fixed_side, fold_in

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


def test_a_row_that_goes_on_has_the_same_bits_in_every_block() -> None:
    rng = np.random.default_rng(2)
    side, start = fixed_side(rng.normal(size=(100, 16)), True), rng.normal(size=(7, 16)).astype(np.float32)
    items = [rng.choice(100, size=n, replace=False) for n in (1, 3, 5, 5, 9, 30, 70)]
    together = rows_of(items).solve(side, 0.1, 2.0, True, start)
    alone = [rows_of([row]).solve(side, 0.1, 2.0, True, own[None])[0] for row, own in zip(items, start, strict=True)]
    assert together.tobytes() == np.array(alone).tobytes()


@pytest.mark.parametrize(("implicit", "alpha"), [(True, 2.0), (True, 1000.0), (False, 1.0)])
def test_going_on_comes_nearer_from_afar_and_stays_where_it_is_exact(implicit: bool, alpha: float) -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(300, 32))
    side, items = fixed_side(vectors, implicit), [rng.choice(300, size=n, replace=False) for n in (1, 2, 7, 40, 290)]
    rows = rows_of(items)
    exact = rows.solve(side, 0.2, alpha, implicit)
    found = [exact + rng.normal(scale=0.1, size=exact.shape).astype(np.float32)]
    for _ in range(30):
        found.append(rows.solve(side, 0.2, alpha, implicit, found[-1]))

    def above_the_least(solved: NDArray[Any]) -> NDArray[np.float64]:
        """Return by how much each row's objective is above that of the exact vector."""
        off = (solved - exact).astype(float)
        own = [float(((vectors[row] @ one) ** 2).sum()) for row, one in zip(items, off, strict=True)]
        shared = ((off @ vectors.T) ** 2).sum(axis=1) if implicit else 0.0
        ridge = 0.2 * np.array([len(row) for row in items]) * (off**2).sum(axis=1)
        return shared + alpha * np.array(own) + ridge

    costs = np.array([above_the_least(each) for each in found])
    assert (costs[1] < 0.25 * costs[0]).all()
    assert costs[-1] == pytest.approx(0, abs=1e-5 * costs[0].max())
    assert rows.solve(side, 0.2, alpha, implicit, exact) == pytest.approx(exact, abs=1e-4)


def test_with_vectors_of_one_number_the_first_step_is_exact_by_hand() -> None:
    # Vectors 2 and 1: Y'Y = 5. Item 0 rated 3 with alpha 1: (5 + 3 * 4 + .5) x = 4 * 2, wherever it begins.
    side = fixed_side(np.array([[2.0], [1.0]]), True)
    found = PaddedRows(np.array([1]), np.array([0]), np.array([3.0])).solve(
        side, 0.5, 1.0, True, np.array([[-7.0]], dtype=np.float32)
    )
    assert found[0, 0] == pytest.approx(8 / 17.5)


def test_without_a_step_a_row_stays_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 0)
    side, start = fixed_side(ITEMS, True), np.array([[5.0, -3.0]], dtype=np.float32)
    assert rows_of([np.array([0, 2])]).solve(side, 0.5, 1.0, True, start) == pytest.approx(start, abs=1e-5)


def test_an_index_without_a_vector_is_refused() -> None:
    with pytest.raises(IndexError, match="below the 3 fixed vectors, found 3"):
        fold_in(fixed_side(ITEMS, True), [np.array([0, 3])], [np.ones(2)], 0.5, 1.0, True)


def rows_of(items: list[NDArray[Any]]) -> PaddedRows:
    lengths, flat = np.array([len(row) for row in items]), np.concatenate(items)
    return PaddedRows(lengths, flat, np.ones(len(flat)))
