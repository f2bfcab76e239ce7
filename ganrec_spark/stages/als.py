"""Fit ALS on the merged ratings and rank the whole catalogue for every user."""

import itertools
import json
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config import Als
from ganrec_spark.context import Context
from ganrec_spark.distributed.als import AlsFactors, Objective, by_factors, fit_als
from ganrec_spark.distributed.quality import mean_ndcg
from ganrec_spark.distributed.ranking import histories, rank_catalogue
from ganrec_spark.fills import NONE, fill_variants, of_variant
from ganrec_spark.seeding import stable_seed

_K = 10
Setting = dict[str, float]


def run(context: Context) -> str:
    """Write als_choices, als_factors, als_candidates and als_quality of the phase."""
    lake, n = context.lake, context.config.recommend.n_candidates
    merged = lake.read("merged_ratings")
    seen = histories(merged.where("source = 'observed'"))
    setting, unfilled = best_setting(context, merged, seen) if context.phase == "choose" else chosen_setting(context)
    fills = fill_variants(merged, "als" in context.config.merge.fill_members)
    fits = {
        fill: unfilled if unfilled and fill == NONE else fit(context, of_variant(merged, fill), setting)
        for fill in fills
    }
    lake.write("als_factors", reduce(DataFrame.unionAll, (factor_rows(context, *item) for item in fits.items())))
    written = lake.read("als_factors")
    ranked = [candidates(context, seen, user_vectors(written, fill), fits[fill], n, fill) for fill in fills]
    n_lists = lake.write("als_candidates", reduce(DataFrame.unionAll, ranked))
    quality = error_rows(context, written, fills)
    lake.write("als_quality", lake.frame("als_quality", quality))
    told = "".join(f", rmse {value:.4f} ({fill})" for fill, _, value in quality)
    return f"{n_lists} lists, fill {' and '.join(fills)}, {_text(setting)}{told}"


def best_setting(context: Context, merged: DataFrame, seen: DataFrame) -> tuple[Setting, AlsFactors | None]:
    """Try the grid without fill on validation users, write als_choices; return the best NDCG@10's setting and fit.

    A grid of one entry is taken as it is: its ndcg is NULL, and there is no fit yet.
    """
    settings = grid(context.config.als)
    best, best_fit = 0, None
    scores: list[float | None] = [None]
    if len(settings) > 1:
        scores = []
        for i, setting in enumerate(settings):
            fitted = fit(context, of_variant(merged, NONE), setting)
            score = validation_ndcg(context, fitted, seen)
            context.log(f"{_text(setting)}: validation NDCG@{_K} {score:.4f}")
            if score > max((earlier or 0.0 for earlier in scores), default=-1.0):
                best, best_fit = i, fitted
            scores.append(score)
    rows = [(_text(item), score, i == best) for i, (item, score) in enumerate(zip(settings, scores, strict=True))]
    context.lake.write("als_choices", context.lake.frame("als_choices", rows))
    return settings[best], best_fit


def chosen_setting(context: Context) -> tuple[Setting, None]:
    """Return the setting that phase choose chose, and write it as the one of this phase; it is to be fitted anew."""
    chosen = context.lake.read("als_choices", phase="choose").where("chosen")
    context.lake.write("als_choices", chosen)
    setting: Setting = json.loads(chosen.collect()[0]["parameters"])
    return setting, None


def grid(config: Als) -> list[Setting]:
    """Return the settings to try: every regularisation with every alpha (explicit ALS has no alpha)."""
    alphas = config.alpha if config.implicit else config.alpha[:1]
    pairs = itertools.product(config.regularisation, alphas)
    return [{"regularisation": regularisation, "alpha": alpha} for regularisation, alpha in pairs]


def fit(context: Context, ratings: DataFrame, setting: Setting) -> AlsFactors:
    """Fit one setting on (user_idx, item_idx, rating) rows."""
    config = context.config.als
    seed = stable_seed(context.seed, "als")
    context.log(f"fitting {_text(setting)}")
    objective = Objective(config.embedding_size, config.iterations, implicit=config.implicit, seed=seed, **setting)
    return fit_als(ratings, objective, config.solver, config.max_gathered_gib, f"{context.work_dir}/mllib")


def validation_ndcg(context: Context, fitted: AlsFactors, seen: DataFrame) -> float:
    """Return the NDCG@10 of a fit over validation users."""
    held_out = context.lake.read("validation_ratings")
    judged = seen.join(held_out.select("user_idx").distinct(), "user_idx", "left_semi")
    return mean_ndcg(candidates(context, judged, fitted.users, fitted, _K, NONE), held_out, _K)


def factor_rows(context: Context, fill: str, fitted: AlsFactors) -> DataFrame:
    """Return one row of als_factors per user and item of a fit."""
    flat = pa.array(fitted.items.ravel(), pa.float32())
    offsets = np.arange(0, fitted.items.size + 1, fitted.items.shape[1], dtype=np.int32)
    table = {"idx": pa.array(fitted.item_idx), "factors": pa.ListArray.from_arrays(offsets, flat)}
    items = context.spark.createDataFrame(pa.table(table)).withColumn("side", F.lit("item"))
    users = fitted.users.select(F.col("user_idx").alias("idx"), "factors", F.lit("user").alias("side"))
    return users.unionByName(items).withColumn("fill", F.lit(fill))


def user_vectors(written: DataFrame, fill: str) -> DataFrame:
    """Return (user_idx, factors) of one fill from als_factors."""
    rows = written.where((F.col("fill") == fill) & (F.col("side") == "user"))
    return rows.select(F.col("idx").alias("user_idx"), "factors")


def candidates(
    context: Context, seen: DataFrame, vectors: DataFrame, fitted: AlsFactors, n: int, fill: str
) -> DataFrame:
    """Return als_candidates of one fill: for each user with a vector, the n best items not in `seen`."""
    ranked = rank_catalogue(seen.join(vectors, "user_idx"), by_factors(context.spark, fitted), n)
    return ranked.select(F.lit(fill).alias("fill"), "user_idx", "items", "scores")


def error_rows(context: Context, written: DataFrame, fills: list[str]) -> list[tuple[str, str, float]]:
    """Return the rows of als_quality: explicit ALS's RMSE on validation, in phase choose only.

    Ratings of users or items that have no vector are left out; without any there is no row.
    """
    if context.config.als.implicit or context.phase != "choose":
        return []
    held_out = context.lake.read("validation_ratings")
    rows = []
    for fill in fills:
        sides = written.where(F.col("fill") == fill)
        users = sides.where("side = 'user'").select(F.col("idx").alias("user_idx"), F.col("factors").alias("u"))
        items = sides.where("side = 'item'").select(F.col("idx").alias("item_idx"), F.col("factors").alias("i"))
        product = F.aggregate(F.zip_with("u", "i", lambda u, i: u * i), F.lit(0.0), lambda total, x: total + x)
        error = F.sqrt(F.avg(F.pow(F.col("rating") - product, F.lit(2.0))))
        found = held_out.join(users, "user_idx").join(items, "item_idx").agg(error.alias("rmse")).first()
        if found is not None and found["rmse"] is not None:
            rows.append((fill, "rmse", float(found["rmse"])))
    return rows


def _text(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)
