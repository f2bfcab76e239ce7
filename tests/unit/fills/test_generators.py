"""The generators in a world of two taste groups whose right answer is known, and the promises of their training."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganrec_spark.config.models import Generator as Settings
from ganrec_spark.errors import TrainingError
from ganrec_spark.fills.generators.by_name import load_generator, new_training
from ganrec_spark.fills.generators.cgan import Start, calibrated
from ganrec_spark.fills.generators.collapse import score_block, watch
from ganrec_spark.fills.generators.interactions import Profiles, dense, strengths
from ganrec_spark.fills.generators.sampled_softmax import places, sample_candidates
from ganrec_spark.fills.generators.training import Batch, GeneratorPlan, TrainedGenerator, train_generator
from ganrec_spark.fills.generators.vae import Vae
from ganrec_spark.training.checkpoints import Checkpoints
from ganrec_spark.training.worker import Worker

USERS, ITEMS, LENGTH = 200, 40, 10


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than these small products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def timeless(items: NDArray[np.int32], weights: NDArray[np.float32] | None = None) -> Profiles:
    """Profiles whose items were all rated at once."""
    return Profiles(items, np.ones(items.shape, np.float32) if weights is None else weights, np.zeros_like(items))


def world() -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Even users have items of 0-19, odd users of 20-39; every fourth user has only three."""
    rng = np.random.default_rng(3)
    items, weights = np.full((USERS, LENGTH), -1, np.int32), np.zeros((USERS, LENGTH), np.float32)
    for user in range(USERS):
        n = 3 if user % 4 < 2 else LENGTH
        items[user, :n] = rng.permutation(20)[:n] + 20 * (user % 2)
        weights[user, :n] = rng.integers(1, 6, n)
    return items, weights


START = Start(np.zeros((ITEMS, 8), np.float32), np.zeros(ITEMS, np.float32))


def plan(kind: str, epochs: int = 30, **changes: float) -> GeneratorPlan:
    items, weights = world()
    settings = {k: float(v) for k, v in Settings().model_dump().items() if isinstance(v, int | float)}
    settings |= {"learning_rate": 0.01, "cgan_embedding_size": 8, "vae_latent_size": 8, "vae_hidden_size": 32} | changes
    nobody = np.full((64, 0), -1, np.int32)
    watched = timeless(items[:64], weights[:64])
    return GeneratorPlan(kind, ITEMS, epochs, epochs, 4, 7, settings, START, np.arange(ITEMS), watched, nobody)


def batches(seed: int = 0, poisoned_from: int | None = None) -> Iterator[Batch]:
    items, weights = world()
    rng = np.random.default_rng(seed)
    for number in count():
        rows = rng.permutation(USERS)[:50]
        chosen = torch.from_numpy(weights[rows])
        if poisoned_from is not None and number >= poisoned_from:
            chosen[0, 0] = torch.nan
        yield torch.from_numpy(items[rows].astype(np.int64)), chosen


def train(a_plan: GeneratorPlan, checkpoints: Checkpoints | None = None, **how: int) -> TrainedGenerator:
    return train_generator(Worker(), a_plan, batches(**how), checkpoints or Checkpoints(), lambda epoch, values: None)


@pytest.mark.parametrize(("kind", "changes"), [("vae", {}), ("cgan", {}), ("cgan", {"cgan_critic_weight": 0.0})])
def test_sparse_users_are_filled_from_their_own_taste_group(kind: str, changes: dict[str, float]) -> None:
    a_plan = plan(kind, **changes)
    items, weights = world()
    generator = load_generator(kind, ITEMS, a_plan.settings, train(a_plan).state)
    noise = np.random.default_rng(0).standard_normal((USERS, generator.noise_size), dtype=np.float32)
    scores = score_block(generator, timeless(items, weights), None, noise, torch.device("cpu"))
    for user in range(USERS):
        scores[user, items[user][items[user] >= 0]] = -np.inf
    best = scores.argsort(axis=1)[:, ::-1][:, :5]
    sparse = np.arange(USERS) % 4 < 2
    own_group = (best >= 20) == (np.arange(USERS) % 2 == 1)[:, None]
    assert own_group[sparse].mean() > 0.95


