"""Steps that move only the rows they read come to the weights of steps that move all."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from ganrec_spark.recommenders.transformer import steps as room
from ganrec_spark.recommenders.transformer.network import SASRec, Shape
from ganrec_spark.recommenders.transformer.steps import MOST_POWER, RowSteps, Steps, adam, mean_of
from ganrec_spark.recommenders.transformer.training import Batch, SasRecPlan, train_sasrec
from ganrec_spark.training.resume import state_of
from ganrec_spark.training.worker import Worker

ITEMS, LENGTH = 3_000, 10
SHAPE = Shape(ITEMS, LENGTH, embedding_size=8, blocks=1, heads=1, dropout=0.2)
PLAN = SasRecPlan(
    SHAPE,
    epochs=3,
    steps=40,
    batch_size=8,
    seed=1,
    learning_rate=0.004,
    negatives=16,
    gradient_clip=0.05,
    averaging=2.0,
    catalogue=np.arange(ITEMS),
)


class Together(Worker):
    """One of two workers, of which the other never says anything: its steps move all rows."""

    count = 2


def stream(seed: int) -> Iterator[Batch]:
    """Yield users who like a few items, some of them often and most of them hardly ever."""
    rng = np.random.default_rng(seed)
    while True:
        lengths = rng.integers(1, LENGTH + 1, PLAN.batch_size).astype(np.int32)
        items = (ITEMS * rng.random((PLAN.batch_size, LENGTH)) ** 4).astype(np.int32)
        items[np.arange(LENGTH) >= lengths[:, None]] = -1
        yield torch.from_numpy(items), torch.from_numpy(lengths)


@pytest.fixture
def doubles() -> Iterator[None]:
    """Train in float64: in float32 steps of Adam would carry each rounding on, and large."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(("epsilon", "off"), [(1e-20, 1e-6), (1e-8, 1e-2)], ids=["without epsilon", "with epsilon"])
@pytest.mark.parametrize(("averaging", "radius"), [(0.0, 0.0), (2.0, 0.05), (MOST_POWER, 0.0)])
def test_weights_and_their_mean_are_those_of_steps_that_move_all(
    monkeypatch: pytest.MonkeyPatch, averaging: float, radius: float, epsilon: float, off: float
) -> None:
    """Adam's epsilon counts for cells whose gradients are hardly larger."""
    monkeypatch.setattr(room, "_EPSILON", epsilon)
    plan = replace(PLAN, averaging=averaging, adversary_radius=radius)
    found, dense = (train_sasrec(worker, plan, stream(5)) for worker in (Worker(), Together()))
    start = SASRec(SHAPE).state_dict()
    own_state, dense_state = state_of(found.state), state_of(dense.state)
    del dense_state["blocks.0.key.bias"]  # attention does not see it: its gradient is rounding alone
    for name, expected in dense_state.items():
        own = own_state[name]
        moved = (expected - start[name]).abs().max()
        assert moved > 0.01
        assert (own - expected).abs().max() < off * moved, name
        assert (own - expected).abs().mean() < off * 1e-2 * moved, name
    losses = [[value for _, _, value in trained.history] for trained in (found, dense)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 30, 400])
def test_a_row_that_rests_goes_on_by_its_momentum(steps: int) -> None:
    """A row has gradients in three steps, then none; after any number of steps its weights, mean and moments agree."""
    states = []
    for kind in (Steps, RowSteps):
        torch.manual_seed(0)
        model = SASRec(replace(SHAPE, n_items=5)).double()
        mean, optimizer = mean_of(model, 2.0), adam(model, 0.01)
        rest = (steps + 3, 2.0) if kind is RowSteps else ()
        own = kind(Worker(), model, mean, optimizer, 1e9, *rest)
        for step in range(steps + 3):
            vectors = own.look_up(torch.tensor([1, 4] if step < 3 else [4]))
            own.take((vectors * torch.tensor([step + 1.0, -2.0, 3.0, 0.5, -0.1, 7.0, 1.0, 1.0])).sum())
        own.settle()
        table, kept = model.items.weight, cast(SASRec, mean.module).items.weight
        moments = optimizer.state[table]
        states.append((table, kept, moments["exp_avg"], moments["exp_avg_sq"], moments["step"]))
    for dense, found in zip(*states, strict=True):
        torch.testing.assert_close(found, dense, rtol=1e-4, atol=1e-12)


def test_a_mean_of_the_last_step_alone_is_the_last_step() -> None:
    last, mean = (train_sasrec(Worker(), replace(PLAN, averaging=power), stream(7)) for power in (1e9, MOST_POWER))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state_of(last.state).values())
    moved = [state_of(trained.state)["items.weight"] - SASRec(SHAPE).items.weight for trained in (last, mean)]
    assert moved[0].abs().sum() > moved[1].abs().sum()  # the mean lags behind


def test_padding_stays_zero_whatever_its_gradient() -> None:
    model = SASRec(replace(SHAPE, n_items=5))
    mean, before = mean_of(model, 2.0), model.items.weight.detach().clone()
    steps = RowSteps(Worker(), model, mean, adam(model, 0.01), 1e9, 1, 2.0)
    steps.take(steps.look_up(torch.tensor([5, 2, 5])).sum())
    steps.settle()
    moved = (model.items.weight != before).any(1)
    assert moved.tolist() == [False, False, True, False, False, False]
    assert not cast(SASRec, mean.module).items.weight[5].any()
