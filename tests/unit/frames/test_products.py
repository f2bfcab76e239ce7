import numpy as np
import pytest

from ganrec_spark.frames.products import products


@pytest.mark.parametrize(("size", "items"), [(16, 40), (50, 3416), (64, 5000)])
def test_a_users_row_is_the_same_alone_among_others_and_at_any_place(size: int, items: int) -> None:
    rng = np.random.default_rng(size)
    users = rng.standard_normal((90, size), dtype=np.float32)
    table = rng.standard_normal((items, size), dtype=np.float32)
    together = products(users, table.T)
    assert together == pytest.approx(users.astype(np.float64) @ table.T.astype(np.float64), rel=1e-6, abs=1e-6)
    for place in range(0, 90, 7):
        assert np.array_equal(products(users[place : place + 1], table.T)[0], together[place])
        assert np.array_equal(products(np.roll(users, place, axis=0), table.T)[place], together[0])
