"""Fit ALS on the merged ratings with the chosen setting and rank the whole catalogue for users."""

from dataclasses import replace
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.fills.ratings import fill_variants, kept_by_others, of_variant
from ganrec_spark.frames import dislikes, ignored
from ganrec_spark.frames.histories import histories
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als.candidates import candidates, error_rows, user_vectors
from ganrec_spark.recommenders.als.factors import AlsFactors, factor_rows, factors_of
from ganrec_spark.recommenders.als.setting import chosen_setting, fit_setting, latest_time
from ganrec_spark.recommenders.als.warm_start import published_factors
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed


def run(context: Context) -> str:
    """Write als_factors, als_candidates and als_quality of the phase."""
    lake, n = context.lake, context.config.recommend.n_candidates
    merged = lake.read("merged_ratings")
    fills = fill_variants(merged)
    fits = {fill: _of_listed(context, fit(context, merged, fill)) for fill in fills}
    rows = [factor_rows(context.spark, fitted).withColumn("fill", F.lit(fill)) for fill, fitted in fits.items()]
    lake.write("als_factors", reduce(DataFrame.unionAll, rows))
    written, observed = lake.read("als_factors"), merged.where("observed")
    own = histories(of_listed(context, observed))
    seen = dislikes.never_listed(own, known_dislikes(context, observed))
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
    told += ", from the published run's vectors" if any(fitted.went_on for fitted in fits.values()) else ""
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
    observed, als = merged.where("observed"), context.config.als
    latest, seed = latest_time(observed), stable_seed(context.seed, "als")
    disliked = known_dislikes(context, observed)
    ratings = dislikes.learned(of_variant(merged, fill), observed, disliked, setting.dislike_weight, als.implicit)
    shown = ignored.of_phase(context.lake.read("known_ignored"), observed, str(context.phase))
    ratings = ignored.learned(ratings, observed, shown, setting.ignored_weight, als.implicit)
    start = published_factors(context) if context.phase == "final" else None
    return fit_setting(ratings, setting, als, latest, seed, f"{context.work_dir}/mllib", start)


def _of_listed(context: Context, fitted: AlsFactors) -> AlsFactors:
    """Return the fit with the vectors of those alone whose lists the phase makes; nobody reads others'."""
    return replace(fitted, user_rows=of_listed(context, fitted.users))


def known_dislikes(context: Context, observed: DataFrame) -> DataFrame | None:
    """Return the dislikes that the phase knows (dislikes.of_phase)."""
    return dislikes.of_phase(context.lake.read("known_dislikes"), observed, str(context.phase))
