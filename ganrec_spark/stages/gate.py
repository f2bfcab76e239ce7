"""Stage gate: keep a fill only if it provably helps sparse users' lists by ALS and harms no one's (fills.gate)."""

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.bootstrap import Lift
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
from ganrec_spark.fills.rules import Judgement, segment_rows, settle
from ganrec_spark.frames import dislikes
from ganrec_spark.recommenders.als.solver import AlsFactors, factor_rows
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write gate_decisions: one row per candidate, `none` among them, exactly one accepted.

    Also gate_segments, who gains and who loses by each confirmed candidate, and als_filled_factors.
    """
    settings = context.config.gate
    read = context.lake.read
    train = read("train_ratings")
    disliked = dislikes.of_phase(read("known_dislikes"), train, "choose")
    users = judged_users(train, read("validation_ratings"), read("user_segments"), disliked)
    screening, proving = screening_and_proving(users, context.seed)
    generated = context.lake.read("generated_ratings", "choose")
    candidates, models = unjudged(generated), dict[str, AlsFactors]()
    n_users, n_sparse = proving.count(), proving.where("is_sparse").count()
    n_screening = screening.where("is_sparse").count()
    if refusal := nothing_to_prove(users, n_screening, n_sparse, settings):
        judged = [replace(candidate, verdict=refusal[0], reason=refusal[1]) for candidate in candidates]
    else:
        plain = plain_als(context)
        context.log(f"screening {len(candidates)} candidates against ALS without fill, {plain.setting.text()}")
        judged = screen(context, plain, screening, generated, candidates)
        finalists = [item.candidate for item in judged if not item.verdict]
        if finalists:
            context.log(f"confirming {', '.join(finalists)} by fitting ALS again")
            models = fits_with_fill(context, plain, generated, finalists)
            judged = confirm(context, plain, proving, models, judged)
        judged = settle(judged, settings)
    judged = [*judged, without_fill(judged)]
    context.lake.write("gate_decisions", _rows(context, judged, n_sparse, n_users))
    context.lake.write("gate_segments", context.lake.frame("gate_segments", segment_rows(judged)))
    accepted = next(item for item in judged if item.verdict == "accepted")
    _hand_over(context, accepted.candidate, models.get(accepted.candidate))
    return f"{len(candidates)} candidates; accepted: {accepted.candidate}: {accepted.reason}"


def _hand_over(context: Context, candidate: str, model: AlsFactors | None) -> None:
    """Write als_filled_factors, so that als_choose need not fit the accepted fill again."""
    rows = context.lake.frame("als_filled_factors", [])
    if model is not None:
        rows = factor_rows(context.spark, model).withColumn("fill", F.lit(candidate))
    context.lake.write("als_filled_factors", rows)


def _rows(context: Context, judged: list[Judgement], n_sparse: int, n_users: int) -> DataFrame:
    def bounds(lift: Lift | None) -> tuple[float | None, float | None, float | None]:
        return (lift.value, lift.low, lift.high) if lift is not None else (None, None, None)

    return context.lake.frame(
        "gate_decisions",
        [
            (
                item.candidate,
                item.level,
                item.before,
                item.after,
                *bounds(item.sparse),
                *bounds(item.overall),
                item.coverage_ratio,
                n_sparse,
                n_users,
                item.verdict == "accepted",
                item.verdict,
                item.reason,
            )
            for item in judged
        ],
    )
