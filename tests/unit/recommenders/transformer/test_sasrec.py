"""SASRec learns worlds with a known next item, looks at nothing it must not see, and resumes exactly."""

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganrec_spark.errors import TrainingError
from ganrec_spark.recommenders.transformer.network import SASRec, Shape, next_item_loss
from ganrec_spark.recommenders.transformer.plans import popularity_ndcg
from ganrec_spark.recommenders.transformer.steps import polynomial_decay
from ganrec_spark.recommenders.transformer.training import (
    Batch,
    Judges,
    SasRecPlan,
    TrainedSasRec,
    _bucketed,
    _of_equal_sum,
    _out_of_patience,
    train_sasrec,
    validation_ndcg,
)
from ganrec_spark.training.checkpoints import Checkpoints
from ganrec_spark.training.worker import Worker

ITEMS, LENGTH = 12, 6
SHAPE = Shape(ITEMS, LENGTH, embedding_size=16, blocks=1, heads=2, dropout=0.1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would cost more than they save on steps this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def cycles(n: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """User u starts at item u and always takes the next one: after item i comes i + 1, modulo 12."""
    lengths = np.array([2 + user % (LENGTH - 1) for user in range(n)], dtype=np.int32)
    items = np.full((n, LENGTH), -1, dtype=np.int32)
    for user, length in enumerate(lengths):
        items[user, :length] = (user + np.arange(length)) % ITEMS
    return items, lengths


def stream(batch_size: int = 32) -> Iterator[Batch]:
    items, lengths = map(torch.from_numpy, cycles())
    for start in itertools.cycle(range(0, len(items), batch_size)):
        yield items[start : start + batch_size], lengths[start : start + batch_size]


def judges() -> Judges:
    items, lengths = cycles()
    last = items[np.arange(len(items)), lengths - 1]
    return Judges(items, lengths, np.arange(len(items)), ((last + 1) % ITEMS).astype(np.int64))


PLAN = SasRecPlan(
    SHAPE,
    epochs=30,
    steps=3,
    batch_size=32,
    seed=7,
    learning_rate=0.01,
    negatives=8,
    gradient_clip=5.0,
    averaging=4.0,
    catalogue=np.arange(ITEMS),
    judges=judges(),
    validate_every=2,
    patience=100,
)


def network(state: bytes) -> SASRec:
    model = SASRec(SHAPE)
    model.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    return model.eval()


def test_learns_that_the_next_item_is_one_up() -> None:
    trained = train_sasrec(Worker(), PLAN, stream())
    # 1 means that the right item is first, of all that are not in the history, for every user.
    assert validation_ndcg(Worker(), network(trained.state), judges(), PLAN.catalogue) == pytest.approx(1.0)
    assert validation_ndcg(Worker(), SASRec(SHAPE), judges(), PLAN.catalogue) < 0.7


@pytest.mark.parametrize(
    ("power", "by_hand"), [(0.0, (5 + 1 + 4 + 2) / 4), (1.0, (1 * 5 + 2 * 1 + 3 * 4 + 4 * 2) / 10)]
)
def test_the_mean_of_weights_is_that_worked_by_hand(power: float, by_hand: float) -> None:
    mean = [torch.tensor([5.0])]
    for t, weight in enumerate((1.0, 4.0, 2.0), 1):
        polynomial_decay(power)(mean, [torch.tensor([weight])], torch.tensor(t))
    assert mean[0].item() == pytest.approx(by_hand)


def test_what_is_kept_is_the_mean_of_the_weights_of_all_steps() -> None:
    seen: list[dict[str, torch.Tensor]] = []

    class Watching(Worker):
        count = 2  # so that each step moves all weights at once
        model: torch.nn.Module | None = None

        def broadcast(self, module: torch.nn.Module) -> None:
            self.model = module if isinstance(module, SASRec) else self.model

        def step(self, optimizer: torch.optim.Optimizer) -> None:
            super().step(optimizer)
            assert self.model is not None
            seen.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})

    trained = train_sasrec(Watching(), replace(PLAN, epochs=2, judges=None, averaging=0.0), stream())
    assert len(seen) == 6
    for name, tensor in network(trained.state).state_dict().items():
        torch.testing.assert_close(tensor, torch.stack([state[name] for state in seen]).mean(0), msg=name)


