import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.errors import TrainingError
from ganrec_spark.recommenders.item_item.ease import ease_weights
from ganrec_spark.recommenders.item_item.rp3beta import transition_weights, walks


def test_ease_on_three_items_by_hand() -> None:
    # Users {0, 1}, {0, 1}, {2}: X'X has the block [[2, 2], [2, 2]] and the entry 1; with lambda = 1 the block is
    # [[3, 2], [2, 3]], its inverse [[3, -2], [-2, 3]] / 5, so B_01 = B_10 = 2/3 and item 2 stands alone.
    gram = np.array([[2, 2, 0], [2, 2, 0], [0, 0, 1]], dtype=np.float64)
    expected = [[0, 2 / 3, 0], [2 / 3, 0, 0], [0, 0, 0]]
    assert ease_weights(gram, 1.0) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_ease_equals_the_brute_force_inverse(kind: type, tolerance: float) -> None:
    # Larger than the blocks in which the triangle is mirrored.
    profiles = (np.random.default_rng(1).random((400, 1100)) < 0.02).astype(kind)
    gram = profiles.T @ profiles
    before = gram.copy()
    inverse = np.linalg.inv(gram.astype(np.float64) + 50 * np.eye(1100))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    assert np.abs(ease_weights(gram, 50.0) - expected).max() < tolerance
    assert (gram == before).all()


def test_damped_ease_is_that_of_scaled_columns_and_scores_the_unscaled_ones() -> None:
    profiles = (np.random.default_rng(2).random((90, 40)) < np.linspace(0.05, 0.5, 40)).astype(np.float64)
    counts = profiles.sum(axis=0)
    scale = counts**-0.3
    scale *= np.sqrt(counts.sum() / (scale**2 * counts).sum())
    assert np.square(profiles * scale).sum() == pytest.approx(counts.sum())
    own = ease_weights((profiles * scale).T @ (profiles * scale), 20.0)
    found = ease_weights(profiles.T @ profiles, 20.0, damping=0.3)
    # What the scaled model says of scaled rows, taken back to the size of unscaled ones.
    assert profiles @ found == pytest.approx((profiles * scale) @ own / scale)
    assert not np.diag(found).any()
    assert not ease_weights(np.zeros((3, 3)), 20.0, damping=0.3).any()


def test_ease_says_what_to_raise_where_the_matrix_has_no_inverse() -> None:
    with pytest.raises(TrainingError, match="ease_regularisation"):
        ease_weights(np.array([[1, 3], [3, 1]], dtype=np.float32), 0.1)


def test_rp3beta_equals_a_dense_reference() -> None:
    rng = np.random.default_rng(2)
    profiles = (rng.random((30, 12)) < 0.3) * rng.choice([0.3, 1.0], (30, 12))
    profiles[:, 5], profiles[3] = 0, 0
    alpha, beta = 0.8, 0.4
    users = profiles / np.maximum(profiles.sum(axis=1, keepdims=True), 1e-30)
    items = (profiles / np.maximum(profiles.sum(axis=0), 1e-30)).T
    popularity = profiles.sum(axis=0)
    dense = (items**alpha) @ (users**alpha) / np.maximum(popularity, 1e-30) ** beta
    np.fill_diagonal(dense, 0)

    # Users in two parts, as Spark's partitions are.
    parts = [walks(sparse.csr_array(part), alpha) for part in (profiles[:11], profiles[11:])]
    walked = sparse.csr_array(parts[0] + parts[1])
    targets, weights = transition_weights(walked, np.arange(12), popularity, (alpha, beta), 4)
    for item in range(12):
        strongest = np.sort(dense[item][dense[item] > 0])[::-1][:4]
        assert weights[item] == pytest.approx(strongest, rel=1e-5)
        assert dense[item, targets[item]] == pytest.approx(strongest)
    assert not len(targets[5])
