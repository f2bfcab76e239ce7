"""Train the plans on workers, going on from a killed run's checkpoints, and write down what came of it."""

import hashlib
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ganrec_spark.config.cluster import Reader
from ganrec_spark.recommenders.transformer.plans import BEST_EPOCH
from ganrec_spark.recommenders.transformer.training import SasRecPlan, TrainedSasRec, train_sasrec
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import checkpoint_rows, file_checkpoints
from ganrec_spark.training.launcher import train_distributed
from ganrec_spark.training.reader import read_batches
from ganrec_spark.training.scalars import scalars
from ganrec_spark.training.worker import Worker, share


def train(context: Context, plans: list[SasRecPlan]) -> list[TrainedSasRec]:
    """Train on the workers; where a killed run left checkpoints of the same trainings, go on from there."""
    urls = context.lake.data_files("user_sequences")
    # Named by all that the result follows from: another training must not resume from it.
    versions = [
        hashlib.sha256(repr((_fingerprint(plan), urls, n_workers(context))).encode()).hexdigest()[:12] for plan in plans
    ]
    results: dict[str, Any] = train_distributed(
        context.spark,
        fit,
        context.config.distributed.model_copy(update={"workers": n_workers(context)}),
        n_models=len(plans),
        plans=plans,
        urls=urls,
        checkpoint_dir=checkpoint_dir_of(context),
        checkpoints=[f"sasrec-{version}.pt" for version in versions],
        tensorboard_dir=f"{context.work_dir}/tensorboard",
        reader=context.config.distributed.reader,
    )
    return [TrainedSasRec(**results[plan.name]) for plan in plans]


def fit(
    worker: Worker,
    plans: list[SasRecPlan],
    urls: list[str],
    checkpoint_dir: str,
    checkpoints: list[str],
    tensorboard_dir: str,
    reader: Reader = "petastorm",
) -> dict[str, object]:
    """Be one training worker: train this worker's models alone, or its shard of every model's batches."""
    trainer, own = share(worker, len(plans))
    results: dict[str, object] = {}
    for number in own:
        plan, files = plans[number], file_checkpoints(checkpoint_dir, checkpoints[number], trainer.warn)
        rows, seed = max(1, plan.batch_size // trainer.count), plan.seed % 2**31
        with (
            scalars(trainer, f"{tensorboard_dir}/{plan.name}") as show,
            read_batches(urls, ["items", "length"], rows, trainer.index, trainer.count, seed, reader) as batches,
        ):
            trained = train_sasrec(
                trainer,
                plan,
                ((batch["items"], batch["length"]) for batch in batches),
                files,
                show,
            )
        results[plan.name] = asdict(trained)
    return results if trainer.index == 0 else {}


def checkpoint_dir_of(context: Context) -> str:
    """Return where the phase's trainings keep their checkpoints while they go on."""
    return f"{context.work_dir}/checkpoints"


def write_training(context: Context, plans: list[SasRecPlan], trained: list[TrainedSasRec]) -> None:
    """Write the checkpoints in chunks with their cards, and the histories with the epochs that were kept."""
    chunks: list[tuple[object, ...]] = []
    values: list[tuple[object, ...]] = []
    for plan, model in zip(plans, trained, strict=True):
        version = hashlib.sha256(model.state).hexdigest()[:12]
        card = {
            "model": plan.name,
            "shape": plan.shape.as_dict(),
            "settings": context.config.transformer.model_dump(mode="json"),
            "workers": n_workers(context),
            "batch_size": plan.batch_size,
            "steps_per_epoch": plan.steps,
            "adversary_radius": plan.adversary_radius,
            "item_start": plan.item_start,
            "start": hashlib.sha256(plan.start).hexdigest()[:12] if plan.start else None,
            "base_run_id": plan.base_run_id,
            "reference": plan.reference or max(model.validated(), default=0.0),
            "epoch": model.epoch,
            "stopped": model.stopped,
        }
        chunks += [(version, *row) for row in checkpoint_rows(card, model.state)]
        values += [(plan.name, epoch, name, value) for epoch, name, value in model.history]
        if not model.given_up:
            values.append((plan.name, model.epoch, BEST_EPOCH, float(model.epoch)))
    context.lake.write("transformer_checkpoints", context.lake.frame("transformer_checkpoints", chunks))
    context.lake.write("transformer_history", context.lake.frame("transformer_history", values))


def n_workers(context: Context) -> int:
    """Return the number of workers: each needs a file of its own, and few users fill few files."""
    return max(1, min(context.config.distributed.workers, len(context.lake.data_files("user_sequences"))))


def _fingerprint(plan: SasRecPlan) -> str:
    small = replace(plan, judges=None, catalogue=np.zeros(0, np.int64), start=b"", item_vectors=None)
    digest = hashlib.sha256(repr(small).encode())
    digest.update(plan.catalogue.tobytes())
    if plan.item_vectors is not None:
        digest.update(plan.item_vectors.tobytes())
    digest.update(plan.start)
    if plan.judges is not None:
        for array in (plan.judges.items, plan.judges.lengths, plan.judges.held_rows, plan.judges.held_items):
            digest.update(array.tobytes())
    return digest.hexdigest()
