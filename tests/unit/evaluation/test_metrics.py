"""Metrics worked by hand as fractions, and against trec_eval, which is not ours."""

from math import log2, nan

import numpy as np
import pytest
import pytrec_eval
import scipy.sparse

from ganrec_spark.evaluation import metrics

# One user: held-out items 7, 3, 9; the list hits at positions 2 and 5.
ITEMS = [np.array([1, 3, 4, 5, 9, 6])]
RELEVANT = [np.array([3, 7, 9])]
N_RELEVANT = np.array([3])
HITS = metrics.hit_matrix(ITEMS, RELEVANT, 6)


def test_hits_by_hand() -> None:
    assert HITS.tolist() == [[False, True, False, False, True, False]]


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        ("precision", 1, 0),
        ("precision", 2, 1 / 2),
        ("precision", 5, 2 / 5),
        ("recall", 2, 1 / 3),
        ("recall", 5, 2 / 3),
        ("ndcg", 1, 0),
        ("ndcg", 2, (1 / log2(3)) / (1 / log2(2) + 1 / log2(3))),
        ("ndcg", 5, (1 / log2(3) + 1 / log2(6)) / (1 + 1 / log2(3) + 1 / log2(4))),
        ("mrr", 1, 0),
        ("mrr", 5, 1 / 2),
        ("map", 1, 0),
        ("map", 2, (1 / 2) / 2),
        ("map", 5, (1 / 2 + 2 / 5) / 3),
    ],
)
def test_values_by_hand(name: str, k: int, expected: float) -> None:
    assert metrics.PER_USER[name](HITS, N_RELEVANT, k) == pytest.approx([expected])


def test_no_list_scores_0_and_a_perfect_short_list_1() -> None:
    hits = metrics.hit_matrix([np.array([], dtype=int), np.array([2])], [np.array([5]), np.array([2])], 3)
    for name, metric in metrics.PER_USER.items():
        empty, perfect = metric(hits, np.array([1, 1]), 3)
        assert empty == 0
        assert perfect == pytest.approx(1 / 3 if name == "precision" else 1)


def test_a_hit_counts_for_its_own_user_only() -> None:
    hits = metrics.hit_matrix([np.array([1, 2]), np.array([2, 1])], [np.array([1]), np.array([9])], 2)
    assert hits.tolist() == [[True, False], [False, False]]


def test_values_equal_trec_eval() -> None:
    rng = np.random.default_rng(1)
    users, k = range(200), 10
    items = [rng.permutation(60)[:25] for _ in users]
    relevant = [rng.permutation(60)[: rng.integers(1, 30)] for _ in users]
    truth = {str(u): {str(i): 1 for i in relevant[u]} for u in users}
    lists = {str(u): {str(i): float(-place) for place, i in enumerate(items[u])} for u in users}
    first_k = {u: dict(list(ranked.items())[:k]) for u, ranked in lists.items()}
    theirs = pytrec_eval.RelevanceEvaluator(truth, {f"P.{k}", f"recall.{k}", f"ndcg_cut.{k}", f"map_cut.{k}"}).evaluate(
        lists
    )
    reciprocal = pytrec_eval.RelevanceEvaluator(truth, {"recip_rank"}).evaluate(first_k)
    hits, n_relevant = metrics.hit_matrix(items, relevant, 20), np.array([len(row) for row in relevant])

    def column(name: str) -> np.ndarray:
        return np.array([theirs[str(u)][f"{name}_{k}"] for u in users])

    assert metrics.precision(hits, n_relevant, k) == pytest.approx(column("P"))
    assert metrics.recall(hits, n_relevant, k) == pytest.approx(column("recall"))
    assert metrics.ndcg(hits, n_relevant, k) == pytest.approx(column("ndcg_cut"))
    assert metrics.mrr(hits, n_relevant, k) == pytest.approx([reciprocal[str(u)]["recip_rank"] for u in users])
    # theirs is divided by all held-out items, ours by what a list of k could hold of them
    rescaled = column("map_cut") * n_relevant / np.minimum(n_relevant, k)
    assert metrics.average_precision(hits, n_relevant, k) == pytest.approx(rescaled)


def test_novelty_is_mean_self_information_in_bits() -> None:
    information = metrics.self_information(np.array([8, 4, 1, 0]), n_users=8)
    assert information.tolist() == [0, 1, 3, 3]
    lists = [np.array([0, 1, 2]), np.array([], dtype=int)]
    assert metrics.novelty(lists, information, 2) == pytest.approx([1 / 2, nan], nan_ok=True)


def test_diversity_is_one_minus_the_mean_cosine_of_neighbour_sets() -> None:
    # Sets with the item itself: 0: {0, 1}, 1: {0, 1}, 2: {2, 3}, 3: {0, 3}.
    sets = metrics.neighbour_sets(np.array([0, 1, 2, 3, 4]), np.array([1, 0, 3, 0]), 4)
    lists = [np.array([0, 1]), np.array([0, 2]), np.array([0, 2, 3]), np.array([0])]
    cosines = [1, 0, (0 + 1 / 2 + 1 / 2) / 3]
    expected = [*(1 - cosine for cosine in cosines), nan]
    assert metrics.diversity(lists, sets, 3) == pytest.approx(expected, nan_ok=True)


def test_diversity_equals_the_loop_over_pairs() -> None:
    rng = np.random.default_rng(2)
    stored = scipy.sparse.random_array((50, 50), density=0.1, rng=rng, format="csr")
    sets = metrics.neighbour_sets(stored.indptr, stored.indices, 50)
    members = [set(stored.indices[stored.indptr[i] : stored.indptr[i + 1]].tolist()) | {i} for i in range(50)]
    items = rng.permutation(50)[:10]
    pairs = [(i, j) for i in items for j in items if i < j]
    mean = np.mean([len(members[i] & members[j]) / (len(members[i]) * len(members[j])) ** 0.5 for i, j in pairs])
    assert metrics.diversity([items], sets, 10) == pytest.approx([1 - mean])


def test_coverage_and_gini_are_over_the_whole_catalogue() -> None:
    assert metrics.coverage(np.array([3, 1]), 8) == 2 / 8
    assert metrics.gini(np.array([5, 5, 5, 5]), 4) == pytest.approx(0)
    assert metrics.gini(np.array([7]), 4) == pytest.approx(3 / 4)
    # Mean absolute difference over twice the mean, of (0, 0, 1, 3): 2 * (1 + 3 + 1 + 3 + 2) / 16 / (2 * 1)
    assert metrics.gini(np.array([1, 3]), 4) == pytest.approx(20 / 16 / 2)
    assert metrics.gini(np.array([], dtype=int), 4) == 0
    assert metrics.gini(np.zeros(3), 3) == 0
    assert metrics.gini(np.array([0.0, 0.0, 0.0, 4.0]), 4) == pytest.approx(0.75)