def test_a_position_sees_neither_later_items_nor_padding() -> None:
    torch.manual_seed(0)
    model = SASRec(SHAPE).eval()
    lengths = torch.tensor([3])
    padded = torch.tensor([[4, 5, 6, -1, -1, -1]])
    with torch.no_grad():
        trimmed = model.states(padded[:, :3], lengths)
        torch.testing.assert_close(model.states(padded, lengths)[:, :3], trimmed)
        other_end = model.states(torch.tensor([[4, 5, 9]]), lengths)
    torch.testing.assert_close(other_end[:, :2], trimmed[:, :2])
    assert not torch.allclose(other_end[:, 2], trimmed[:, 2])


def test_positions_count_from_the_end_of_the_history() -> None:
    """By hand: of at most 6 positions, histories of 3 and of 5 items take the last three and the last five."""
    model = SASRec(replace(SHAPE, blocks=0, dropout=0.0)).eval()
    items, lengths = torch.tensor([[4, 5, 6, -1, -1], [7, 8, 4, 5, 6]]), torch.tensor([3, 5])
    with torch.no_grad():
        found = model.states(items, lengths)
        for user, position, item, place in ((0, 0, 4, 3), (0, 2, 6, 5), (1, 0, 7, 1), (1, 2, 4, 3), (1, 4, 6, 5)):
            by_hand = model.norm(model.items.weight[item] + model.positions.weight[place])
            torch.testing.assert_close(found[user, position], by_hand)
        # The latest item has the same position, and without attention the same state, however long the history.
        last = model.last_states(items, lengths)
    torch.testing.assert_close(last[0], last[1])


def test_loss_is_the_softmax_worked_by_hand() -> None:
    model = SASRec(replace(SHAPE, dropout=0.0)).eval()
    items, lengths = torch.tensor([[1, 2, 3, -1], [5, 6, -1, -1]]), torch.tensor([3, 2])
    negatives = torch.tensor([2, 9])  # 2 is a target itself, and must not be its own negative
    expected = []
    with torch.no_grad():
        for history, position, target in (([1, 2], 0, 2), ([1, 2], 1, 3), ([5], 0, 6)):
            state = model.states(torch.tensor([history]), torch.tensor([len(history)]))[0, position]
            rivals = [item for item in (2, 9) if item != target]
            scores = [float(state @ model.items.weight[item]) for item in (target, *rivals)]
            expected.append(-math.log(math.exp(scores[0]) / sum(math.exp(score) for score in scores)))
        found = float(next_item_loss(model, model.items, items, lengths, negatives))
    assert found == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_a_target_that_is_the_only_negative_gives_no_loss_and_a_sound_gradient() -> None:
    model = SASRec(replace(SHAPE, dropout=0.0))
    loss = next_item_loss(model, model.items, torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([2]))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_single_items_give_no_loss_and_no_crash() -> None:
    model = SASRec(SHAPE)
    loss = next_item_loss(model, model.items, torch.tensor([[3], [4]]), torch.tensor([1, 1]), torch.tensor([1, 2]))
    loss.backward()
    assert loss.item() == 0


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_killed_training_resumes_to_the_same_state(goes_on: bool) -> None:
    start = train_sasrec(Worker(), replace(PLAN, epochs=2, seed=8), stream()).state if goes_on else b""
    plan = replace(PLAN, epochs=8, start=start)
    whole = train_sasrec(Worker(), plan, stream())
    saved: list[bytes] = []

    def save_and_die(content: bytes) -> None:
        saved.append(content)
        if len(saved) == 3:
            raise Killed

    with pytest.raises(Killed):
        train_sasrec(Worker(), plan, stream(), Checkpoints(save=save_and_die))
    resumed = train_sasrec(Worker(), plan, stream(), Checkpoints(load=lambda: saved[-1]))
    assert resumed.history == whole.history
    for name, tensor in network(whole.state).state_dict().items():
        assert torch.equal(tensor, network(resumed.state).state_dict()[name]), name


