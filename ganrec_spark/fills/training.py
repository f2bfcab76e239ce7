"""Train the generators: plans by data and configuration, workers that follow them, cards that say what came of it."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.cluster import Reader
from ganrec_spark.evaluation.draws import draw_order
from ganrec_spark.fills.generators.by_name import training_seed
from ganrec_spark.fills.generators.cgan import Start, calibrated
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.fills.generators.training import Batch, GeneratorPlan, train_generator
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.recommenders.als.setting import chosen_setting, fit_setting, latest_time
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import file_checkpoints
from ganrec_spark.training.reader import read_batches
from ganrec_spark.training.scalars import Show, scalars
from ganrec_spark.training.worker import Worker, share

_WATCHED_USERS = 2048


def train_generators(
    worker: Worker,
    plans: list[GeneratorPlan],
    urls: list[str],
    batch_size: int,
    checkpoint_dir: str,
    tensorboard_dir: str | None,
    reader: Reader = "petastorm",
) -> dict[str, object]:
    """Be one worker; return by kind the state dict's bytes, the history and why it stopped."""
    trainer, own = share(worker, len(plans))
    results: dict[str, object] = {}
    for plan in (plans[i] for i in own):
        # The name holds all that the training follows from: a checkpoint of other data or settings is never resumed.
        version = _fingerprint(plan, urls, batch_size)
        checkpoints = file_checkpoints(checkpoint_dir, f"{plan.kind}-{version}.pt", trainer.warn)
        seed = training_seed(plan.seed, plan.kind, "reader", trainer.index) % 2**31
        rows = max(1, batch_size // trainer.count)
        with (
            scalars(trainer, f"{tensorboard_dir}/{plan.kind}" if tensorboard_dir else None) as show,
            read_batches(urls, ("items", "weights"), rows, trainer.index, trainer.count, seed, reader) as batches,
        ):
            report = _reporter(trainer, plan, show)
            trained = train_generator(trainer, plan, _pairs(batches), checkpoints, report)
        results[plan.kind] = asdict(trained) | {"kind": plan.kind}
    return results if trainer.index == 0 else {}


def make_plans(context: Context, rows: DataFrame, train: DataFrame) -> list[GeneratorPlan]:
    """Return what each generator is trained by; the same arrays serve all, so they travel once."""
    config = context.config.generator
    steps = math.ceil(rows.count() / config.batch_size)
    watched, held_out = _watched(rows, context.lake.read("validation_ratings"), context.seed)
    # Where nobody rated at different times nothing fades.
    half_lives = config.history_half_life_visits if watched.ages.any() else (None,)
    catalogue = train.select("item_idx").distinct().orderBy("item_idx").toArrow()["item_idx"].to_numpy()
    n_items = 1 + int(catalogue.max(initial=-1))
    start = Start(np.zeros((n_items, config.cgan_embedding_size), np.float32), np.zeros(n_items, np.float32))
    if "cgan" in config.kinds:
        start = calibrated(_start(context, train, n_items), watched, half_lives[0], held_out)
        context.log(f"cgan starts from ALS at scale {start.scale:.3g}, popularity {start.popularity:.3g}")
    settings = {name: float(value) for name, value in config.model_dump().items() if isinstance(value, int | float)}
    return [
        GeneratorPlan(
            kind=kind,
            n_items=n_items,
            epochs=config.agn_epochs if kind == "agn" else config.epochs,
            patience=config.patience,
            # agn collapses early: more steps would only make it worse.
            steps=steps if kind == "agn" else max(steps, config.min_steps_per_epoch),
            seed=context.seed,
            settings=settings,
            start=start,
            catalogue=catalogue.astype(np.int64),
            watched=watched,
            watch_held_out=held_out,
            # agn reads no history.
            half_lives=(None,) if kind == "agn" else half_lives,
        )
        for kind in config.kinds
    ]


def _start(context: Context, train: DataFrame, n_items: int) -> Start:
    """Return the item vectors of ALS's chosen setting at cgan's size, and users per item, of the training ratings."""
    size = context.config.generator.cgan_embedding_size
    setting = replace(chosen_setting(context.lake.read("als_choices", "choose")), embedding_size=size)
    factors = fit_setting(
        train, setting, context.config.als, latest_time(train), context.seed, f"{context.work_dir}/mllib"
    )
    vectors, counts = np.zeros((n_items, size), dtype=np.float32), np.zeros(n_items, dtype=np.float32)
    known, _ = factors.item_slots()
    vectors[: len(known)] = known
    users = users_per_item(train).toArrow()
    counts[users["item_idx"].to_numpy()] = users["n"].to_numpy()
    return Start(vectors, counts)


def _watched(rows: DataFrame, held_out: DataFrame, seed: int) -> tuple[Profiles, NDArray[np.int32]]:
    """Return the profiles and held-out items [W, H] of a stable sample of users, sparse ones first."""
    by = [F.col("is_sparse").desc(), *draw_order("generator", seed)]
    sample = rows.orderBy(*by).limit(_WATCHED_USERS)
    columns = ("items", "weights", "ages", "relevant")
    table = sample.join(relevant_items(held_out), "user_idx", "left").orderBy(*by).select(*columns).toArrow()

    def flat(name: str) -> NDArray[Any]:
        values: NDArray[Any] = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return values.reshape(table.num_rows, -1)

    lists = [values or [] for values in table["relevant"].to_pylist()]
    padded = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=np.int32)
    for row, values in zip(padded, lists, strict=True):
        row[: len(values)] = values
    items, weights, ages = flat("items"), flat("weights"), flat("ages")
    return Profiles(items.astype(np.int32), weights.astype(np.float32), ages.astype(np.int32)), padded