def test_critic_changes_the_generator_but_not_the_random_draws() -> None:
    """A critic whose weight vanishes leaves the reconstruction as it was: it consumes no shared random numbers."""
    runs = [train(plan("cgan", 3, cgan_critic_weight=weight)) for weight in (1e-12, 0.0, 1.0)]
    losses = [[v for _, name, v in run.history if name == "reconstruction"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[2] != pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("kind", ["agn", "vae", "cgan"])
def test_a_poisoned_batch_stops_with_the_last_good_epoch(kind: str) -> None:
    sick = train(plan(kind, 4), poisoned_from=9)  # four steps an epoch: the third epoch is the first sick one
    assert sick.stopped == "loss not finite in epoch 3; epoch 2 was kept"
    assert max(epoch for epoch, _, _ in sick.history) == 2
    state = torch.load(io.BytesIO(sick.state), weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def test_a_first_epoch_that_is_poisoned_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"generator vae: .*first epoch"):
        train(plan("vae", 2), poisoned_from=0)


@pytest.mark.parametrize("kind", ["agn", "vae", "cgan"])
def test_killed_and_resumed_ends_as_if_never_stopped(kind: str) -> None:
    saved: list[bytes] = []
    whole = train(plan(kind, 4), Checkpoints(save=saved.append))
    resumed = train(plan(kind, 4), Checkpoints(load=lambda: saved[1]))
    assert resumed.history == whole.history
    assert resumed.state == whole.state
    finished = train(plan(kind, 4), Checkpoints(load=lambda: saved[3]))
    assert finished.state == whole.state


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(plan("vae", 1))
    assert torch.equal(torch.rand(1), expected)


def test_shown_profiles_are_short_and_always_hide_something() -> None:
    torch.manual_seed(0)
    training = new_training("cgan", ITEMS, plan("cgan").settings, START, 1, Worker())
    items = torch.arange(20).repeat(2000, 1)
    shown: Tensor = training.hide(items)  # type: ignore[union-attr]
    sizes = shown.sum(dim=1).float()
    # Half cut to 3 on average, half 19 of 20, and of both half is dropped: (3 + 19) / 4 = 5.5.
    assert sizes.mean().item() == pytest.approx(5.5, abs=0.3)
    assert sizes.max() <= 19
    one_item = torch.full((50, 20), -1).index_fill_(1, torch.tensor([0]), 5)
    assert not training.hide(one_item).any()  # type: ignore[union-attr]


def test_als_start_scores_the_neighbours_of_the_profile_first() -> None:
    """Vectors of two orthogonal groups: a profile of the first group must rank that group first, untrained."""
    vectors = np.zeros((ITEMS, 8), np.float32)
    vectors[:20, 0] = vectors[20:, 1] = np.linspace(0.5, 1.0, 20)
    start = Start(vectors, np.zeros(ITEMS, np.float32))
    training = new_training("cgan", ITEMS, plan("cgan").settings, start, 1, Worker())
    items = np.array([[0, 1, -1], [25, 30, 39]], np.int32)
    noise = np.zeros((2, training.generator.noise_size), np.float32)
    scores = score_block(training.generator, timeless(items), None, noise, torch.device("cpu"))
    assert set(scores[0].argsort()[::-1][:20]) == set(range(20))
    assert set(scores[1].argsort()[::-1][:20]) == set(range(20, 40))


def test_calibration_finds_the_likeliest_scale_and_popularity() -> None:
    """Against a grid of both numbers, by a second implementation of the start's likelihood."""
    rng = np.random.default_rng(2)
    items, _ = world()
    held_out = (rng.integers(0, 20, (USERS, 2)) + 20 * (np.arange(USERS) % 2)[:, None]).astype(np.int32)
    held_out[::3, 1] = -1
    held_out[0] = items[0, 0]  # seen: says nothing
    counts = np.bincount(items[items >= 0], minlength=ITEMS).astype(np.float32)
    start = Start(rng.standard_normal((ITEMS, 6)).astype(np.float32) + np.arange(ITEMS)[:, None] // 20, counts)
    y = start.vectors.astype(float)
    gram = y.T @ y
    projection = y @ np.linalg.inv(gram + np.eye(6) * np.trace(gram) / 6) @ y.T

    def likelihood(scale: float, popularity: float) -> float:
        total, n = 0.0, 0
        for row, targets in zip(items, held_out, strict=True):
            own = row[row >= 0]
            logits = scale * projection[own].sum(axis=0) / np.sqrt(len(own)) + popularity * np.log1p(counts)
            logits[own] = -np.inf
            for target in set(targets[targets >= 0].tolist()) - set(own.tolist()):
                repeated = (targets == target).sum()
                total, n = total + repeated * (logits[target] - np.log(np.exp(logits).sum())), n + repeated
        return total / n

    found = calibrated(start, timeless(items), None, held_out)
    best = likelihood(found.scale, found.popularity)
    assert best > likelihood(start.scale, start.popularity) + 0.01
    for factor, change in ((1.1, 0.0), (0.9, 0.0), (1.0, 0.05), (1.0, -0.05)):
        assert best > likelihood(found.scale * factor, found.popularity + change)
    assert calibrated(start, timeless(items), None, np.full((USERS, 0), -1, np.int32)) is start


def test_calibration_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    """It runs in the driver, where nobody removes what an optimizer of PyTorch leaves; in a process of its own here."""
    code = (
        "import numpy as np; from ganrec_spark.fills.generators.cgan import Start, calibrated; "
        "from ganrec_spark.fills.generators.interactions import Profiles; rng = np.random.default_rng(0); "
        "start = Start(rng.normal(size=(9, 4)).astype(np.float32), np.ones(9, np.float32)); "
        "items = np.array([[0, 1], [2, 3]], np.int32); "
        "watched = Profiles(items, np.ones((2, 2), np.float32), np.zeros_like(items)); "
        "assert calibrated(start, watched, None, np.array([[4], [5]], np.int32)) is not start"
    )
    surroundings = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    surroundings["TMPDIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], check=True, env=surroundings, timeout=120)
    assert list(tmp_path.iterdir()) == []


def test_the_epoch_that_validation_prefers_is_kept() -> None:
    items, _ = world()
    unseen = [np.setdiff1d(np.arange(20) + 20 * (user % 2), items[user])[:2] for user in range(64)]
    held_out = np.array([np.append(own, -1) for own in unseen], np.int32)
    learnt = train(replace(plan("cgan"), watch_held_out=held_out))
    judged = {epoch: value for epoch, name, value in learnt.history if name == "validation_ndcg"}
    assert list(judged) == list(range(31))
    assert judged[learnt.epoch] == max(judged.values()) > judged[0] + 0.1
    # From a start that knows the groups, steps as long as these lead away: nothing after it is kept.
    vectors = np.zeros((ITEMS, 8), np.float32)
    vectors[:20, 0] = vectors[20:, 1] = 1.0
    popular = np.zeros(ITEMS, np.float32)
    popular[held_out[held_out >= 0]] = 5.0
    start = Start(vectors, popular, 50.0, 1.0)
    spoilt = train(replace(plan("cgan", 3, learning_rate=3.0), watch_held_out=held_out, start=start))
    assert spoilt.epoch == 0
    assert spoilt.stopped == "all epochs done"
    impatient = replace(plan("cgan", 30, learning_rate=3.0), watch_held_out=held_out, start=start, patience=2)
    stopped = train(impatient)
    assert stopped.stopped == "no better epoch in 2 after epoch 0"
    assert max(epoch for epoch, _, _ in stopped.history) == 2
    assert stopped.state == spoilt.state
    # Where nothing is held out nobody knows what is better: no stop.
    assert train(replace(plan("cgan", 4), patience=1)).stopped == "all epochs done"
    state = torch.load(io.BytesIO(spoilt.state), weights_only=True)
    assert torch.equal(state["item_bias"], torch.from_numpy(np.log1p(popular)))


def test_recency_halves_with_every_half_life() -> None:
    profiles = Profiles(
        *(np.zeros((1, 4), kind) for kind in (np.int32, np.float32)), np.array([[0, 2, 4, 6]], np.int32)
    )
    assert profiles.recency(2.0).tolist() == [[1.0, 0.5, 0.25, 0.125]]
    assert profiles.recency(None).tolist() == [[1.0] * 4]


@pytest.mark.parametrize("kind", ["vae", "cgan"])
def test_half_life_that_validation_prefers_where_tastes_change(kind: str) -> None:
    """Profiles hold two new items of the group that is held out, and eight old ones of the other group."""
    rng = np.random.default_rng(6)
    mine = [rng.permutation(20) + 20 * (user % 2) for user in range(64)]
    others = [rng.permutation(20) + 20 * (1 - user % 2) for user in range(64)]
    items = np.array([[*old[:8], *new[:2]] for old, new in zip(others, mine, strict=True)], np.int32)
    held_out = np.array([new[2:6] for new in mine], np.int32)
    watched = replace(timeless(items), ages=np.tile(np.array([2] * 8 + [0] * 2, np.int32), (64, 1)))
    fading = replace(plan(kind), watched=watched, watch_held_out=held_out, half_lives=(1.0, None, 0.25))
    learnt = train(fading)
    assert learnt.half_life == 0.25
    generator = load_generator(kind, ITEMS, fading.settings, learnt.state)
    noise = np.zeros((64, generator.noise_size), np.float32)
    share = {}
    for half_life in (None, 0.25):
        scores = score_block(generator, watched, half_life, noise, torch.device("cpu"))
        np.put_along_axis(scores, items.astype(int), -np.inf, axis=1)
        share[half_life] = ((scores.argmax(axis=1) >= 20) == (np.arange(64) % 2 == 1)).mean()
    assert share[0.25] > 0.85
    assert share[None] < 0.5
    # agn and data without times have one half-life; where nobody can judge it is the first.
    assert train(replace(fading, half_lives=(100.0,))).half_life == 100.0
    assert train(replace(fading, watch_held_out=np.full((64, 0), -1, np.int32), epochs=1)).half_life == 1.0


@pytest.mark.parametrize("kind", ["vae", "cgan"])
def test_sampled_softmax_learns_the_groups_too(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("ganrec_spark.fills.generators.sampled_softmax.FULL_SOFTMAX_ITEMS", 10)
    a_plan = plan(kind, 30, negatives=10)
    items, weights = world()
    generator = load_generator(kind, ITEMS, a_plan.settings, train(a_plan).state)
    noise = np.zeros((USERS, generator.noise_size), np.float32)
    scores = score_block(generator, timeless(items, weights), None, noise, torch.device("cpu"))
    assert ((scores.argmax(axis=1) >= 20) == (np.arange(USERS) % 2 == 1)).mean() > 0.95


def test_candidates_are_targets_and_negatives_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    items = torch.tensor([[9, 4, -1], [7, 4, 2]])
    assert sample_candidates(items, items >= 0, 20, negatives=1) is None
    monkeypatch.setattr("ganrec_spark.fills.generators.sampled_softmax.FULL_SOFTMAX_ITEMS", 10)
    targets = torch.tensor([[True, True, False], [True, True, False]])
    candidates = sample_candidates(items, targets, 20, negatives=3)
    assert candidates is not None
    assert {4, 7, 9} <= set(candidates.tolist())
    assert candidates.tolist() == sorted(set(candidates.tolist()))
    assert len(candidates) <= 6
    columns, found = places(items, torch.tensor([4, 7, 9]))
    assert found.tolist() == [[True, True, False], [True, True, False]]
    assert columns[found].tolist() == [2, 0, 1, 0]


def test_the_vaes_loss_over_candidates_is_that_over_all_items_if_all_are_candidates() -> None:
    items, weights = (torch.from_numpy(array[:8]) for array in world())
    training = new_training("vae", ITEMS, plan("vae").settings, START, 1, Worker())
    network = training.generator
    with torch.random.fork_rng():
        torch.manual_seed(3)
        logits, _, _ = network(items.long(), strengths(items, weights))
        x = dense(items.long(), strengths(items, weights), ITEMS)
        expected = -(x * torch.log_softmax(logits, dim=1)).sum(dim=1).mean().item()
        torch.manual_seed(3)
        among, _, _ = network(items.long(), strengths(items, weights), torch.arange(ITEMS))
        assert torch.allclose(among, logits, atol=1e-6)
        torch.manual_seed(3)
        found = training.step(items.long(), weights, progress=0.0)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("progress", "annealed"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_the_vaes_loss_holds_beta_times_the_kl_worked_by_hand(progress: float, annealed: float) -> None:
    """KL of N(mu, sigma^2) from N(0, 1) is (mu^2 + sigma^2 - log sigma^2 - 1) / 2, summed over the latent places.

    An encoder of nothing but its bias says mu = (1, -2), sigma^2 = (1, 4) of everyone: 1/2 + (7 - ln 4) / 2 by hand.
    """
    items, weights = (torch.from_numpy(array[:8]) for array in world())
    steps = {}
    for beta in (0.0, 0.3):
        settings = plan("vae", vae_latent_size=2, vae_beta=beta).settings
        with torch.random.fork_rng():
            torch.manual_seed(3)
            training = new_training("vae", ITEMS, settings, START, 1, Worker())
            assert isinstance(training.generator, Vae)
            torch.nn.init.zeros_(training.generator.encoder[-1].weight)
            training.generator.encoder[-1].bias.data = torch.tensor([1.0, -2.0, 0.0, np.log(4.0)]).float()
            steps[beta] = training.step(items.long(), weights, progress)
    by_hand = 0.5 + (7 - np.log(4.0)) / 2
    assert steps[0.3]["kl"] == pytest.approx(by_hand, rel=1e-5)
    assert steps[0.3]["loss"] - steps[0.0]["loss"] == pytest.approx(0.3 * annealed * by_hand, abs=1e-4)


def test_strengths_and_dense_by_hand() -> None:
    items, weights = torch.tensor([[2, 0, -1], [7, 1, -1]]), torch.tensor([[4.0, 1.0, 0.0], [2.0, -3.0, 0.0]])
    values = strengths(items, weights)
    assert values.tolist() == [[1.0, 0.25, 0.0], [1.0, 0.0, 0.0]]
    assert dense(items, values, 4).tolist() == [[0.25, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_watch_tells_one_list_for_all_from_lists_of_their_own() -> None:
    class Constant(torch.nn.Module):
        def score(self, items: Tensor, weights: Tensor, recency: Tensor, noise: Tensor) -> Tensor:
            return torch.arange(ITEMS).float().repeat(len(items), 1)

    items, weights = world()
    noise = np.zeros((USERS, 0), np.float32)
    values = watch(Constant(), timeless(items, weights), None, np.arange(30), noise, torch.device("cpu"))  # type: ignore[arg-type]
    # Of the 30 allowed items the ten highest unseen ones: at most ten places plus the ten that a user may hold.
    assert values["distinct_items"] <= 20
    assert values["distinct_share"] == pytest.approx(values["distinct_items"] / 30)
    assert values["gini_generated"] > values["gini_observed"]
