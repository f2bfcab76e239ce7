"""Train a SASRec: length-bucketed epochs, early stop on validation NDCG@10, a checkpoint an epoch, resume.

What is judged and kept is a running mean of the weights, in which step t weighs about as t^averaging (polynomial-decay
averaging: Shamir & Zhang, ICML 2013): it lacks the noise of the last steps, whatever their number.
Everything from outside is handed in: batches, where checkpoints go, who hears of progress.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.recommenders.transformer.network import SASRec, Shape, next_item_loss
from ganrec_spark.recommenders.transformer.steps import MOST_POWER, RowSteps, Steps, adam, mean_of
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from ganrec_spark.training.resume import VALIDATION_NDCG, Parts, Trained, bytes_of, skip, state_of
from ganrec_spark.training.worker import Worker

# items int32 [B, L], oldest first and padded behind with -1, and lengths int32 [B], as in table user_sequences.
Batch = tuple[torch.Tensor, torch.Tensor]

_CHUNK = 32
_BLOCK, _CELLS = 256, 2**25  # users, and their scores, at a time at most


@dataclass(frozen=True)
class Judges:
    """Validation users: histories [V, L] and lengths [V], and their held-out items as pairs (row, item)."""

    items: NDArray[np.int32]
    lengths: NDArray[np.int32]
    held_rows: NDArray[np.int64]
    held_items: NDArray[np.int64]


@dataclass(frozen=True)
class SasRecPlan:
    """What to train, the same on every worker. `steps` per epoch are fixed by the driver: workers must not differ.

    A step has `batch_size` users, of all workers together. `catalogue` holds the items that may be negatives and be
    ranked. Without `judges` all `epochs` are trained; with them training that stops below `floor`, an NDCG@10 that
    anything should reach, is given up, at the latest after twice the patience.
    With `averaging` 0 every step weighs the same. `adversary_radius`: see `next_item_loss`. `start` is the state dict
    that training goes on from, see `SASRec.start_from`; random weights if empty, to which `item_vectors` [I, D] are
    added, those of item_starts for the length `item_start`. Where the state is an earlier run's: `base_run_id`, and
    `reference`, the validation NDCG@10 that this network had when it was last trained anew.
    """

    shape: Shape
    epochs: int
    steps: int
    batch_size: int
    seed: int
    learning_rate: float
    negatives: int
    gradient_clip: float
    averaging: float
    catalogue: NDArray[np.int64]
    judges: Judges | None = None
    validate_every: int = 1
    patience: int = 1
    min_gain: float = 0.0
    floor: float = 0.0
    adversary_radius: float = 0.0
    start: bytes = b""
    item_start: float = 0.0
    item_vectors: NDArray[np.float32] | None = None
    base_run_id: str | None = None
    reference: float = 0.0
    name: str = "sasrec"


@dataclass
class TrainedSasRec(Trained):
    """What came of it; `given_up`: it stayed below the plan's floor."""

    given_up: bool = False
    seconds_per_epoch: float = 0.0


