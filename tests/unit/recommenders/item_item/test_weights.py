import itertools

import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.recommenders.item_item.gfcf import LowPass
from ganrec_spark.recommenders.item_item.weights import Weights, columns, mixed, products, strongest

RNG = np.random.default_rng(3)
SIZE = 700  # more than the columns that are mixed at a time


def dense() -> np.ndarray:
    return RNG.standard_normal((SIZE, SIZE)).astype(np.float32)


def thin() -> sparse.csr_array:
    return sparse.random_array((SIZE, SIZE), density=0.02, rng=RNG, dtype=np.float32, format="csr")


def low() -> LowPass:
    left, right = RNG.standard_normal((SIZE, 3)), RNG.standard_normal((3, SIZE))
    return LowPass(thin(), left.astype(np.float32), right.astype(np.float32))


@pytest.mark.parametrize(("first", "second"), list(itertools.product((dense, thin, low), repeat=2)))
def test_a_mixture_scores_as_the_sum_of_both_scores(first, second) -> None:  # type: ignore[no-untyped-def]
    one: Weights = first()
    other: Weights = second()
    profiles = sparse.random_array((9, SIZE), density=0.05, rng=RNG, dtype=np.float32, format="csr")
    before = products(profiles, one).copy(), products(profiles, other).copy()
    mixture = mixed(one, other, 0.3)
    assert products(profiles, mixture) == pytest.approx(before[0] + 0.3 * before[1], rel=1e-3, abs=1e-3)
    assert profiles @ columns(mixture, slice(5, 40)) == pytest.approx(
        products(profiles, mixture)[:, 5:40], rel=1e-3, abs=1e-3
    )
    # Neither part was changed, and what is sparse stays sparse.
    assert products(profiles, one) == pytest.approx(before[0])
    assert products(profiles, other) == pytest.approx(before[1])
    assert isinstance(mixture, np.ndarray) == (dense in (first, second))


def test_the_strongest_of_sparse_weights_are_those_of_the_same_weights_dense() -> None:
    some = thin()
    some.data = np.round(RNG.standard_normal(some.nnz), 1).astype(np.float32)  # ties, zeros, and negative ones
    items, values = strongest(some, 4)
    again, of_dense = strongest(some.toarray(), 4)
    assert len(items) == SIZE
    for item in range(SIZE):
        column = some.toarray()[:, item]
        best = sorted(np.flatnonzero(column > 0), key=lambda row: (-column[row], row))[:4]
        assert items[item].tolist() == again[item].tolist() == best
        assert values[item].tolist() == of_dense[item].tolist() == column[best].tolist()


def test_the_strongest_of_weights_with_a_part_of_low_rank() -> None:
    model = low()
    whole = columns(model, slice(0, SIZE))
    items, values = strongest(model, 3)
    assert [row.tolist() for row in items] == np.argsort(-whole, axis=0, kind="stable")[:3].T.tolist()
    assert np.array(values) == pytest.approx(-np.sort(-whole, axis=0)[:3].T)
