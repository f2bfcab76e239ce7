"""What to train: a plan a model, by configuration, by data and, in phase final, by what phase choose found."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.draws import drawn
from ganrec_spark.evaluation.metrics import JUDGED_K, hit_matrix, ndcg
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.recommenders.transformer.item_starts import better_start, item_vectors, known_items
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.training import Judges, SasRecPlan
from ganrec_spark.recommenders.transformer.warm_start import published_states
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.checkpoints import stored_checkpoints
from ganrec_spark.training.resume import VALIDATION_NDCG

_FEWEST_USERS = 16  # a step on fewer costs as much
BEST_EPOCH = "best_epoch"
_RADIUS_GAIN = 0.02  # of validation NDCG@10, by a radius after the first: against an adversary training takes longer


def make_plans(context: Context, sequences: DataFrame, ratings: DataFrame) -> list[SasRecPlan]:
    """Return what to train: plans that differ in their seed, in phase choose also in radius and in items' start.

    The radius is the adversary's. Phase final takes the start and the radius that were best in phase choose; where
    validation ratings add little, it goes on from the weights of phase choose, and where these went on from a published
    run's, from that run's of phase final. No plans where no user has a next item to learn from.
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
    plan = SasRecPlan(
        shape=Shape(n_items, config.max_length, size, config.blocks, config.heads(size), config.dropout),
        epochs=config.max_epochs,
        steps=max(-(-int(sizes["users"]) // batch_size), config.min_steps_per_epoch),
        batch_size=batch_size,
        seed=stable_seed(context.seed, "transformer"),
        learning_rate=config.learning_rate,
        negatives=config.negatives,
        gradient_clip=config.gradient_clip,
        averaging=config.averaging,
        catalogue=items_in(sequences),
        validate_every=config.validate_every,
        patience=config.patience,
        min_gain=config.min_gain,
    )
    seeds = [plan.seed, *(stable_seed(context.seed, "transformer", i) for i in range(1, config.models))]
    if context.phase == "choose":
        judges = _judges(context, sequences)
        floor = popularity_ndcg(judges, _popular(ratings, config.max_length + JUDGED_K)) if judges else 0.0
        plan = replace(plan, judges=judges, floor=floor)
    radii = itertools.cycle(config.adversary_radius)
    models = [
        replace(plan, seed=seed, name=f"sasrec_{i}", adversary_radius=radius)
        for i, (seed, radius) in enumerate(zip(seeds, radii, strict=False))
    ]
    plans = _with_starts(context, models)
    if context.phase == "choose":
        return plans
    history = context.lake.read("transformer_history", phase="choose").toPandas()
    chosen = as_chosen(better_start(plans, validated(history)), history)
    base, published = published_states(context, plan.shape)
    added = context.lake.read("validation_ratings").count() / observed["n"]
    if not base and not 0 < added <= config.continue_up_to:
        return [plan for plan, _ in chosen]
    states = load_states(context.lake.read("transformer_checkpoints", phase="choose"), plan.shape)
    if base:
        return [_going_on(plan, published, states[source or plan.name], base) for plan, source in chosen]
    return [
        replace(plan, start=states[source], epochs=max(1, round(config.continue_share * plan.epochs)))
        if source in states
        else plan
        for plan, source in chosen
    ]


def _with_starts(context: Context, models: list[SasRecPlan]) -> list[SasRecPlan]:
    """Return the models with each of transformer.item_start, the first one's first; random where nothing is known."""
    config, shape = context.config.transformer, models[0].shape
    known = known_items(context, models[0].catalogue)
    if known is None:
        return models
    plans = []
    for length in config.item_start:
        for i, model in enumerate(models):
            if not length:
                plans.append(model)
                continue
            vectors = item_vectors(known, shape.n_items, shape.embedding_size, length, model.seed)
            name = f"sasrec_start_{length:g}_{i}"  # the number comes last: refresh takes models in its order
            plans.append(replace(model, name=name, item_start=length, item_vectors=vectors))
    return plans


def validated(history: pd.DataFrame) -> dict[str, float]:
    """Return the best validation NDCG@10 of each model of transformer_history that was not given up."""
    kept = history[history["model"].isin(history.loc[history["name"] == BEST_EPOCH, "model"])]
    best = kept[kept["name"] == VALIDATION_NDCG].groupby("model")["value"].max()
    return {str(name): float(value) for name, value in best.items()}


def _going_on(plan: SasRecPlan, published: dict[str, tuple[bytes, int]], state: bytes, base: str) -> SasRecPlan:
    """Return the plan that goes on from the published network or, where there is none of its name, from `state`."""
    start, epochs = published.get(plan.name, (state, plan.epochs))
    return replace(plan, start=start, epochs=epochs, base_run_id=base)


def as_chosen(plans: list[SasRecPlan], history: pd.DataFrame) -> list[tuple[SasRecPlan, str | None]]:
    """Return the plans with the best adversary radius of phase choose's transformer_history, `history`.

    A radius is judged by the mean validation NDCG@10 of its models; to replace the first one it must gain 2 %. Its
    models train as many epochs as were kept, and not at all where they were given up; the others train as long as they
    do on average. With each plan comes the name of the model of phase choose whose weights it may go on from: its own
    one or, where that was given up, one of the best radius. Where phase choose trained nothing, the plans stay as they
    are.
    """
    if history.empty:
        return [(plan, None) for plan in plans]
    epochs = history[history["name"] == BEST_EPOCH].set_index("model")["epoch"]
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
    return {
        card["model"]: state
        for card, state in stored_checkpoints(chunks.orderBy("version", "part").toLocalIterator())
        if card["shape"] | {"n_items": shape.n_items} == shape.as_dict()
    }


def items_in(sequences: DataFrame) -> NDArray[np.int64]:
    """Return the items of user_sequences, ascending: those that models learn to rank."""
    items = sequences.select(F.explode(F.expr("slice(items, 1, length)")).alias("item_idx")).distinct()
    return np.sort(items.toPandas()["item_idx"].to_numpy(dtype=np.int64))


def _judges(context: Context, sequences: DataFrame) -> Judges | None:
    """Return a bounded sample of validation users, drawn by a hash; None where no user can be judged."""
    held, most = relevant_items(context.lake.read("validation_ratings")), context.config.transformer.validation_users
    users = sequences.where(F.col("length") > 0).join(held, "user_idx")
    sample = drawn(users, "transformer", context.seed, most).select("items", "length", "relevant").toPandas()
    if sample.empty:
        return None
    return Judges(
        np.stack(list(sample["items"])).astype(np.int32),
        sample["length"].to_numpy(dtype=np.int32),
        np.repeat(np.arange(len(sample)), [len(items) for items in sample["relevant"]]),
        np.concatenate(list(sample["relevant"])).astype(np.int64),
    )


def popularity_ndcg(judges: Judges, popular: NDArray[np.int32]) -> float:
    """Return what the most popular items, best first, reach among the judges; items of their history excluded."""
    unseen = [popular[~np.isin(popular, items)][:JUDGED_K] for items in judges.items]
    order = np.argsort(judges.held_rows, kind="stable")
    counts = np.bincount(judges.held_rows, minlength=len(judges.items))
    held = np.split(judges.held_items[order], np.cumsum(counts)[:-1])
    return float(ndcg(hit_matrix(unseen, held, JUDGED_K), counts, JUDGED_K).mean())


def _popular(ratings: DataFrame, n: int) -> NDArray[np.int32]:
    """Return the n items with the most ratings."""
    counts = users_per_item(ratings).orderBy(F.desc("n"), "item_idx").limit(n).toArrow()
    return np.asarray(counts.column("item_idx"), dtype=np.int32)