def train_sasrec(
    worker: Worker,
    plan: SasRecPlan,
    batches: Iterator[Batch],
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    report: Callable[[int, dict[str, float]], None] = lambda epoch, values: None,
) -> TrainedSasRec:
    """Train by `plan` on an endless iterator of batches; worker 0's result is the one to keep.

    With judges the state of the best validation is kept, and training ends after `patience` validations without one
    that is better by `min_gain` of it. A loss that is not finite ends it with the last sound state; TrainingError
    where there is none. Resumed from the last checkpoint, it ends in the same state as if it had never stopped, if
    the batches come in the same order again. Worker 0 alone saves and reports.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_seed(plan.seed, "sasrec", "start"))
        model = SASRec(plan.shape).to(worker.device)
        if plan.start:
            model.start_from(state_of(plan.start, worker.device))
        elif plan.item_vectors is not None:
            with torch.no_grad():
                model.item_vectors().add_(torch.from_numpy(plan.item_vectors).to(worker.device))
        mean = mean_of(model, plan.averaging)
        averaged = cast(SASRec, mean.module)
        optimizer = worker.wrap(adam(model, plan.learning_rate), model, "sasrec")
        result, parts = TrainedSasRec(), Parts({"model": model, "mean": mean}, {"adam": optimizer})
        done = parts.resume(worker, checkpoints, result, "sasrec")
        trained = worker, model, mean, optimizer, plan.gradient_clip
        # Gradients are averaged over workers by the whole table.
        by_row = worker.count == 1 and plan.averaging <= MOST_POWER
        steps = RowSteps(*trained, plan.epochs * plan.steps, plan.averaging) if by_row else Steps(*trained)
        skip(batches, done * plan.steps)
        started = time.monotonic()
        for epoch in range(done + 1, plan.epochs + 1):
            # Worker 0 decides: after a resume it alone knows the history.
            if worker.from_first(float(_out_of_patience(plan, result)), "stop"):
                result.given_up = bool(worker.from_first(float(_best(result) < plan.floor), "give up"))
                better = f"than popularity's {plan.floor:.4f}" if result.given_up else f"in {plan.patience} validations"
                result.stopped = f"no better NDCG@{JUDGED_K} {better}"
                break
            values = {"loss": _epoch(worker, plan, model, steps, batches, epoch)}
            if not math.isfinite(values["loss"]):
                result.stopped = f"loss not finite in epoch {epoch}; epoch {result.epoch} was kept"
                break
            if plan.judges is not None and (epoch % plan.validate_every == 0 or epoch == plan.epochs):
                values[VALIDATION_NDCG] = validation_ndcg(worker, averaged, plan.judges, plan.catalogue)
            _keep(averaged, plan, result, epoch, values)
            result.seconds_per_epoch = (time.monotonic() - started) / (epoch - done)
            if worker.index == 0:
                checkpoints.save(parts.snapshot(epoch, result))
                report(epoch, values)
                _log(worker, plan, epoch, values, result.seconds_per_epoch)
    if worker.index == 0 and not result.state:
        raise TrainingError(
            "transformer: the loss was not finite in the first epoch, so there is nothing to keep; lower "
            "transformer.learning_rate or transformer.gradient_clip"
        )
    return result


def validation_ndcg(worker: Worker, model: SASRec, judges: Judges, catalogue: NDArray[np.int64]) -> float:
    """Return NDCG@10 over the judges, each worker ranking the whole catalogue for its share of them.

    Items of the history that the model reads are excluded; of a longer history the older ones are not, so the value
    serves to compare epochs. Gains are binary, the ideal list has min(10, held-out items) hits.
    """
    model.eval()
    n_items = model.shape.n_items
    allowed = torch.full((n_items,), float("-inf"), device=worker.device)
    allowed[torch.from_numpy(catalogue).to(worker.device)] = 0
    # Held-out items may be new, with indices beyond the item axis.
    stride = max(n_items, int(judges.held_items.max()) + 1)
    held = np.unique(judges.held_rows * stride + judges.held_items)
    n_held = np.bincount(held // stride, minlength=len(judges.items))
    discounts = 1 / np.log2(np.arange(JUDGED_K) + 2)
    ideal = np.concatenate([[np.inf], np.cumsum(discounts)])[np.minimum(n_held, JUDGED_K)]
    total = 0.0
    # By length, so that blocks have little padding.
    own = np.argsort(judges.lengths, kind="stable")[worker.index :: worker.count]
    size = max(1, min(_BLOCK, _CELLS // n_items))
    for start in range(0, len(own), size):
        rows = own[start : start + size]
        longest = max(int(judges.lengths[rows].max()), 1)
        items = torch.from_numpy(judges.items[rows, :longest]).to(worker.device)
        lengths = torch.from_numpy(judges.lengths[rows]).to(worker.device)
        with torch.no_grad():
            scores = model.last_states(items, lengths) @ model.item_vectors().T + allowed
        seen = torch.where(items >= 0, items, items[:, :1]).long()
        best = scores.scatter(1, seen, float("-inf")).topk(min(JUDGED_K, n_items), dim=1).indices.cpu().numpy()
        hits = np.isin(rows[:, None] * stride + best, held)
        total += float((hits @ discounts[: best.shape[1]] / ideal[rows]).sum())
    return worker.mean(total * worker.count / len(judges.items), VALIDATION_NDCG)


def _epoch(
    worker: Worker,
    plan: SasRecPlan,
    model: SASRec,
    steps: Steps,
    batches: Iterator[Batch],
    epoch: int,
) -> float:
    """Take the epoch's steps; return the mean loss over steps and workers."""
    model.train()
    torch.manual_seed(stable_seed(plan.seed, "sasrec", epoch, worker.index))
    catalogue = torch.from_numpy(plan.catalogue)
    total = 0.0
    for items, lengths in _bucketed(batches, plan.steps, stable_seed(plan.seed, "order", epoch)):
        drawn = torch.randint(len(catalogue), (min(plan.negatives, len(catalogue)),)).unique()
        negatives = catalogue[drawn].to(worker.device)
        batch = items.to(worker.device), lengths.to(worker.device)
        loss = next_item_loss(model, steps.look_up, *batch, negatives, plan.adversary_radius)
        steps.take(loss)
        total += float(loss.detach())
    steps.settle()
    return worker.mean(total / plan.steps, "loss")


