"""Stage gate: keep a fill only if it provably helps sparse users' lists by ALS and harms no one's (fills.gate)."""

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.fills.gate import (
    confirm,
    fits_with_fill,
    judged_users,
    nothing_to_prove,
    plain_als,
    screen,
    screening_and_proving,
    unjudged,
    without_fill,
)
from ganrec_spark.fills.made import made_fills, planned_fills
from ganrec_spark.fills.rules import decision_rows, refused, segment_rows, settle
from ganrec_spark.frames import dislikes
from ganrec_spark.learning.fills import refused_by_feedback
from ganrec_spark.recommenders.als.factors import AlsFactors, factor_rows
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write gate_decisions: one row per fill, `none` among them, exactly one accepted.

    Also gate_segments, who gains and who loses by each confirmed fill, finalist_ratings, and als_filled_factors.
    """
    settings = context.config.gate
    read = context.lake.read
    train = read("train_ratings")
    disliked = dislikes.of_phase(read("known_dislikes"), train, "choose")
    users = judged_users(train, read("validation_ratings"), read("user_segments"), disliked)
    screening, proving = screening_and_proving(users, context.seed)
    generated = context.lake.read("generated_ratings", "choose")
    fills, models = refused(unjudged(generated), refused_by_feedback(context)), dict[str, AlsFactors]()
    n_users, n_sparse = proving.count(), proving.where("is_sparse").count()
    n_screening = screening.where("is_sparse").count()
    if refusal := nothing_to_prove(users, n_screening, n_sparse, settings):
        judged = [item if item.verdict else replace(item, verdict=refusal[0], reason=refusal[1]) for item in fills]
    else:
        plain = plain_als(context)
        context.log(f"screening {len(fills)} fills against ALS without fill, {plain.setting.text()}")
        judged = screen(context, plain, screening, generated, fills)
        finalists = [item.fill for item in judged if not item.verdict]
        if finalists:
            context.log(f"confirming {', '.join(finalists)} by fitting ALS again")
            models = fits_with_fill(context, plain, _for_all(context, finalists), finalists)
            judged = confirm(context, plain, proving, models, judged)
        judged = settle(judged, settings)
    if not models:
        context.lake.write("finalist_ratings", context.lake.frame("finalist_ratings", []))
    judged = [*judged, without_fill(judged, refusal[1] if refusal else None)]
    context.lake.write("gate_decisions", context.lake.frame("gate_decisions", decision_rows(judged, n_sparse, n_users)))
    context.lake.write("gate_segments", context.lake.frame("gate_segments", segment_rows(judged)))
    accepted = next(item for item in judged if item.verdict == "accepted")
    _hand_over(context, accepted.fill, models.get(accepted.fill))
    return f"{len(fills)} fills; accepted: {accepted.fill}: {accepted.reason}"


def _for_all(context: Context, finalists: list[str]) -> DataFrame:
    """Write finalist_ratings, the finalists of all sparse users, as no more than a sample has been filled so far."""
    plans = [plan for plan in planned_fills(context) if plan.name in finalists]
    sparse_users = context.lake.read("user_sparsity").where("is_sparse").select("user_idx")
    context.lake.write("finalist_ratings", made_fills(context, plans, sparse_users, "choose"))
    return context.lake.read("finalist_ratings")


def _hand_over(context: Context, fill: str, model: AlsFactors | None) -> None:
    """Write als_filled_factors, so that als_choose need not fit the accepted fill again."""
    rows = context.lake.frame("als_filled_factors", [])
    if model is not None:
        rows = factor_rows(context.spark, model).withColumn("fill", F.lit(fill))
    context.lake.write("als_filled_factors", rows)
