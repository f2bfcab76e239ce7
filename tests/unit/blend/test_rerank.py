"""Trees that reorder the blend's head: features by hand, worlds with a known answer, and one with nothing to learn."""

from math import log2

import numpy as np
import pytest

from ganrec_spark.blend import rerank
from ganrec_spark.blend.rerank import Examples

NOTHING = np.array([], dtype=np.int32)


def test_features_by_hand() -> None:
    lists = [np.array([7, 4, 9], np.int32), NOTHING, np.array([4], np.int32)]
    scores = [np.array([2.0, 1.5, 0.5], np.float32), np.array([], np.float32), np.array([-3.0], np.float32)]
    popularity = np.arange(10, dtype=np.float32) / 10
    found = rerank.features(np.array([4, 8, 9]), np.array([0.03, 0.02, 0.01]), lists, scores, popularity, 5)
    lacks = [np.nan] * 3
    expected = [
        [1, 1.5, -0.5, *lacks, 0, -3, 0, 0.03, 0.4, 5],
        [*lacks, *lacks, *lacks, 0.02, 0.8, 5],
        [2, 0.5, -1.5, *lacks, *lacks, 0.01, 0.9, 5],
    ]
    np.testing.assert_allclose(found, np.array(expected, np.float32))
    assert len(rerank.feature_names(("als", "item_item", "transformer"))) == found.shape[1]


def examples(n_users: int, informative: bool, seed: int = 0) -> Examples:
    """Return heads of up to 12 items, the hit anywhere; `informative`: it alone is popular."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_users, 12, 6)).astype(np.float32)
    hits = np.zeros((n_users, 12), dtype=bool)
    hits[np.arange(n_users), rng.integers(0, 8, n_users)] = True
    if informative:
        features[:, :, 4] = np.where(hits, 3.0, 1.0) + 0.1 * features[:, :, 4]
    features[::2, 8:] = np.nan  # every other head is shorter
    fold, sparse = np.arange(n_users) % rerank.FOLDS, np.arange(n_users) % 3 == 0
    return Examples(features, hits, np.ones(n_users, np.int64), fold, sparse)


def test_what_tells_hits_apart_is_learned_from_other_users() -> None:
    known = examples(400, informative=True)
    models, changes = rerank.cross_fit(known, 30, 1, 10)
    places = known.hits.argmax(axis=1)
    # The hit comes first for everyone, so the change is 1 - what its place was worth.
    assert changes == pytest.approx([1 - 1 / log2(place + 2) for place in places])
    assert len(set(models)) == rerank.FOLDS
    found = rerank.verdict(changes, known.is_sparse, 500, 200, 0.95)
    assert found.accepted
    assert found.change == pytest.approx(changes.sum() / 500)
    assert next(iter(rerank.gains(models[0], ("als",)))) == "popularity"


def test_noise_is_learned_by_heart_but_not_accepted() -> None:
    noise = examples(400, informative=False)
    _, changes = rerank.cross_fit(noise, 60, 1, 10)
    by_heart = rerank.ndcg_changes(noise, rerank.train(noise, 60, 1), 10)
    assert rerank.verdict(by_heart, noise.is_sparse, 400, 134, 0.95).accepted
    assert not rerank.verdict(changes, noise.is_sparse, 400, 134, 0.95).accepted


def test_the_same_examples_give_the_same_trees() -> None:
    assert rerank.train(examples(200, True), 5, 3) == rerank.train(examples(200, True), 5, 3)


def test_the_verdict_by_hand() -> None:
    changes, sparse = np.array([0.5, -0.1, 0.2]), np.array([True, True, False])
    found = rerank.verdict(changes, sparse, 10, 4, 0.95)
    every = np.array([*changes, *[0.0] * 7])
    assert found.change == pytest.approx(0.06)
    assert found.low == pytest.approx(0.06 - 1.959964 * every.std() / 10**0.5)
    assert found.sparse_change == pytest.approx(0.1)
    assert not found.accepted
    assert rerank.verdict(np.full(9, 0.1), np.zeros(9, bool), 10, 1, 0.95).accepted
    harms_sparse = rerank.verdict(np.array([0.4] * 9 + [-0.1]), np.arange(10) == 9, 10, 1, 0.95)
    assert harms_sparse.low > 0
    assert not harms_sparse.accepted


def test_only_the_head_is_reordered_and_ties_stay() -> None:
    items = np.array([5, 3, 8, 1])
    assert rerank.reorder(items, np.array([0.1, 0.9, 0.1])).tolist() == [3, 5, 8, 1]
    assert rerank.reorder(items, np.array([])).tolist() == items.tolist()
