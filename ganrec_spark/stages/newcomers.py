"""Rank the items that nobody has rated for the users who rated items like them, where validation says that it helps."""

import json

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.attributes.describing import descriptions
from ganrec_spark.attributes.likeness import Described
from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.frames.histories import histories
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als.candidates import user_vectors
from ganrec_spark.recommenders.als.factors import factors_of
from ganrec_spark.recommenders.als.setting import chosen_setting, latest_time, objective_of, weighted
from ganrec_spark.recommenders.als.solver import fold_in_users
from ganrec_spark.recommenders.newcomers import fit
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed


def run(context: Context) -> str:
    """Write newcomers_weights and newcomers_candidates of the phase, and in phase choose newcomers_choices."""
    lake = context.lake
    found = descriptions(lake, context.config.newcomers.max_features)
    observed = lake.read("merged_ratings").where("observed")
    rated = fit.rated_items(found, observed) if found.columns else None
    if context.phase == "choose":
        values = fit.NOTHING if rated is None else fit.choose(found.columns, _rehearsal(context, rated, observed))
        lake.write("newcomers_choices", lake.frame("newcomers_choices", fit.choice_rows(values)))
    setting = _chosen(context)
    if rated is None or setting is None:
        for table in ("newcomers_weights", "newcomers_candidates"):
            lake.write(table, lake.frame(table, []))
        return "likeness helps by no more than chance" if found.columns else "no attributes of items that may be used"
    n_items = lake.write("newcomers_weights", fit.weight_rows(found, observed, rated, setting))
    n_lists = lake.write("newcomers_candidates", _candidates(context, observed, setting.taste))
    return f"{n_items} new items, {n_lists} lists; {setting.in_words()}"


def _chosen(context: Context) -> fit.Setting | None:
    row = context.lake.read("newcomers_choices", "choose").where("chosen").collect()[0]
    return fit.Setting.parsed(json.loads(row["parameters"]))


def _candidates(context: Context, observed: DataFrame, taste: float) -> DataFrame:
    factors, users = _factors(context), histories(of_listed(context, observed)).select("user_idx", "items")
    predicted = fit.predicted_of(context.lake.read("newcomers_weights"), factors_of(factors).item_slots()[0], taste)
    if taste:
        users = users.join(user_vectors(factors, NONE), "user_idx", "left")
    return fit.ranked_by(users, fit.score_of(context.spark, predicted), context.config.recommend.n_candidates)


def _rehearsal(context: Context, rated: Described, observed: DataFrame) -> fit.Rehearsal:
    als, table = context.config.als, factors_of(_factors(context)).item_slots()[0]
    setting = chosen_setting(context.lake.read("als_choices"))
    objective = objective_of(setting, als, als.iterations, stable_seed(context.seed, "als"))
    latest = latest_time(observed)

    def fold(ratings: DataFrame) -> DataFrame:
        return fold_in_users(weighted(ratings, setting, latest), table, objective)

    shrinkages = context.config.newcomers.shrinkage
    return fit.Rehearsal(rated, observed, shrinkages, table, context.seed, fold if als.implicit else None)


def _factors(context: Context) -> DataFrame:
    return context.lake.read("als_factors").where(F.col("fill") == NONE)
