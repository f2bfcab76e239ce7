"""Train one generator: epochs of steps, a checkpoint after each, resume, and a stop at the first sick loss.

Everything from outside is handed in: batches, where checkpoints go, who hears of progress.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.fills.generators.by_name import Training, new_training, training_seed
from ganrec_spark.fills.generators.cgan import Start
from ganrec_spark.fills.generators.collapse import WATCHED_ITEMS, generated, watch
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.training.checkpoints import Checkpoints
from ganrec_spark.training.resume import VALIDATION_NDCG, Parts, Trained, bytes_of, skip, state_of
from ganrec_spark.training.worker import Worker

# items int64 and weights float32, both [B, L], as in table user_rows.
Batch = tuple[torch.Tensor, torch.Tensor]

_COLLAPSE_USERS = 512


@dataclass(frozen=True)
class GeneratorPlan:
    """What to train, the same on every worker. `steps` per epoch are fixed by the driver: workers must not differ.

    `patience`: epochs without a better one after which training stops, where held-out items tell which is better.

    `settings` are the keys of configuration section generator that are numbers; `watched` are the profiles of a sample
    of users, watch_held_out [W, H] their held-out items, padded with -1, and the first of them are watched for
    collapse; `catalogue` the items with a training rating; `start` what cgan starts from. Of `half_lives`, by which the
    items of a profile fade when a trained generator reads it, the first judges epochs.
    """

    kind: str
    n_items: int
    epochs: int
    patience: int
    steps: int
    seed: int
    settings: dict[str, float]
    start: Start
    catalogue: NDArray[np.int64]
    watched: Profiles
    watch_held_out: NDArray[np.int32]
    half_lives: tuple[float | None, ...] = (None,)


@dataclass
class TrainedGenerator(Trained):
    """What came of it; by `half_life` the kept epoch ranks the watched users' held-out items best."""

    half_life: float | None = None


def train_generator(
    worker: Worker,
    plan: GeneratorPlan,
    batches: Iterator[Batch],
    checkpoints: Checkpoints,
    report: Callable[[int, dict[str, float]], None],
) -> TrainedGenerator:
    """Train by `plan` on an endless iterator of batches. What worker 0 returns counts: it alone knows earlier epochs.

    The epoch that ranks the watched users' held-out items best is kept, the start (epoch 0) among them; without such
    items the last one.

    A loss that is not finite ends the training with the last epoch that was sound; `stopped` says so. Raises
    TrainingError where there is none. Resumed, it ends in the same state as if it had never stopped, if the
    batches come in the same order again: finished epochs are skipped in them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training_seed(plan.seed, plan.kind, "start"))
        training = new_training(plan.kind, plan.n_items, plan.settings, plan.start, plan.seed, worker)
        result, parts = TrainedGenerator(), Parts(training.modules, training.optimizers)
        done = parts.resume(worker, checkpoints, result, plan.kind)
        skip(batches, done * plan.steps)
        first = plan.half_lives[0]
        if not done and (values := _judged(worker, plan, training, first)):
            _record(result, 0, values, training)
        sound = done
        for epoch in range(done + 1, plan.epochs + 1):
            torch.manual_seed(training_seed(plan.seed, plan.kind, epoch, worker.index))
            losses = _epoch(worker, plan, training, batches, epoch)
            if not all(math.isfinite(value) for value in losses.values()):
                result.stopped = f"loss not finite in epoch {epoch}; epoch {result.epoch} was kept"
                break
            values = losses | _watch(worker, plan, training) | _judged(worker, plan, training, first)
            _record(result, epoch, values, training)
            sound = epoch
            if worker.index == 0:
                checkpoints.save(parts.snapshot(epoch, result))
            report(epoch, values)
            waited = epoch - result.epoch if VALIDATION_NDCG in values else 0
            if worker.from_first(float(waited >= plan.patience), f"{plan.kind}.stop") and epoch < plan.epochs:
                result.stopped = f"no better epoch in {plan.patience} after epoch {result.epoch}"
                break
    if not sound:
        raise TrainingError(
            f"generator {plan.kind}: the loss was not finite in the first epoch, so there is nothing to keep; look for "
            "ratings that are not finite, or lower generator.learning_rate"
        )
    if worker.index == 0:
        training.generator.load_state_dict(state_of(result.state))
        result.half_life = _best_half_life(worker, plan, training)
    return result


def _best_half_life(worker: Worker, plan: GeneratorPlan, training: Training) -> float | None:
    """Return the best of the plan's half-lives by _judged; the first of equals, and where nobody can judge."""
    if len(plan.half_lives) == 1:
        return plan.half_lives[0]
    found = [_judged(worker, plan, training, half_life).get(VALIDATION_NDCG, 0.0) for half_life in plan.half_lives]
    return plan.half_lives[int(np.argmax(found))]


def _epoch(
    worker: Worker, plan: GeneratorPlan, training: Training, batches: Iterator[Batch], epoch: int
) -> dict[str, float]:
    """Take the epoch's steps; return the mean of each loss over steps and workers."""
    sums: defaultdict[str, float] = defaultdict(float)
    for module in training.modules.values():
        module.train()
    for step in range(plan.steps):
        items, weights = next(batches)
        progress = ((epoch - 1) * plan.steps + step) / (plan.epochs * plan.steps)
        for name, value in training.step(items.to(worker.device), weights.to(worker.device), progress).items():
            sums[name] += value / plan.steps
    return {name: worker.mean(value, f"{plan.kind}.{name}") for name, value in sums.items()}


def _watch(worker: Worker, plan: GeneratorPlan, training: Training) -> dict[str, float]:
    noise, few = _noise(plan, training), slice(_COLLAPSE_USERS)
    return watch(training.generator, plan.watched[few], plan.half_lives[0], plan.catalogue, noise[few], worker.device)


def _noise(plan: GeneratorPlan, training: Training) -> NDArray[np.float32]:
    rng = np.random.default_rng(training_seed(plan.seed, plan.kind, "watch"))
    return rng.standard_normal((len(plan.watched), training.generator.noise_size), dtype=np.float32)


def _judged(worker: Worker, plan: GeneratorPlan, training: Training, half_life: float | None) -> dict[str, float]:
    """Return validation_ndcg, NDCG@10 of the watched users' held-out items; nothing where there are none."""
    relevant = [np.sort(row[row >= 0]) for row in plan.watch_held_out]
    users = np.flatnonzero([len(row) > 0 for row in relevant])
    if not len(users):
        return {}
    noise = _noise(plan, training)[users]
    fills = generated(training.generator, plan.watched[users], half_life, plan.catalogue, noise, worker.device)
    held_out = [relevant[user] for user in users]
    hits = hit_matrix(fills, held_out, WATCHED_ITEMS)
    values = ndcg(hits, np.array([len(row) for row in held_out]), WATCHED_ITEMS)
    return {VALIDATION_NDCG: round(float(values.mean()), 10)}


def _record(result: TrainedGenerator, epoch: int, values: dict[str, float], training: Training) -> None:
    """Add an epoch to the history; keep its state unless an earlier one was better."""
    best = max(result.validated(), default=-math.inf)
    result.history += [(epoch, name, value) for name, value in values.items()]
    if values.get(VALIDATION_NDCG, math.inf) >= best:
        result.state, result.epoch = bytes_of(training.generator.state_dict()), epoch
