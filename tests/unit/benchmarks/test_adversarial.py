"""What benchmarks/adversarial.py rests on: the worst move of an adversary, and the comparison with the twin."""

from itertools import islice
from types import SimpleNamespace

import adversarial
import numpy as np
import pandas as pd
import pytest
import torch

from ganrec_spark.recommenders.transformer.network import SASRec, Shape, next_item_loss


def test_no_move_within_the_radius_is_worse_than_the_closed_form() -> None:
    torch.manual_seed(3)
    model = SASRec(Shape(40, 12, 8, 1, 1, 0.0)).requires_grad_(False)
    lengths = torch.tensor([5, 12, 2, 9], dtype=torch.int32)
    items = torch.randint(0, 40, (4, 12), dtype=torch.int32).masked_fill(torch.arange(12) >= lengths[:, None], -1)
    negatives, radius = torch.arange(0, 40, 3), 0.5
    ends = torch.arange(11) < lengths[:, None] - 1
    states, targets = model.states(items, lengths - 1)[:, :-1][ends], items[:, 1:][ends].long()

    def loss_of(moves: torch.Tensor) -> float:
        positive = (states * (model.item_vectors()[targets] + moves)).sum(1, keepdim=True)
        others = (states @ model.item_vectors()[negatives].T).masked_fill(negatives == targets[:, None], float("-inf"))
        return float(-torch.cat([positive, others], 1).log_softmax(1)[:, 0].mean())

    reach = radius * model.item_vectors()[targets].norm(dim=1, keepdim=True)
    worst = float(next_item_loss(model, model.items, items, lengths, negatives, radius))
    assert worst == pytest.approx(loss_of(-reach * states / states.norm(dim=1, keepdim=True)), rel=1e-5)
    for _ in range(20):
        move = torch.randn_like(states)
        assert loss_of(reach * move / move.norm(dim=1, keepdim=True)) < worst
    assert float(next_item_loss(model, model.items, items, lengths, negatives)) == pytest.approx(loss_of(0 * move))


def test_users_are_compared_over_the_mean_of_the_seeds() -> None:
    rows = []
    for user in range(200):
        for seed, (twin, moved) in enumerate([(0.2, 0.5), (0.4, 0.4)]):
            rows += [("test", user, twin, seed, False), ("test", user, moved, seed, True)]
    values = pd.DataFrame(rows, columns=["split", "user", "ndcg@10", "seed", "adversarial"])
    (found,) = adversarial.compared(values).itertuples()
    assert (found.twin, found.adversarial, found.n_users) == (pytest.approx(0.3), pytest.approx(0.45), 200)
    assert found.seeds_ahead == 1
    # Every user gains as much, so every sample does.
    assert (found.lift, found.lift_low, found.lift_high) == (pytest.approx(0.5),) * 3


def test_histories_keep_their_last_items_and_every_pass_all_users() -> None:
    rows, lengths = adversarial.padded([np.array([3, 1, 2]), np.array([7])], 2)
    assert (rows.tolist(), lengths.tolist()) == ([[1, 2], [7, -1]], [2, 1])
    histories = [np.array([user]) for user in range(5)]
    plan = SimpleNamespace(shape=Shape(5, 2, 4, 1, 1, 0.0), seed=1, batch_size=2)
    drawn = [user for items, _ in islice(adversarial.batches(histories, plan), 6) for user in items[:, 0].tolist()]
    first, second = drawn[:5], drawn[5:]
    assert sorted(first) == sorted(second) == list(range(5))
    assert first != second
