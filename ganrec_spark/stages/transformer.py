"""Train SASRecs of several seeds on the users' sequences; rank the whole catalogue for every user by their mean."""

import hashlib
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.context import Context
from ganrec_spark.distributed.checkpoint_files import delete_checkpoints, file_checkpoints
from ganrec_spark.distributed.launcher import train_distributed
from ganrec_spark.distributed.ranking import Score, histories, lists, rank_catalogue
from ganrec_spark.distributed.reader import read_batches
from ganrec_spark.distributed.ship import Shipped, ship
from ganrec_spark.draws import drawn
from ganrec_spark.fills import NONE
from ganrec_spark.models.sasrec import SASRec, Shape
from ganrec_spark.models.sasrec_training import Judges, Plan, train_sasrec
from ganrec_spark.models.worker import Worker, share
from ganrec_spark.ranking.metrics import hit_matrix, ndcg
from ganrec_spark.seeding import stable_seed

_CHUNK_BYTES = 16 * 1024 * 1024
_K = 10
_FEWEST_USERS = 16  # a step on fewer costs as much
_BEST_EPOCH = "best_epoch"
_RADIUS_GAIN = 0.02  # of validation NDCG@10, by a radius after the first: against an adversary training takes longer
_SCORERS: dict[tuple[str, ...], list[SASRec]] = {}


@dataclass(frozen=True)
class Trained:
    """What the workers hand back: see models.sasrec_training.Trained."""

    state: bytes
    epoch: int
    history: list[tuple[int, str, float]]
    stopped: str
    given_up: bool
    seconds_per_epoch: float


def run(context: Context) -> str:
    """Write transformer_checkpoints, transformer_history and transformer_candidates of the phase.

    Phase choose stops early on validation NDCG@10; phase final trains as many epochs on the longer sequences or, where
    these are hardly longer, goes on from phase choose. Models that were given up in phase choose rank nothing.
    """
    sequences, ratings = context.lake.read("user_sequences"), _observed(context)
    plans = make_plans(context, sequences, ratings)
    trained = train(context, plans) if plans else []
    write_training(context, plans, trained)
    states = [model.state for model in trained if not model.given_up]
    if states:
        ranked = candidates(context, plans[0], states, sequences, ratings)
    else:
        ranked = context.lake.frame("transformer_candidates", [])
    n_lists = context.lake.write("transformer_candidates", ranked)
    delete_checkpoints(_checkpoint_dir(context))
    if not trained:
        return f"no candidates; not trained: {_why_not(context)}"
    return f"lists for {n_lists} users; {'; '.join(map(_told, plans, trained))} on {_workers(context)} workers"


def _why_not(context: Context) -> str:
    known = context.phase == "final" and context.lake.read("transformer_history", phase="choose").limit(1).count()
    return "phase choose gave up" if known else "no user has two items in sequence"


def _told(plan: Plan, model: Trained) -> str:
    ndcg = max((value for _, name, value in model.history if name == "validation_ndcg"), default=None)
    judged = "" if ndcg is None else f", validation NDCG@10 {ndcg:.4f}"
    start = "gone on from phase choose, " if plan.start else ""
    settled = f"{start}adversary radius {plan.adversary_radius:g}, {model.epoch} epochs kept{judged} ({model.stopped})"
    return f"{settled}, {model.seconds_per_epoch:.1f} s an epoch"


def _observed(context: Context) -> DataFrame:
    train = context.lake.read("train_ratings")
    return train if context.phase == "choose" else train.unionByName(context.lake.read("validation_ratings"))


