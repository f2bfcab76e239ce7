"""The published run's models, and what else of its lists hangs on all users: read once and kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend.fusion import Fusion
from ganrec_spark.blend.member_lists import Blend, fusion_of, shipped_popularity
from ganrec_spark.blend.published import Listable, listable
from ganrec_spark.blend.rerank import FOLDS
from ganrec_spark.blend.varied import shipped_values, variety_of
from ganrec_spark.fills.ratings import fill_variants, of_variant
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als.factors import by_factors, factors_of
from ganrec_spark.recommenders.als.setting import AlsSetting, chosen_setting, latest_time, objective_of
from ganrec_spark.recommenders.als.solver import Objective
from ganrec_spark.recommenders.catalogue import Best, Score
from ganrec_spark.recommenders.item_item.alike import known_alike
from ganrec_spark.recommenders.item_item.fit import LIKENESS, Fitter, half_life_of, slope_of
from ganrec_spark.recommenders.item_item.profiles import item_axis, rating_moments
from ganrec_spark.recommenders.item_item.scoring import ship_weights
from ganrec_spark.recommenders.newcomers.fit import predicted_of, score_of
from ganrec_spark.recommenders.popularity import orders, recent_counts
from ganrec_spark.recommenders.transformer.candidates import ship_models
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.plans import BEST_EPOCH, items_in
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.checkpoints import stored_checkpoints


@dataclass(frozen=True)
class AlsModel:
    """One fit per fill: vectors of items by index, and what finds the best items of a vector.

    `latest`: the newest rating's second, the present of the run; `typical`: the mean of ratings' sizes.
    """

    setting: AlsSetting
    objective: Objective
    items: Mapping[str, NDArray[np.float32]]
    best: Mapping[str, Best]
    latest: float
    typical: float


@dataclass(frozen=True)
class ItemItemModel:
    """The score of the catalogue for profiles of this slope; `moments` of the ratings that slopes are measured by."""

    score: Score
    slope: float
    half_life: float | None
    moments: DataFrame


@dataclass(frozen=True)
class NewItems:
    """The score of new items; `by_taste`: whether it reads users' vectors of ALS."""

    score: Score
    by_taste: bool


@dataclass(frozen=True)
class Models:
    """All that lists are made from but the users' own rows. `items`, `liked` (item_idx): rated ones, and above 0."""

    items: DataFrame
    liked: DataFrame
    als: AlsModel
    item_item: ItemItemModel
    transformer: Score | None
    trending: Shipped
    newcomers: NewItems | None
    fusions: Mapping[str, Fusion]
    published: str
    known: Listable


_KEPT: dict[tuple[str, ...], Models] = {}


def models_of(context: Context, execution: str) -> Models:
    """Return the models of the run; those of the last call where it was the same `execution` of stage publish."""
    application = context.spark.sparkContext.applicationId
    key = (str(application), context.lake.lake.name(""), context.run_id, execution)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = _read(context)
    return _KEPT[key]


def _read(context: Context) -> Models:
    merged = context.lake.read("merged_ratings")
    observed = merged.where("observed")
    axis = item_axis(observed)
    liked = item_axis(observed.where("rating > 0"))
    fusions, published = _blend(context)
    items, als = _items(context, axis), _als(context, merged, observed)
    newcomers, listed = _newcomers(context, als, axis)
    return Models(
        items,
        _items(context, liked),
        als,
        _item_item(context, of_variant(merged, NONE), axis),
        _transformer(context),
        _trending(context, observed),
        newcomers,
        fusions,
        published,
        replace(listable(context), items=_items(context, listed)),  # its own are looked for in all ratings, each time
    )


def _items(context: Context, axis: NDArray[np.int32]) -> DataFrame:
    return context.spark.createDataFrame(pa.table({"item_idx": axis}))


