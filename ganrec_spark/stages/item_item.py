"""Fit EASE (where the catalogue fits), RP3beta, GF-CF and a mixture; rank the catalogue by the best on validation."""

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.fills.ratings import NONE, of_variant
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories, with_ages
from ganrec_spark.frames.top_n import top_n
from ganrec_spark.recommenders.catalogue import rank_catalogue
from ganrec_spark.recommenders.item_item.fit import Fitter, Setting, slope_of
from ganrec_spark.recommenders.item_item.profiles import item_axis, profiles
from ganrec_spark.recommenders.item_item.scoring import ship_weights
from ganrec_spark.recommenders.item_item.search import Search, as_json, grid, half_life_of, methods
from ganrec_spark.recommenders.item_item.weights import Weights, columns
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed

_BLOCK = 512


def run(context: Context) -> str:
    """Write item_item_choices, item_item_weights and item_item_candidates of the phase."""
    lake, config = context.lake, context.config.item_item
    merged = lake.read("merged_ratings")
    ratings = of_variant(merged, NONE)
    item_idx = item_axis(ratings)
    if context.phase == "choose":
        setting, weights = best_setting(context, ratings, item_idx, grid(config, methods(config, len(item_idx))))
    else:
        setting = chosen_setting(context)
        weights = Fitter(config, stable_seed(context.seed, "gfcf"), ratings, item_idx).fit(setting)
    lake.write("item_item_weights", weight_rows(context, weights, item_idx))
    half_life, users = half_life_of(setting), profiles(ratings, slope_of(setting))
    users = users if half_life is None else with_ages(users, ratings)
    n_lists = lake.write("item_item_candidates", candidates(context, ratings, users, weights, item_idx, half_life))
    return f"{n_lists} lists, {len(item_idx)} items, {as_json(setting)}"


def chosen_setting(context: Context) -> Setting:
    """Return the setting that phase choose chose, and write it as the one of this phase."""
    chosen = context.lake.read("item_item_choices", phase="choose").where("chosen")
    context.lake.write("item_item_choices", chosen)
    setting: Setting = json.loads(chosen.collect()[0]["parameters"])
    return setting


def best_setting(
    context: Context, ratings: DataFrame, item_idx: NDArray[np.int32], settings: list[Setting]
) -> tuple[Setting, Weights]:
    """Try the settings on validation users by NDCG@10, write item_item_choices; return the chosen one and its weights.

    The half-life of histories is chosen with the first setting, for all, the slope of ratings with the first method's
    best one. Where EASE's best lambda is the smallest or largest of several, the search goes on beyond it, and the best
    one is tried damped and with pairs near in time; GF-CF's rank is halved while that is better. At last the best
    methods' mixtures are tried. What few judges cannot tell apart is left as it was, or mixed (Search). A setting
    without alternatives is taken as it is, its ndcg is NULL.
    """
    config = context.config.item_item
    alternatives = config.history_half_life, config.rating_slope, config.ease_damping, config.pair_half_life
    several = max(len(settings), *(len(values) for values in alternatives)) > 1
    held_out = context.lake.read("validation_ratings") if several else None
    search = Search(config, ratings, item_idx, held_out, context.seed, context.log)
    search.half_lives(settings[0])
    for method in dict.fromkeys(str(setting["method"]) for setting in settings):
        search.method([setting for setting in settings if setting["method"] == method])
    search.mix(config.mix_shares)
    best, weights = search.best
    rows = [(as_json(setting), score, setting == best) for setting, score in search.tried]
    context.lake.write("item_item_choices", context.lake.frame("item_item_choices", rows))
    return best, weights


def candidates(
    context: Context,
    ratings: DataFrame,
    users: DataFrame,
    weights: Weights,
    item_idx: NDArray[np.int32],
    half_life: float | None,
) -> DataFrame:
    """Return item_item_candidates: for each user in `users`, the n best items neither in `ratings` nor disliked."""
    disliked = dislikes.of_phase(context.lake.read("known_dislikes"), ratings, str(context.phase))
    observed = histories(ratings).select("user_idx", F.col("items").alias("seen"))
    observed = dislikes.never_listed(observed, disliked, "seen")
    score = ship_weights(context.spark, item_idx, weights, half_life)
    ranked = rank_catalogue(users.join(observed, "user_idx"), score, context.config.recommend.n_candidates, "seen")
    return ranked.select(F.lit(NONE).alias("fill"), "user_idx", "items", "scores")


def weight_rows(context: Context, weights: Weights, item_idx: NDArray[np.int32]) -> DataFrame:
    """Return item_item_weights: of each item, the history items of largest positive weight."""
    neighbours: list[NDArray[np.int32]] = []
    strengths: list[NDArray[np.float32]] = []
    for start in range(0, len(item_idx), _BLOCK):
        values = columns(weights, slice(start, start + _BLOCK))
        positive = np.where(values > 0, values, np.float32(-np.inf)).T
        best, of_best = top_n(positive, context.config.item_item.stored_neighbours)
        neighbours += [item_idx[row] for row in best]
        strengths += of_best
    table = {
        "item_idx": pa.array(item_idx, pa.int32()),
        "neighbours": pa.array(neighbours, pa.list_(pa.int32())),
        "weights": pa.array(strengths, pa.list_(pa.float32())),
    }
    frame = context.spark.createDataFrame(pa.table(table))
    return frame.select(F.lit(NONE).alias("fill"), "item_idx", "neighbours", "weights")