def make_plans(context: Context, sequences: DataFrame, ratings: DataFrame) -> list[Plan]:
    """Return what to train: plans that differ in their seed, in phase choose also in their adversary's radius.

    Phase final takes the radius that was best in phase choose; where validation ratings add little, it goes on from the
    weights of phase choose. No plans where no user has a next item to learn from.
    """
    config = context.config.transformer
    counted = (F.count("*").alias("users"), F.max("length").alias("longest"), F.avg("length").alias("mean"))
    sizes = sequences.agg(*counted).first()
    if sizes is None or not sizes["users"] or sizes["longest"] < 2:
        return []
    observed = ratings.agg(F.max("item_idx").alias("last"), F.count("*").alias("n")).collect()[0]
    n_items = 1 + int(observed["last"])
    # Both phases go by the training ratings of phase choose: phase final goes on from its weights.
    size = config.size(context.lake.read("train_ratings").count())
    batch_size = min(config.batch_size, max(_FEWEST_USERS, int(config.batch_ratings / sizes["mean"])))
    plan = Plan(
        shape=Shape(n_items, config.max_length, size, config.blocks, config.heads(size), config.dropout),
        epochs=config.max_epochs,
        steps=max(-(-int(sizes["users"]) // batch_size), config.min_steps_per_epoch),
        batch_size=batch_size,
        seed=stable_seed(context.seed, "transformer"),
        learning_rate=config.learning_rate,
        negatives=config.negatives,
        gradient_clip=config.gradient_clip,
        averaging=config.averaging,
        catalogue=_catalogue(sequences),
        validate_every=config.validate_every,
        patience=config.patience,
        min_gain=config.min_gain,
    )
    seeds = [plan.seed, *(stable_seed(context.seed, "transformer", i) for i in range(1, config.models))]
    if context.phase == "choose":
        judges = _judges(context, sequences)
        floor = popularity_ndcg(judges, _popular(ratings, config.max_length + _K)) if judges else 0.0
        plan = replace(plan, judges=judges, floor=floor)
    radii = itertools.cycle(config.adversary_radius)
    plans = [
        replace(plan, seed=seed, name=f"sasrec_{i}", adversary_radius=radius)
        for i, (seed, radius) in enumerate(zip(seeds, radii, strict=False))
    ]
    if context.phase == "choose":
        return plans
    chosen = as_chosen(plans, context.lake.read("transformer_history", phase="choose").toPandas())
    added = context.lake.read("validation_ratings").count() / observed["n"]
    if not 0 < added <= config.continue_up_to:
        return [plan for plan, _ in chosen]
    states = load_states(context.lake.read("transformer_checkpoints", phase="choose"), plan.shape)
    return [
        replace(plan, start=states[source], epochs=max(1, round(config.continue_share * plan.epochs)))
        if source in states
        else plan
        for plan, source in chosen
    ]


def as_chosen(plans: list[Plan], history: pd.DataFrame) -> list[tuple[Plan, str | None]]:
    """Return the plans with the best adversary radius of phase choose's transformer_history, `history`.

    A radius is judged by the mean validation NDCG@10 of its models; to replace the first one it must gain 2 %. Its
    models train as many epochs as were kept, and not at all where they were given up; the others train as long as they
    do on average. With each plan comes the name of the model of phase choose whose weights it may go on from: its own
    one or, where that was given up, one of the best radius. Where phase choose trained nothing, the plans stay as they
    are.
    """
    if history.empty:
        return [(plan, None) for plan in plans]
    epochs = history[history["name"] == _BEST_EPOCH].set_index("model")["epoch"]
    kept = [plan for plan in plans if plan.name in epochs]
    if not kept:
        return []
    ndcg_of = history[history["name"] == "validation_ndcg"].groupby("model")["value"].max()
    radius_of = pd.Series({plan.name: plan.adversary_radius for plan in kept})
    judged = ndcg_of.reindex(radius_of.index).fillna(0.0).groupby(radius_of, sort=False).mean()
    best = float(judged.idxmax())
    if judged[best] <= judged.iloc[0] * (1 + _RADIUS_GAIN):
        best = float(judged.index[0])
    winners = [plan.name for plan in kept if plan.adversary_radius == best]
    mean, others = round(epochs[winners].mean()), itertools.cycle(winners)
    return [
        (
            replace(plan, epochs=int(epochs[plan.name]) if plan.name in winners else mean, adversary_radius=best),
            plan.name if plan.name in epochs else next(others),
        )
        for plan in plans
        if plan.name in epochs or plan.adversary_radius != best
    ]


def load_states(chunks: DataFrame, shape: Shape) -> dict[str, bytes]:
    """Return the state dicts, by model, of chunks of transformer_checkpoints that have the shape but for n_items."""
    states: dict[str, bytes] = {}
    for row in chunks.orderBy("version", "part").toLocalIterator():
        card = json.loads(row.card)
        if card["shape"] | {"n_items": shape.n_items} == shape.as_dict():
            states[card["model"]] = states.get(card["model"], b"") + bytes(row.content)
    return states


def train(context: Context, plans: list[Plan]) -> list[Trained]:
    """Train on Horovod workers; where a killed run left checkpoints of the same trainings, go on from there."""
    urls = context.lake.data_files("user_sequences")
    # Named by all that the result follows from: another training must not resume from it.
    versions = [
        hashlib.sha256(repr((_fingerprint(plan), urls, _workers(context))).encode()).hexdigest()[:12] for plan in plans
    ]
    results: dict[str, Any] = train_distributed(
        context.spark,
        fit,
        context.config.distributed.model_copy(update={"workers": _workers(context)}),
        n_models=len(plans),
        plans=plans,
        urls=urls,
        checkpoint_dir=_checkpoint_dir(context),
        checkpoints=[f"sasrec-{version}.pt" for version in versions],
        scalars=None if "://" in context.work_dir else f"{context.work_dir}/tensorboard",
    )
    return [Trained(**results[plan.name]) for plan in plans]


def fit(
    worker: Worker,
    plans: list[Plan],
    urls: list[str],
    checkpoint_dir: str,
    checkpoints: list[str],
    scalars: str | None,
) -> dict[str, object]:
    """Be one training worker: train this worker's models alone, or its shard of every model's batches."""
    trainer, own = share(worker, len(plans))
    results: dict[str, object] = {}
    for number in own:
        plan, files = plans[number], file_checkpoints(checkpoint_dir, checkpoints[number], trainer.log)
        rows, seed = max(1, plan.batch_size // trainer.count), plan.seed % 2**31
        with read_batches(urls, ["items", "length"], rows, trainer.index, trainer.count, seed) as batches:
            trained = train_sasrec(
                trainer,
                plan,
                ((batch["items"], batch["length"]) for batch in batches),
                files.load,
                files.save,
                _scalars(trainer, None if scalars is None else f"{scalars}/{plan.name}"),
            )
        results[plan.name] = {
            "state": trained.state,
            "epoch": trained.epoch,
            "history": trained.history,
            "stopped": trained.stopped,
            "given_up": trained.given_up,
            "seconds_per_epoch": trained.seconds_per_epoch,
        }
    return results if trainer.index == 0 else {}


def _checkpoint_dir(context: Context) -> str:
    return f"{context.work_dir}/checkpoints"


def _scalars(worker: Worker, folder: str | None) -> Callable[[int, dict[str, float]], None]:
    """Return a function that writes worker 0's values for TensorBoard."""
    if folder is None or worker.index > 0:
        return lambda epoch, values: None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def write(epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return write


def write_training(context: Context, plans: list[Plan], trained: list[Trained]) -> None:
    """Write the checkpoints in chunks with their cards, and the histories with the epochs that were kept."""
    chunks: list[tuple[object, ...]] = []
    values: list[tuple[object, ...]] = []
    for plan, model in zip(plans, trained, strict=True):
        version = hashlib.sha256(model.state).hexdigest()[:12]
        card = json.dumps(
            {
                "model": plan.name,
                "shape": plan.shape.as_dict(),
                "settings": context.config.transformer.model_dump(mode="json"),
                "workers": _workers(context),
                "batch_size": plan.batch_size,
                "steps_per_epoch": plan.steps,
                "adversary_radius": plan.adversary_radius,
                "start": hashlib.sha256(plan.start).hexdigest()[:12] if plan.start else None,
                "epoch": model.epoch,
                "stopped": model.stopped,
            },
            sort_keys=True,
        )
        parts = [model.state[start : start + _CHUNK_BYTES] for start in range(0, len(model.state), _CHUNK_BYTES)]
        chunks += [(version, card, position, bytearray(part)) for position, part in enumerate(parts)]
        values += [(plan.name, epoch, name, value) for epoch, name, value in model.history]
        if not model.given_up:
            values.append((plan.name, model.epoch, _BEST_EPOCH, float(model.epoch)))
    context.lake.write("transformer_checkpoints", context.lake.frame("transformer_checkpoints", chunks))
    context.lake.write("transformer_history", context.lake.frame("transformer_history", values))


def candidates(
    context: Context, plan: Plan, states: list[bytes], sequences: DataFrame, ratings: DataFrame
) -> DataFrame:
    """Return table transformer_candidates: every user's best items of the catalogue, all observed ones excluded.

    A score is the mean over models of the log probability of the item among the catalogue's.
    """
    bias = np.full(plan.shape.n_items, -np.inf, dtype=np.float32)
    bias[plan.catalogue] = 0
    shipped = [
        ship(context.spark, catalogue_bias=bias, **{name: tensor.numpy() for name, tensor in loaded.items()})
        for loaded in (torch.load(io.BytesIO(state), weights_only=True, map_location="cpu") for state in states)
    ]
    names = sorted(torch.load(io.BytesIO(states[0]), weights_only=True, map_location="cpu"))
    users = (
        sequences.where(F.col("length") > 0)
        .select("user_idx", F.expr("slice(items, 1, length)").alias("sequence"))
        .join(histories(ratings), "user_idx")
        .repartition(max(context.spark.sparkContext.defaultParallelism, 2), "user_idx")
    )
    ranked = rank_catalogue(users, _scorer(shipped, plan.shape, names), context.config.recommend.n_candidates)
    return ranked.withColumn("fill", F.lit(NONE))


def _scorer(models: list[Shipped], shape: Shape, names: list[str]) -> Score:
    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        histories = [history[-shape.max_length :] for history in lists(block, "sequence")]
        lengths = np.array([len(history) for history in histories], dtype=np.int32)
        items = np.full((len(histories), max(lengths)), -1, dtype=np.int32)
        for row, history in enumerate(histories):
            items[row, : len(history)] = history
        total = np.zeros((len(items), shape.n_items), dtype=np.float32)
        for shipped, network in zip(models, _networks(models, shape, names), strict=True):
            with torch.no_grad():
                last = network.last_states(torch.from_numpy(items), torch.from_numpy(lengths))
            scores = last.numpy() @ shipped["items.weight"][: shape.n_items].T
            scores += shipped["catalogue_bias"]
            total += torch.log_softmax(torch.from_numpy(scores), dim=1).numpy()
        return total / np.float32(len(models))

    return score


def _networks(models: list[Shipped], shape: Shape, names: list[str]) -> list[SASRec]:
    """Return the networks, built once per Python worker; those of an earlier phase or run are let go."""
    key = tuple(shipped.file("items.weight") for shipped in models)
    if key not in _SCORERS:
        torch.set_num_threads(1)  # Spark runs a Python worker per core
        networks = [SASRec(shape) for _ in models]
        for network, shipped in zip(networks, models, strict=True):
            network.load_state_dict({name: torch.from_numpy(np.array(shipped[name])) for name in names})
            network.eval()
        _SCORERS.clear()
        _SCORERS[key] = networks
    return _SCORERS[key]


def _catalogue(sequences: DataFrame) -> NDArray[np.int64]:
    items = sequences.select(F.explode(F.expr("slice(items, 1, length)")).alias("item_idx")).distinct()
    return np.sort(items.toPandas()["item_idx"].to_numpy(dtype=np.int64))


def _judges(context: Context, sequences: DataFrame) -> Judges | None:
    """Return a bounded sample of validation users, drawn by a hash; None where no user can be judged."""
    held = (
        context.lake.read("validation_ratings")
        .groupBy("user_idx")
        .agg(F.sort_array(F.collect_list("item_idx")).alias("held"))
    )
    users, most = (
        sequences.where(F.col("length") > 0).join(held, "user_idx"),
        context.config.transformer.validation_users,
    )
    sample = drawn(users, "transformer", context.seed, most).select("items", "length", "held").toPandas()
    if sample.empty:
        return None
    return Judges(
        np.stack(list(sample["items"])).astype(np.int32),
        sample["length"].to_numpy(dtype=np.int32),
        np.repeat(np.arange(len(sample)), [len(items) for items in sample["held"]]),
        np.concatenate(list(sample["held"])).astype(np.int64),
    )


def popularity_ndcg(judges: Judges, popular: NDArray[np.int32]) -> float:
    """Return what the most popular items, best first, reach among the judges; items of their history excluded."""
    unseen = [popular[~np.isin(popular, items)][:_K] for items in judges.items]
    order = np.argsort(judges.held_rows, kind="stable")
    counts = np.bincount(judges.held_rows, minlength=len(judges.items))
    held = np.split(judges.held_items[order], np.cumsum(counts)[:-1])
    return float(ndcg(hit_matrix(unseen, held, _K), counts, _K).mean())


def _popular(ratings: DataFrame, n: int) -> NDArray[np.int32]:
    """Return the n items with the most ratings."""
    counts = ratings.groupBy("item_idx").count().orderBy(F.desc("count"), "item_idx").limit(n).toArrow()
    return np.asarray(counts.column("item_idx"), dtype=np.int32)


def _workers(context: Context) -> int:
    """Return the number of workers: each needs a file of its own, and few users fill few files."""
    return max(1, min(context.config.distributed.workers, len(context.lake.data_files("user_sequences"))))


def _fingerprint(plan: Plan) -> str:
    digest = hashlib.sha256(repr(replace(plan, judges=None, catalogue=np.zeros(0, np.int64), start=b"")).encode())
    digest.update(plan.catalogue.tobytes())
    digest.update(plan.start)
    if plan.judges is not None:
        for array in (plan.judges.items, plan.judges.lengths, plan.judges.held_rows, plan.judges.held_items):
            digest.update(array.tobytes())
    return digest.hexdigest()
