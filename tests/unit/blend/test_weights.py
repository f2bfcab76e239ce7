"""Weighted fusion of ranks and of scores: by hand, at its corners, and the grid against fusing each list."""

import numpy as np
import pytest

from ganrec_spark.blend import weights as blend
from ganrec_spark.evaluation import metrics
from ganrec_spark.evaluation.bootstrap import poisson_weights

A, B, C = np.array([4, 2, 7]), np.array([2, 9]), np.array([], dtype=int)


def ranks(lists: list[np.ndarray], constant: float = 30.0) -> list[np.ndarray]:
    return [blend.place_values(np.zeros(len(listed)), "ranks", constant) for listed in lists]


def test_ranks_by_hand() -> None:
    items, scores = blend.fuse([A, B, C], ranks([A, B, C], 10.0), np.array([0.5, 0.25, 0.25]))
    expected = {2: 0.5 / 12 + 0.25 / 11, 4: 0.5 / 11, 7: 0.5 / 13, 9: 0.25 / 12}
    assert items.tolist() == [2, 4, 7, 9]
    assert scores == pytest.approx([expected[item] for item in items.tolist()])


def test_scores_by_hand() -> None:
    values = [blend.place_values(np.array(scores), "scores", 10.0) for scores in ([8.0, 3.0, -2.0], [7.0, 7.0], [])]
    items, scores = blend.fuse([A, B, C], values, np.array([0.5, 0.25, 0.25]))
    # The first list's scores lie 1, 1/2 and 0 of the way from the lowest to the highest, and 0 is worth a thousandth.
    expected = {2: 0.5 * (0.001 + 0.999 / 2) + 0.25, 4: 0.5, 9: 0.25, 7: 0.0005}
    assert items.tolist() == [2, 4, 9, 7]
    assert scores == pytest.approx(list(expected.values()), abs=1e-8)


@pytest.mark.parametrize("fusion", blend.FUSIONS)
@pytest.mark.parametrize("member", [0, 1, 2])
def test_weight_1_gives_the_member_exactly(member: int, fusion: str) -> None:
    rng = np.random.default_rng(member)
    for _ in range(50):
        lists = [rng.permutation(300)[:100] for _ in range(3)]
        # Scores of which many are the same.
        scores_of = [np.sort(rng.integers(0, 20, 100).astype(np.float32))[::-1] for _ in range(3)]
        values = [blend.place_values(scores, fusion, 30.0) for scores in scores_of]
        items, scores = blend.fuse(lists, values, np.eye(3)[member])
        assert items.tolist() == lists[member].tolist()
        assert (np.diff(scores) < 0).all()


def test_ties_go_to_the_smaller_item() -> None:
    lists = [np.array([8, 5]), np.array([3, 6])]
    items, _ = blend.fuse(lists, ranks(lists), np.array([0.5, 0.5]))
    assert items.tolist() == [3, 8, 5, 6]


def test_popular_items_follow_and_never_overtake() -> None:
    items, scores = blend.fill_up(*blend.fuse([A, B], ranks([A, B]), np.array([1.0, 0.0])), np.array([2, 11, 12]), 30.0)
    assert items.tolist() == [4, 2, 7, 11, 12]
    assert (np.diff(scores) < 0).all()
    nothing = blend.fuse([C, C], ranks([C, C]), np.array([0.5, 0.5]))
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
        values = ranks(lists)
        fused = [blend.fuse(lists, values, weights)[0] for weights in grid]
        hits = metrics.hit_matrix(fused, [relevant] * len(grid), 10)
        expected = metrics.ndcg(hits, np.full(len(grid), 8), 10)
        assert blend.grid_ndcg(lists, values, relevant, grid, 10) == pytest.approx(expected)


def resampled(n_users: int, samples: int = 400) -> np.ndarray:
    return poisson_weights(np.arange(n_users), samples, seed=1)[:, 1:]


def test_many_users_choose_the_best_of_the_grid_few_lean_to_the_middle() -> None:
    grid = blend.weight_grid(2, 0.5)  # even, then the two corners
    corner = int(np.flatnonzero(grid[:, 0] == 1)[0])
    # The first member alone gains .02 with a spread of .2: half a standard error among 25 users, five among 2,500.
    leads = {}
    for n in (25, 2500):
        ndcg = np.full((n, 3), 0.3)
        ndcg[:, corner] += 0.02 + np.resize([0.2, -0.2], n)
        _, weights = blend.bagged([(grid, ndcg)], resampled(n))
        assert weights.sum() == pytest.approx(1)
        leads[n] = weights[0]
    assert leads[2500] == pytest.approx(1.0)
    assert 0.5 < leads[25] < 0.95


