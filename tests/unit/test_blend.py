"""Weighted reciprocal rank fusion: by hand, at its corners, and the grid against fusing each list."""

import numpy as np
import pytest

from ganrec_spark.ranking import blend, metrics

A, B, C = np.array([4, 2, 7]), np.array([2, 9]), np.array([], dtype=int)


def test_scores_by_hand() -> None:
    items, scores = blend.fuse([A, B, C], np.array([0.5, 0.25, 0.25]), 10.0)
    expected = {2: 0.5 / 12 + 0.25 / 11, 4: 0.5 / 11, 7: 0.5 / 13, 9: 0.25 / 12}
    assert items.tolist() == [2, 4, 7, 9]
    assert scores == pytest.approx([expected[item] for item in items.tolist()])


@pytest.mark.parametrize("member", [0, 1, 2])
def test_weight_1_gives_the_member_exactly(member: int) -> None:
    rng = np.random.default_rng(member)
    for _ in range(50):
        lists = [rng.permutation(300)[:100] for _ in range(3)]
        items, scores = blend.fuse(lists, np.eye(3)[member], 30.0)
        assert items.tolist() == lists[member].tolist()
        assert (np.diff(scores) < 0).all()


def test_ties_go_to_the_smaller_item() -> None:
    items, _ = blend.fuse([np.array([8, 5]), np.array([3, 6])], np.array([0.5, 0.5]), 30.0)
    assert items.tolist() == [3, 8, 5, 6]


def test_popular_items_follow_and_never_overtake() -> None:
    items, scores = blend.fill_up(*blend.fuse([A, B], np.array([1.0, 0.0]), 30.0), np.array([2, 11, 12]), 30.0)
    assert items.tolist() == [4, 2, 7, 11, 12]
    assert (np.diff(scores) < 0).all()
    nothing = blend.fuse([C, C], np.array([0.5, 0.5]), 30.0)
    assert blend.fill_up(*nothing, np.array([3, 1]), 30.0)[0].tolist() == [3, 1]


def test_the_grid_holds_corners_and_equal_weights_first() -> None:
    grid = blend.weight_grid(3, 0.1)
    assert len(grid) == 66 + 1
    assert grid.sum(axis=1) == pytest.approx(np.ones(67))
    assert grid[0] == pytest.approx([1 / 3] * 3)
    assert all(any((row == corner).all() for row in grid) for corner in np.eye(3))
    assert len(blend.weight_grid(3, 0.5)) == 6 + 1


def test_grid_ndcg_equals_fusing_and_measuring_each_setting() -> None:
    rng = np.random.default_rng(3)
    grid = blend.weight_grid(3, 0.25)
    for size in (0, 3, 40):
        lists = [rng.permutation(60)[:size] for _ in range(3)]
        relevant = rng.permutation(60)[:8]
        fused = [blend.fuse(lists, weights, 30.0)[0] for weights in grid]
        hits = metrics.hit_matrix(fused, [relevant] * len(grid), 10)
        expected = metrics.ndcg(hits, np.full(len(grid), 8), 10)
        assert blend.grid_ndcg(lists, relevant, grid, 30.0, 10) == pytest.approx(expected)


def test_the_best_setting_is_never_below_a_member() -> None:
    rng = np.random.default_rng(4)
    grid, users = blend.weight_grid(3, 0.1), range(40)
    lists = [[rng.permutation(80)[:30] for _ in range(3)] for _ in users]
    relevant = [rng.permutation(80)[:2] for _ in users]
    total = sum(blend.grid_ndcg(lists[u], relevant[u], grid, 30.0, 10) for u in users)
    best = blend.choose(total)
    for member in range(3):
        hits = metrics.hit_matrix([lists[u][member] for u in users], relevant, 10)
        assert total[best] >= metrics.ndcg(hits, np.full(40, 2), 10).sum() - 1e-9


def test_equally_good_settings_lean_on_no_member() -> None:
    assert blend.choose(np.zeros(67)) == 0


def test_the_middle_of_the_best_settings_is_their_mean() -> None:
    grid = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.25]])
    ndcg = np.array([0.2, 0.1, 0.4, 0.3])
    expected = [[0.5, 0.5], [0.625, 0.375], [0.5625, 0.4375]]
    assert blend.centres(grid, ndcg, (1, 2, 10)) == pytest.approx(np.array(expected))
