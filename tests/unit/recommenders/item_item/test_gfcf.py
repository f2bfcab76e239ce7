import numpy as np
import pytest
from scipy import sparse

from ganrec_spark.recommenders.item_item.gfcf import low_pass, normalised, singular_vectors
from ganrec_spark.recommenders.item_item.rp3beta import transition_weights, walks


def world() -> sparse.csr_array:
    rng = np.random.default_rng(5)
    dense = (rng.random((60, 40)) < 0.2) * rng.choice([0.3, 1.0], (60, 40))
    dense[:, 7], dense[4] = 0, 0
    return sparse.csr_array(dense)


def test_scores_equal_the_papers_formula_on_dense_matrices() -> None:
    profiles = world()
    dense, popularity = profiles.toarray(), np.asarray(profiles.sum(axis=0)).ravel()
    with np.errstate(divide="ignore"):
        users, items = 1 / np.sqrt(dense.sum(axis=1)), 1 / np.sqrt(popularity)
    users[np.isinf(users)], items[np.isinf(items)] = 0, 0
    r = users[:, None] * dense * items
    _, _, rows = np.linalg.svd(r)
    v = rows[:6].T
    weights = r.T @ r + 0.3 * items[:, None] * (v @ v.T) * np.sqrt(popularity)
    np.fill_diagonal(weights, 0)
    expected = dense @ weights

    parts = [sparse.csr_array(part) for part in (profiles[:25], profiles[25:])]
    ours = sparse.csr_array(
        sum(normalised(part, popularity).toarray().T @ normalised(part, popularity).toarray() for part in parts)
    )
    vectors = singular_vectors(lambda q: ours @ q, 40, 6, seed=1)
    walked = sparse.csr_array(walks(parts[0], 1.0) + walks(parts[1], 1.0))
    targets, weights = transition_weights(walked, np.arange(40), popularity, (0.5, 0.5), 40)
    indptr = np.cumsum([0, *map(len, targets)])
    near = sparse.csr_array((np.concatenate(weights), np.concatenate(targets), indptr), shape=(40, 40))
    found = low_pass(near, vectors, popularity, 0.3)
    single = profiles.astype(np.float32)
    assert found.scores(single) == pytest.approx(expected, abs=1e-3)
    assert single @ found.columns(slice(3, 9)) == pytest.approx(found.scores(single)[:, 3:9], abs=1e-5)


def test_no_more_vectors_than_the_ratings_have() -> None:
    # Two groups of users and items: R'R has rank two, though more vectors are asked for.
    r = np.kron(np.eye(2), np.full((3, 4), 1 / np.sqrt(12)))
    vectors = singular_vectors(lambda q: r.T @ (r @ q), 8, 5, seed=0)
    assert vectors.shape == (8, 2)
    assert vectors @ vectors.T == pytest.approx(np.kron(np.eye(2), np.full((4, 4), 0.25)), abs=1e-5)