def _als(context: Context, merged: DataFrame, observed: DataFrame) -> AlsModel:
    written, config = context.lake.read("als_factors"), context.config.als
    fits = {fill: factors_of(written.where(F.col("fill") == fill)) for fill in fill_variants(merged)}
    setting = chosen_setting(context.lake.read("als_choices", "choose"))
    objective = objective_of(setting, config, config.iterations, stable_seed(context.seed, "als"))
    typical = observed.agg(F.avg(F.abs("rating"))).collect()[0][0]
    return AlsModel(
        setting,
        objective,
        {fill: fitted.item_slots()[0] for fill, fitted in fits.items()},
        {fill: by_factors(context.spark, fitted) for fill, fitted in fits.items()},
        latest_time(observed),
        float(typical or 0.0),
    )


def _item_item(context: Context, ratings: DataFrame, axis: NDArray[np.int32]) -> ItemItemModel:
    """Fit it again: the run keeps its strongest weights alone, and the same rows give the same weights."""
    setting = json.loads(context.lake.read("item_item_choices").where("chosen").collect()[0]["parameters"])
    alike = known_alike(context.lake, context.config.newcomers.max_features, axis) if LIKENESS in setting else None
    weights = Fitter(context.config.item_item, stable_seed(context.seed, "gfcf"), ratings, axis, alike).fit(setting)
    half_life, slope = half_life_of(setting), slope_of(setting)
    moments = context.spark.createDataFrame(rating_moments(ratings).toArrow())
    return ItemItemModel(ship_weights(context.spark, axis, weights, half_life), slope, half_life, moments)


def _transformer(context: Context) -> Score | None:
    history = context.lake.read("transformer_history").where(F.col("name") == BEST_EPOCH)
    kept = {row.model for row in history.select("model").collect()}  # a model that was given up ranks nothing
    rows = context.lake.read("transformer_checkpoints").orderBy("version", "part").toLocalIterator()
    found = {card["model"]: (Shape(**card["shape"]), state) for card, state in stored_checkpoints(rows)}
    names = sorted(kept & found.keys(), key=lambda name: int(name.rpartition("_")[2]))
    if not names:
        return None
    catalogue = items_in(context.lake.read("user_sequences"))
    return ship_models(context.spark, found[names[0]][0], catalogue, [found[name][1] for name in names])


def _trending(context: Context, observed: DataFrame) -> Shipped:
    chosen = context.lake.read("trending_choices").where("chosen").collect()[0]
    item_idx, counts = recent_counts(observed, [None, json.loads(chosen["parameters"])["half_life_days"]])
    return ship(context.spark, **orders(item_idx, counts, counts[0]))


def _newcomers(context: Context, als: AlsModel, axis: NDArray[np.int32]) -> tuple[NewItems | None, NDArray[np.int32]]:
    """Return the score of new items, None where lists have no places for them, and the items that lists could have."""
    if not context.config.recommend.new_item_slots:
        return None, axis
    chosen = context.lake.read("newcomers_choices", "choose").where("chosen").collect()[0]
    setting = json.loads(chosen["parameters"])
    if setting is None:
        return None, axis
    found = predicted_of(context.lake.read("newcomers_weights"), als.items[NONE], setting["taste"])
    return NewItems(score_of(context.spark, found), setting["taste"] > 0), np.union1d(axis, found.idx)


def _blend(context: Context) -> tuple[dict[str, Fusion], str]:
    rows = context.lake.read("blend_weights").collect()
    weight_of = {(row.fill, row.recommender): row.weight for row in rows}
    fills = [NONE, *sorted({row.fill for row in rows} - {NONE})]
    trees = [row.trees for row in context.lake.read("rerank_choices").where("accepted").collect()]
    models = ("",) * FOLDS + tuple(trees) if trees else ()
    popularity = shipped_popularity(context, "final")
    strength = context.lake.read("variety_choices").where("chosen AND strength > 0").first()
    variety = variety_of(context, strength["strength"], shipped_values(context)) if strength else None
    fusions = {}
    for fill in fills:
        weights = np.array([weight_of[fill, member] for member in MEMBER_NAMES])
        blend = Blend(weights, rows[0].fusion, 0.0, (), 0, models, variety)
        fusions[fill] = fusion_of(context, blend, fill, "final", popularity)
    return fusions, next(row.fill for row in rows if row.published)
