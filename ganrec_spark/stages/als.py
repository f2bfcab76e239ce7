"""Fit ALS on the merged ratings with the chosen setting and rank the whole catalogue for every user."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.fills.ratings import NONE, fill_variants, kept_by_others, of_variant
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories
from ganrec_spark.recommenders.als.setting import chosen_setting, fit_setting, latest_time
from ganrec_spark.recommenders.als.solver import AlsFactors, by_factors, factor_rows, factors_of
from ganrec_spark.recommenders.catalogue import rank_catalogue
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed


def run(context: Context) -> str:
    """Write als_factors, als_candidates and als_quality of the phase."""
    lake, n = context.lake, context.config.recommend.n_candidates
    merged = lake.read("merged_ratings")
    fills = fill_variants(merged)
    fits = {fill: fit(context, merged, fill) for fill in fills}
    rows = [factor_rows(context.spark, fitted).withColumn("fill", F.lit(fill)) for fill, fitted in fits.items()]
    lake.write("als_factors", reduce(DataFrame.unionAll, rows))
    written, observed = lake.read("als_factors"), merged.where("source = 'observed'")
    seen = dislikes.never_listed(histories(observed), known_dislikes(context, observed))
    sparsity = lake.read("user_sparsity")
    # Cached: users that are not sparse have the same lists with a fill.
    plain = candidates(context, seen, user_vectors(written, NONE), fits[NONE], n, NONE)
    plain = plain.cache() if len(fills) > 1 else plain
    ranked, sparse = [plain], seen.join(sparsity.where("is_sparse").select("user_idx"), "user_idx", "left_semi")
    for fill in fills[1:]:
        ranked.append(candidates(context, sparse, user_vectors(written, fill), fits[fill], n, fill))
        ranked.append(kept_by_others(plain, sparsity, fill))
    n_lists = lake.write("als_candidates", reduce(DataFrame.unionByName, ranked))
    plain.unpersist()
    quality = error_rows(context, written, fills)
    lake.write("als_quality", lake.frame("als_quality", quality))
    told = "".join(f", rmse {value:.4f} ({fill})" for fill, _, value in quality)
    return f"{n_lists} lists, fill {' and '.join(fills)}{told}"


def fit(context: Context, merged: DataFrame, fill: str) -> AlsFactors:
    """Fit ALS on one variant of merged_ratings; in phase choose als_setting and the gate have fitted it."""
    if context.phase == "choose" and fill == NONE:
        return factors_of(context.lake.read("als_unfilled_factors"))
    if context.phase == "choose":
        known = context.lake.read("als_filled_factors").where(F.col("fill") == fill)
        if not known.isEmpty():
            return factors_of(known)
    setting = chosen_setting(context.lake.read("als_choices", "choose"))
    context.log(f"fitting {setting.text()}, fill {fill}")
    observed, als = merged.where("source = 'observed'"), context.config.als
    latest, seed = latest_time(observed), stable_seed(context.seed, "als")
    disliked = known_dislikes(context, observed)
    ratings = dislikes.learned(of_variant(merged, fill), observed, disliked, setting.dislike_weight, als.implicit)
    return fit_setting(ratings, setting, als, latest, seed, f"{context.work_dir}/mllib")


def known_dislikes(context: Context, observed: DataFrame) -> DataFrame | None:
    """Return the dislikes that the phase knows (dislikes.of_phase)."""
    return dislikes.of_phase(context.lake.read("known_dislikes"), observed, str(context.phase))


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
            rows.append((fill, "rmse", round(float(found["rmse"]), 12)))
    return rows