def _bucketed(batches: Iterator[Batch], steps: int, seed: int) -> Iterator[Batch]:
    """Yield the users of `steps` batches in as many of similar lengths, each of about as many ratings.

    Little padding is left, and no step waits for a few long histories. Workers draw the same order of lengths, so that
    in each step none waits for one with much longer histories.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, steps, _CHUNK):
        chunk = list(islice(batches, min(_CHUNK, steps - start)))
        items, lengths = (torch.cat([batch[part] for batch in chunk]) for part in (0, 1))
        order = torch.argsort(lengths, stable=True)
        parts = _of_equal_sum(lengths[order].numpy(), len(chunk))
        for index in rng.permutation(len(parts)):
            rows = order[parts[index]]
            longest = max(int(lengths[rows].max()), 1)
            yield items[rows, :longest], lengths[rows]


def _of_equal_sum(values: NDArray[np.int32], n: int) -> list[slice]:
    """Return n slices, none empty, that cut `values` into parts of about equal sum; at least n values are needed."""
    share = np.cumsum(values + 1.0) / (values + 1.0).sum()  # + 1: empty histories count, too
    cuts = np.searchsorted(share, np.arange(1, n) / n)
    # Each part keeps at least one value, on its own side and on the other.
    cuts = np.maximum.accumulate(np.maximum(cuts, 1) - np.arange(n - 1)) + np.arange(n - 1)
    cuts = np.minimum(cuts, len(values) - n + 1 + np.arange(n - 1))
    return [slice(int(a), int(b)) for a, b in itertools.pairwise([0, *cuts, len(values)])]


def _keep(
    model: torch.nn.Module, plan: SasRecPlan, result: TrainedSasRec, epoch: int, values: dict[str, float]
) -> None:
    best = max(result.validated(), default=-1.0)
    result.history += [(epoch, name, value) for name, value in values.items()]
    if plan.judges is None or values.get(VALIDATION_NDCG, -1.0) > best or not result.state:
        result.state, result.epoch = bytes_of(model.state_dict()), epoch


def _out_of_patience(plan: SasRecPlan, result: TrainedSasRec) -> bool:
    """Return whether to stop: no better validation for the patience, or none above the floor for twice as many.

    For patience a validation is better if it exceeds the last better one by `min_gain` of it.
    """
    validated = result.validated()
    better, stale = -1.0, 0
    for value in validated:
        if value > better + plan.min_gain * max(better, 0.0):
            better, stale = value, 0
        else:
            stale += 1
    hopeless = len(validated) >= 2 * plan.patience and _best(result) < plan.floor
    return plan.judges is not None and (stale >= plan.patience or hopeless)


def _best(result: TrainedSasRec) -> float:
    return max(result.validated(), default=0.0)


def _log(worker: Worker, plan: SasRecPlan, epoch: int, values: dict[str, float], seconds: float) -> None:
    if epoch == 1 or epoch % max(plan.validate_every, 3) == 0 or epoch == plan.epochs:
        text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        worker.log(f"{plan.name}: epoch {epoch}/{plan.epochs}: {text}, {seconds:.1f} s an epoch")
