"""The best products are those of all products, to the last bit, however the items are cut."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError
from ganrec_spark.frames import best_products as module
from ganrec_spark.frames.best_products import best_products
from ganrec_spark.frames.products import products
from ganrec_spark.frames.top_n import Lists, mask_seen, top_n


def by_all_products(
    users: NDArray[np.float32],
    table: NDArray[np.float32],
    known: NDArray[np.bool_],
    seen: list[NDArray[np.int64]],
    n: int,
) -> Lists:
    scores = products(users, table.T)
    scores[:, ~known] = -np.inf
    mask_seen(scores, seen)
    return top_n(scores, n)


def same(found: Lists, expected: Lists) -> bool:
    pairs = [pair for own, other in zip(found, expected, strict=True) for pair in zip(own, other, strict=True)]
    return all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in pairs)


@pytest.mark.parametrize("cells", [1, 40 * 7, 40 * 100, 2**19])
@pytest.mark.parametrize("n", [1, 20, 600])
def test_lists_are_those_of_all_products(cells: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", cells)
    rng = np.random.default_rng(7)
    users, table = (rng.standard_normal((rows, 16), dtype=np.float32) for rows in (40, 500))
    table[::9] *= 30  # popular ones
    known = rng.random(500) < 0.9
    seen = [rng.choice(500, size=size, replace=False) for size in range(40)]
    assert same(best_products(users, table, known, seen, n), by_all_products(users, table, known, seen, n))


@pytest.mark.parametrize("cells", [1, 2**19])
def test_items_that_are_level_are_listed_by_their_index(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", cells)
    rng = np.random.default_rng(8)
    users, table = (rng.standard_normal((rows, 8), dtype=np.float32) for rows in (6, 300))
    users[2] = 0  # every item has 0
    table[100:] = table[100]  # two hundred of one vector
    table[20:40] = np.nextafter(table[20], np.float32(np.inf))  # and some that single precision takes for level
    known, seen = np.ones(300, dtype=np.bool_), [np.array([100, 101, 3])] * 6
    assert same(best_products(users, table, known, seen, 10), by_all_products(users, table, known, seen, 10))


def test_what_single_precision_loses_double_finds() -> None:
    # 1.5 + 1e8 - 1e8: single precision has lost the 1.5 after the first sum, and would list 1.25 and .5.
    users = np.array([[1, 1e4, 1e4]], dtype=np.float32)
    table = np.array([[1.25, 0, 0], [0.5, 0, 0], [1.5, 1e4, -1e4]], dtype=np.float32)
    assert (users @ table.T)[0].tolist() == [1.25, 0.5, 0.0]
    items, values = best_products(users, table, np.ones(3, dtype=np.bool_), [np.array([], dtype=int)], 2)
    assert items[0].tolist() == [2, 0]
    assert values[0].tolist() == [1.5, 1.25]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_vector_that_is_not_finite_is_refused_instead_of_emptying_lists(bad: float) -> None:
    table = np.array([[1.0, 2.0], [bad, 1.0]], dtype=np.float32)
    with pytest.raises(TrainingError, match="expected finite vectors"), np.errstate(over="ignore"):
        best_products(table[:1], table, np.ones(2, dtype=np.bool_), [np.array([], dtype=int)], 1)


@pytest.mark.parametrize("n", [0, 5])
def test_no_items_no_users_and_nothing_left_give_empty_lists(n: int) -> None:
    none, known = np.empty((0, 4), dtype=np.float32), np.ones(3, dtype=np.bool_)
    users, table = np.ones((2, 4), dtype=np.float32), np.ones((3, 4), dtype=np.float32)
    assert best_products(none, table, known, [], n) == ([], [])
    for lists in best_products(users, none, known[:0], [np.array([], dtype=int)] * 2, n):
        assert [len(each) for each in lists] == [0, 0]
    items, _ = best_products(users, table, known, [np.array([0, 1, 2]), np.array([2])], n)
    assert [each.tolist() for each in items] == [[], [0, 1][:n]]
