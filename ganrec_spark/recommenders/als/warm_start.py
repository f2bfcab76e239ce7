"""Go on from the published run's setting and vectors, where they stand."""

from dataclasses import dataclass

from pyspark.sql import functions as F

from ganrec_spark.config.models import Als
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als.factors import AlsFactors, factors_of
from ganrec_spark.recommenders.als.search import AlsJudges, fixed_values
from ganrec_spark.recommenders.als.setting import AlsSetting
from ganrec_spark.run.context import Context
from ganrec_spark.run.warm_start import LEAST_SHARE, cannot_judge, own_base, told_apart


@dataclass(frozen=True)
class GoneOn:
    """A setting and a fit that went on from those of an earlier run, and what validation users say of it."""

    setting: AlsSetting
    fitted: AlsFactors
    ndcg: float
    base_run_id: str


def go_on(context: Context, judge: AlsJudges) -> tuple[GoneOn | None, str]:
    """Return the fit of phase choose that went on from the published run's, or None and why not in words.

    Empty words: nobody asked.
    """
    base = own_base(context)
    if base.run_id is None:
        return None, base.why
    of_base = F.col("run_id") == base.run_id
    row = context.lake.read_runs("als_choices").where(of_base & F.col("chosen")).first()
    if row is None or row.ndcg is None:
        return None, f"run {base.run_id} did not judge its setting"
    setting = AlsSetting.parsed(row.parameters)
    if why := other_settings(setting, context.config.als):
        return None, f"run {base.run_id} has other settings ({why})"
    if why := cannot_judge(context, base.run_id):
        return None, why
    start = factors_of(context.lake.read_runs("als_unfilled_factors").where(of_base))
    fitted = judge.fit(setting, context.config.als.iterations, start)
    if not fitted.went_on:
        return None, "MLlib cannot go on from vectors (als.solver, als.max_gathered_gib)"
    ndcg = float(judge.ndcg(fitted).mean())
    if ndcg < LEAST_SHARE * row.ndcg:
        least = f"less than {LEAST_SHARE:.0%} of its {row.ndcg:.4f}"
        return None, f"going on from run {base.run_id} reached validation NDCG@{JUDGED_K} {ndcg:.4f}, {least}"
    return GoneOn(setting, fitted, ndcg, base.run_id), ""


def published_factors(context: Context) -> AlsFactors | None:
    """Return the published run's vectors that phase final goes on from, without fill; None unless phase choose did."""
    chosen = context.lake.read("als_choices", "choose").where("chosen").first()
    base = own_base(context).run_id
    if base is None or chosen is None or chosen.base_run_id != base:
        return None
    own = (F.col("run_id") == base) & (F.col("phase") == "final") & (F.col("fill") == NONE)
    return factors_of(context.lake.read_runs("als_factors").where(own))


def other_settings(setting: AlsSetting, config: Als) -> str:
    """Return in words what of a setting the configuration does not allow now: another value of what it fixes."""
    fixed = fixed_values(config) | {"implicit": config.implicit}
    if told := told_apart({key: getattr(setting, key) for key in fixed}, fixed):
        return told
    if setting.embedding_size > config.max_embedding_size:
        return f"embedding_size {setting.embedding_size}, expected at most {config.max_embedding_size}"
    return ""