def test_a_finished_training_resumes_to_its_result() -> None:
    plan = replace(PLAN, epochs=4)
    saved: list[bytes] = []
    whole = train_sasrec(Worker(), plan, stream(), Checkpoints(save=saved.append))
    again = train_sasrec(Worker(), plan, stream(), Checkpoints(load=lambda: saved[-1]))
    assert (again.state, again.epoch, again.history) == (whole.state, whole.epoch, whole.history)


@pytest.mark.parametrize(
    ("values", "min_gain", "stops"),
    [
        ([0.50, 0.51, 0.52], 0.0, False),
        ([0.50, 0.51, 0.52], 0.05, True),  # 4 % above the first after two validations
        ([0.50, 0.51, 0.53], 0.05, False),  # 6 %
        ([0.50, 0.50, 0.49], 0.0, True),
        ([0.0, 0.0, 0.0], 0.05, True),
        ([0.50, 0.49], 0.0, False),
    ],
)
def test_patience_ends_when_validations_hardly_rise(values: list[float], min_gain: float, stops: bool) -> None:
    found = TrainedSasRec(epoch=1, history=[(at, "validation_ndcg", value) for at, value in enumerate(values, 1)])
    assert _out_of_patience(replace(PLAN, patience=2, min_gain=min_gain), found) == stops


def test_training_that_never_reaches_the_floor_is_given_up() -> None:
    given_up = train_sasrec(Worker(), replace(PLAN, patience=2, floor=2.0), stream())
    assert [at for at, name, _ in given_up.history if name == "validation_ndcg"] == [2, 4, 6, 8]
    assert given_up.given_up
    assert given_up.stopped == "no better NDCG@10 than popularity's 2.0000"
    # Hardly a step: the first validation stays the best, and patience ends it, below the floor as well.
    flat = train_sasrec(Worker(), replace(PLAN, learning_rate=1e-9, patience=2, floor=2.0), stream())
    assert [at for at, name, _ in flat.history if name == "validation_ndcg"] == [2, 4, 6]
    assert flat.given_up
    learns = train_sasrec(Worker(), replace(PLAN, patience=2, floor=0.5), stream())
    assert not learns.given_up


def test_popularity_of_the_judges_by_hand() -> None:
    judged = Judges(np.array([[3, 1, -1], [2, -1, -1]]), np.array([2, 1]), np.array([1, 0, 1]), np.array([3, 2, 9]))
    # Without what they have: [2, 0] holds the first user's 2 first; [3, 1, 0] the second's 3 first, not 9.
    expected = (1 + 1 / (1 + 1 / np.log2(3))) / 2
    assert popularity_ndcg(judged, np.array([3, 1, 2, 0], np.int32)) == pytest.approx(expected)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    trained = train_sasrec(Worker(), replace(PLAN, learning_rate=1e-9, patience=2, epochs=40), stream())
    assert trained.epoch == 2
    assert max(epoch for epoch, _, _ in trained.history) == 6
    assert "2 validations" in trained.stopped


def test_training_meets_the_adversary_of_its_plan() -> None:
    still = replace(PLAN, learning_rate=1e-9, epochs=1, judges=None)
    losses = []
    for radius in (0.0, 0.1, 0.5):
        trained = train_sasrec(Worker(), replace(still, adversary_radius=radius), stream())
        losses.append(trained.history[0][2])
    assert losses[0] < losses[1] < losses[2]


def test_training_goes_on_from_given_weights_and_new_items_keep_their_random_ones() -> None:
    first = train_sasrec(Worker(), PLAN, stream())
    still = replace(PLAN, learning_rate=1e-9, epochs=1, judges=None, start=first.state)
    more = replace(still, shape=replace(SHAPE, n_items=ITEMS + 2), start=first.state)
    went_on, grown = (train_sasrec(Worker(), plan, stream()).state for plan in (still, more))
    old, same = network(first.state).state_dict(), network(went_on).state_dict()
    new = torch.load(io.BytesIO(grown), weights_only=True)
    for name, tensor in old.items():
        torch.testing.assert_close(same[name], tensor, msg=name, rtol=1e-4, atol=1e-5)
    table = new.pop("items.weight")
    torch.testing.assert_close(table[:ITEMS], old["items.weight"][:ITEMS], rtol=1e-4, atol=1e-5)
    assert table.shape[0] == ITEMS + 3
    assert table[ITEMS : ITEMS + 2].abs().sum(1).min() > 0
    assert not table[ITEMS + 2].any()
    assert all(torch.allclose(new[name], old[name], rtol=1e-4, atol=1e-5) for name in new)
    fewer = SASRec(SHAPE)  # an item that nobody has any more leaves a shorter axis
    fewer.start_from(torch.load(io.BytesIO(grown), weights_only=True))
    assert torch.equal(fewer.items.weight[:ITEMS], table[:ITEMS])
    assert not fewer.items.weight[ITEMS].any()