def _pairs(batches: Iterator[dict[str, Any]]) -> Iterator[Batch]:
    return ((batch["items"].long(), batch["weights"].float()) for batch in batches)


def _reporter(worker: Worker, plan: GeneratorPlan, show: Show) -> Show:
    def report(epoch: int, values: dict[str, float]) -> None:
        if epoch % max(1, plan.epochs // 5) == 0:
            worker.log(
                f"{plan.kind}: epoch {epoch} of {plan.epochs}, loss {values['loss']:.4f}, "
                f"{values['distinct_items']:.0f} distinct items generated"
            )
        show(epoch, values)

    return report


def _fingerprint(plan: GeneratorPlan, urls: list[str], batch_size: int) -> str:
    parts = [
        plan.kind,
        plan.n_items,
        plan.epochs,
        plan.patience,
        plan.steps,
        plan.seed,
        batch_size,
        sorted(plan.settings.items()),
        plan.half_lives,
        urls,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def card_of(context: Context, plan: GeneratorPlan, result: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint is: enough to rebuild the network and to judge it."""
    last = max(epoch for epoch, _, _ in result["history"])
    # The start (epoch 0) is not watched for collapse: the first epoch stands for it.
    shown = max(result["epoch"], 1)
    final = {name: value for epoch, name, value in result["history"] if epoch == shown}
    return {
        "generator": plan.kind,
        "version": hashlib.sha256(result["state"] + repr(result["half_life"]).encode()).hexdigest()[:12],
        "n_items": plan.n_items,
        "seed": plan.seed,
        "settings": plan.settings,
        "workers": context.config.distributed.workers,
        "steps_per_epoch": plan.steps,
        "epochs": last,
        "kept_epoch": result["epoch"],
        "history_half_life_visits": result["half_life"],
        "stopped": result["stopped"],
        "final": final,
        "collapsed": final["distinct_share"] < context.config.generator.collapse_min_distinct_share,
    }


def described(context: Context, card: dict[str, Any]) -> str:
    """Say in words what a training came to; warn where the generator collapsed."""
    distinct = int(card["final"]["distinct_items"])
    kept = f"epoch {card['kept_epoch']} of {card['epochs']} kept"
    text = f"{card['generator']} {card['version']}: {kept}, {distinct} distinct items"
    if card["history_half_life_visits"] is not None:
        text += f", half-life {card['history_half_life_visits']:g}"
    if card["stopped"] != "all epochs done":
        text += f", {card['stopped']}"
    if card["collapsed"]:
        text += ", COLLAPSED"
        context.warn(
            f"{card['generator']} collapsed: only {distinct} distinct items in the fills of the watched users, a share "
            f"of {card['final']['distinct_share']:.4f} (generator.collapse_min_distinct_share "
            f"{context.config.generator.collapse_min_distinct_share}); its fills are tried, and the gate will judge it"
        )
    return text