def test_many_users_can_give_one_member_all_the_weight() -> None:
    grid = blend.weight_grid(4, 0.1)
    ndcg = np.tile(grid[:, 0] / 10, (20_000, 1))
    few, many = (blend.bagged([(grid, ndcg[:n])], np.ones((n, 3)))[1] for n in (500, 20_000))
    assert many.tolist() == [1, 0, 0, 0]
    assert 0.8 < few[0] < 0.9


def test_equally_good_settings_lean_on_no_member() -> None:
    fusion, weights = blend.bagged([(blend.weight_grid(3, 0.1), np.zeros((30, 67)))] * 2, resampled(30))
    assert fusion == 0
    assert weights == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_fusion_that_wins_most_samples_gives_the_mean_of_its_best_in_each() -> None:
    grid = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    # User 0 alone knows the first fusion's winner, users 1 and 2 two of the second's; samples are these users, by hand.
    first, second = np.zeros((3, 3)), np.zeros((3, 3))
    first[0, 0], second[1, 1], second[2, 2] = 1.0, 1.0, 1.0
    fusion, weights = blend.bagged([(grid, first), (grid, second)], np.eye(3))
    assert fusion == 1
    # In the first sample all of its settings are as good as none: the first of them counts.
    assert weights == pytest.approx([(1 + 0 + 0.5) / 3, (0 + 1 + 0.5) / 3])


def judge_of(members: int, skills: np.ndarray, users: int, seed: int) -> blend.Judge:
    """Return what judges weights on users whose held-out item the members place by their skill, 0 for none."""
    rng, worth = np.random.default_rng(seed), []
    for _ in range(users):
        taste, common = rng.standard_normal((2, 200))
        chance = np.exp(2.5 * taste)
        held_out = rng.choice(200, 1, p=chance / chance.sum())
        noise = rng.standard_normal((members, 200)) + common
        lists = [np.argsort(-row)[:40] for row in skills[:, None] * taste + 0.7 * noise]
        worth.append((lists, ranks(lists), held_out))
    return lambda weights: np.array([blend.grid_ndcg(*user, weights, 10) for user in worth])


@pytest.mark.parametrize("seed", range(6))
def test_the_ascent_reaches_the_best_of_the_grid(seed: int) -> None:
    skills = np.random.default_rng(seed).uniform(0.3, 1.5, 4)
    judge = judge_of(4, skills, 150, seed)
    best = judge(blend.weight_grid(4, 0.1)).mean(axis=0).max()
    settings, found = blend.ascent(4, 0.1, judge)
    assert found.mean(axis=0).max() >= 0.99 * best  # within one per cent, by less than half of the settings
    assert len(settings) < 287 / 2
    assert settings.sum(axis=1) == pytest.approx(np.ones(len(settings)))
    assert settings[0] == pytest.approx([0.25] * 4)
    assert all(any((row == corner).all() for row in settings) for corner in np.eye(4))


def test_eight_members_cost_no_more_settings_than_the_grid_of_four_and_the_useless_get_little_weight() -> None:
    skills = np.array([1.5, 1.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0])
    judge, judged = judge_of(8, skills, 200, seed=7), []

    def counted(weights: np.ndarray) -> np.ndarray:
        judged.append(len(weights))
        return judge(weights)

    settings, found = blend.tried_settings(8, 0.1, counted)
    assert sum(judged) == len(settings) <= len(blend.weight_grid(4, 0.1))
    assert found.shape == (200, len(settings))
    _, weights = blend.bagged([(settings, found)], resampled(200, 100))
    assert weights.sum() == pytest.approx(1)
    assert weights[3:].max() < 0.05
    assert judge(weights[None, :]).mean() > judge(np.eye(8)[:1]).mean() - 0.005


def test_what_is_tried_without_anybody_to_judge_begins_with_equal_weights() -> None:
    for members in (4, 8):
        settings, found = blend.tried_settings(members, 0.1, lambda weights: np.empty((0, len(weights))))
        assert settings[0] == pytest.approx([1 / members] * members)
        assert found.shape == (0, len(settings))


def test_four_members_try_the_whole_grid() -> None:
    settings, _ = blend.tried_settings(4, 0.1, lambda weights: np.zeros((1, len(weights))))
    assert settings.tolist() == blend.weight_grid(4, 0.1).tolist()
