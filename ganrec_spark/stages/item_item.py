"""Fit EASE (where the catalogue fits), RP3beta, GF-CF and a mixture; rank the catalogue by the best on validation."""

import json

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.evaluation.choice import in_words
from ganrec_spark.fills.ratings import of_variant
from ganrec_spark.frames.histories import with_ages
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.item_item.alike import Alike, known_alike
from ganrec_spark.recommenders.item_item.candidates import candidates, weight_rows
from ganrec_spark.recommenders.item_item.fit import Fitter, ItemItemSetting, as_json, half_life_of, slope_of
from ganrec_spark.recommenders.item_item.grids import grid, methods
from ganrec_spark.recommenders.item_item.profiles import item_axis, profiles, rating_moments
from ganrec_spark.recommenders.item_item.search import ItemItemSearch
from ganrec_spark.recommenders.item_item.weights import Weights
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed


def run(context: Context) -> str:
    """Write item_item_choices, item_item_weights and item_item_candidates of the phase."""
    lake, config = context.lake, context.config.item_item
    merged = lake.read("merged_ratings")
    ratings = of_variant(merged, NONE)
    item_idx = item_axis(ratings)
    alike = known_alike(context.lake, context.config.newcomers.max_features, item_idx)
    if context.phase == "choose":
        settings = grid(config, methods(config, len(item_idx)))
        setting, weights = best_setting(context, ratings, item_idx, settings, alike)
    else:
        setting = chosen_setting(context)
        weights = Fitter(config, stable_seed(context.seed, "gfcf"), ratings, item_idx, alike).fit(setting)
    lake.write("item_item_weights", weight_rows(context, weights, item_idx))
    half_life, own = half_life_of(setting), of_listed(context, ratings)
    users = profiles(own, slope_of(setting), rating_moments(ratings))
    users = users if half_life is None else with_ages(users, own)
    n_lists = lake.write("item_item_candidates", candidates(context, ratings, users, weights, item_idx, half_life))
    return f"{n_lists} lists, {len(item_idx)} items, {in_words(setting)}"


def chosen_setting(context: Context) -> ItemItemSetting:
    """Return the setting that phase choose chose, and write it as the one of this phase."""
    chosen = context.lake.read("item_item_choices", phase="choose").where("chosen")
    context.lake.write("item_item_choices", chosen)
    setting: ItemItemSetting = json.loads(chosen.collect()[0]["parameters"])
    return setting


def best_setting(
    context: Context,
    ratings: DataFrame,
    item_idx: NDArray[np.int32],
    settings: list[ItemItemSetting],
    alike: Alike | None,
) -> tuple[ItemItemSetting, Weights]:
    """Try the settings on validation users by NDCG@10, write item_item_choices; return the chosen one and its weights.

    A setting without alternatives is taken as it is, its ndcg is NULL.
    """
    config = context.config.item_item
    alternatives = (
        config.history_half_life_visits,
        config.rating_slope,
        config.ease_damping,
        config.pair_half_life_visits,
        config.likeness if alike else (),
    )
    several = max(len(settings), *(len(values) for values in alternatives)) > 1
    held_out = context.lake.read("validation_ratings") if several else None
    search = ItemItemSearch(config, ratings, item_idx, held_out, context.seed, context.log, alike)
    search.all(settings)
    best, weights = search.best
    rows = [(as_json(setting), score, setting == best) for setting, score in search.tried]
    context.lake.write("item_item_choices", context.lake.frame("item_item_choices", rows))
    return best, weights
