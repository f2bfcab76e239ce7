"""Items' starts are alike where items are, and are taken where validation gains by them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from ganrec_spark.attributes.likeness import Described, likeness
from ganrec_spark.recommenders.transformer.item_starts import better_start, item_vectors
from ganrec_spark.recommenders.transformer.network import SASRec, Shape
from ganrec_spark.recommenders.transformer.training import Batch, SasRecPlan, train_sasrec
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.resume import state_of
from ganrec_spark.training.worker import Worker

SHAPE = Shape(6, 4, embedding_size=8, blocks=1, heads=1, dropout=0.0)
PLAN = SasRecPlan(
    SHAPE,
    epochs=1,
    steps=1,
    batch_size=2,
    seed=3,
    learning_rate=1e-9,
    negatives=4,
    gradient_clip=1.0,
    averaging=0.0,
    catalogue=np.arange(6),
)


def test_inner_products_are_the_likeness_of_items() -> None:
    rng = np.random.default_rng(0)
    words = sparse.random(5, 30, 0.2, "csr", random_state=rng, dtype=np.float32).toarray()
    images = rng.standard_normal((5, 12)).astype(np.float32)
    words, images = (
        table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9) for table in (words, images)
    )
    known = Described(np.array([0, 2, 3, 4, 7], np.int32), {"words": sparse.csr_array(words), "images": images})
    found = item_vectors(known, 8, 20_000, 1.5, seed=1)
    expected = np.zeros((8, 8))
    expected[np.ix_(known.idx, known.idx)] = 1.5**2 * likeness(known, known, {"words": 0.5, "images": 0.5})
    assert found @ found.T == pytest.approx(expected, abs=0.06)
    assert not found[[1, 5, 6]].any(), "nothing is known of them"
    assert np.array_equal(found, item_vectors(known, 8, 20_000, 1.5, seed=1))


def test_training_begins_with_random_vectors_and_the_start() -> None:
    def batches() -> "list[Batch]":
        return [(torch.tensor([[0, 1, 2, -1], [3, 4, -1, -1]]), torch.tensor([3, 2]))]

    vectors = np.arange(48, dtype=np.float32).reshape(6, 8)
    trained = train_sasrec(Worker(), replace(PLAN, item_start=1.0, item_vectors=vectors), iter(batches()))
    torch.manual_seed(stable_seed(PLAN.seed, "sasrec", "start"))
    random = SASRec(SHAPE).item_vectors().detach().numpy()
    assert state_of(trained.state)["items.weight"][:6].numpy() == pytest.approx(random + vectors, abs=1e-4)


@pytest.mark.parametrize(
    ("reached", "start"),
    [
        ({"a": 0.100, "b": 0.100, "c": 0.103, "d": 0.103}, 1.5),
        ({"a": 0.100, "b": 0.100, "c": 0.101, "d": 0.102}, 0.0),  # less than 2 %
        ({"a": 0.100, "b": 0.100, "c": 0.190}, 0.0),  # d was given up
        ({"c": 0.01, "d": 0.01}, 1.5),
        ({}, 0.0),
    ],
)
def test_a_later_start_has_to_gain(reached: dict[str, float], start: float) -> None:
    plans = [replace(PLAN, name=name, item_start=0.0 if name in "ab" else 1.5) for name in "abcd"]
    assert {plan.item_start for plan in better_start(plans, reached)} == {start}
    assert len(better_start(plans, reached)) == 2
    assert better_start(plans[:2], reached) == plans[:2]