def test_a_loss_that_is_not_finite_keeps_the_last_sound_epoch() -> None:
    class Sick(Worker):
        losses = itertools.chain([1.0, 0.9], itertools.repeat(float("nan")))

        def mean(self, value: float, name: str) -> float:
            return next(self.losses) if name == "loss" else value

    trained = train_sasrec(Sick(), replace(PLAN, judges=None), stream())
    assert trained.epoch == 2
    assert "not finite in epoch 3" in trained.stopped

    class Hopeless(Sick):
        losses = itertools.chain(itertools.repeat(float("nan")))

    with pytest.raises(TrainingError, match="learning_rate"):
        train_sasrec(Hopeless(), PLAN, stream())


def test_buckets_hold_every_user_once_with_little_padding() -> None:
    items, lengths = map(torch.from_numpy, cycles())
    batches = list(_bucketed(stream(), steps=3, seed=1))
    rows = sorted(tuple(row[row >= 0].tolist()) for part, _ in batches for row in part)
    assert rows == sorted(tuple(row[:n].tolist()) for row, n in zip(items, lengths, strict=True))
    assert sorted(part.shape[1] for part, _ in batches) == [4, 5, 6]


def test_steps_hold_about_as_many_ratings_each() -> None:
    # 1 .. 8 ratings, each and one more: 44 in all, so 22 a part.
    assert _of_equal_sum(np.arange(1, 9, dtype=np.int32), 2) == [slice(0, 5), slice(5, 8)]
    rng = np.random.default_rng(0)
    for n, parts in ((4096, 32), (32, 32), (7, 3), (40, 1)):
        for lengths in (np.sort(rng.geometric(0.1, n)), np.zeros(n), np.array([0] * (n - 1) + [200])):
            found = _of_equal_sum(lengths.astype(np.int32), parts)
            assert len(found) == parts
            assert np.concatenate([np.arange(n)[part] for part in found]).tolist() == list(range(n))
            assert min(part.stop - part.start for part in found) >= 1
    lengths = np.sort(rng.geometric(0.1, 4096)).astype(np.int32)
    sums = [int((lengths[part] + 1).sum()) for part in _of_equal_sum(lengths, 32)]
    assert max(sums) < 1.2 * min(sums)


def test_validation_ndcg_by_hand() -> None:
    class Fixed(SASRec):
        """Ranks item i at place i for everyone."""

        def last_states(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(items), 1)

        def item_vectors(self) -> torch.Tensor:
            return -torch.arange(ITEMS, dtype=torch.float32)[:, None]

    histories = np.array([[0, 1], [5, -1]], dtype=np.int32)
    # User 0 has seen 0 and 1: item 3 is second of 2, 3, 4, ... User 1 holds out 0 (first) and a new item, 99.
    held = Judges(histories, np.array([2, 1], np.int32), np.array([0, 1, 1]), np.array([3, 0, 99]))
    user_0, user_1 = 1 / math.log2(3), 1 / (1 + 1 / math.log2(3))
    found = validation_ndcg(Worker(), Fixed(SHAPE), held, np.arange(ITEMS))
    assert found == pytest.approx((user_0 + user_1) / 2)
    # Without item 0 in the catalogue user 1 has no hit, and without 2 user 0's is the first.
    assert validation_ndcg(Worker(), Fixed(SHAPE), held, np.array([3, 4, 5])) == pytest.approx(0.5)
