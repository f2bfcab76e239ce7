"""Stage learn: measure what people did with their lists, and decide what to do next."""

from pyspark.sql import functions as F

from ganrec_spark.learning.decision import next_run
from ganrec_spark.learning.drifted import measured
from ganrec_spark.learning.effects import MISMATCH, mismatch
from ganrec_spark.learning.evidence import evidence
from ganrec_spark.learning.experiment import (
    activity_before,
    arm_pairs,
    difference_rows,
    differences,
    metric_rows,
    moments_by_group,
)
from ganrec_spark.learning.policies import policy_rows
from ganrec_spark.learning.seen import by_user, events_apart, seen
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write feedback_metrics, arm_differences, policy_estimates, drift, and next_run: what to do, and why."""
    lake, settings, arms = context.lake, context.config.learn, context.config.experiment.arms
    shown = seen(context)
    of_run = {run: F.col("run_id") == run for run in (shown.trained_run_id, shown.first_run_id)}
    segments = lake.read_runs("user_segments").where(of_run[shown.trained_run_id]).drop("run_id")
    ratings = lake.read_runs("ratings").where(of_run[shown.trained_run_id])
    earliest = lake.read_runs("ratings").where(of_run[shown.first_run_id])
    kinds = sorted(context.config.feedback.kinds)
    users = by_user(shown, kinds, settings.kind)
    found = moments_by_group(users, activity_before(earliest), segments)
    compared = differences(found, arm_pairs(arms))
    sizes = {group.arm: own.n for group, own in found.items() if (group.lists, group.segment) == ("all", "all")}
    chance = mismatch(sizes, {arm.name: arm.share for arm in arms})
    if chance < MISMATCH:
        told = ", ".join(f"{arm.name} {sizes.get(arm.name, 0)} of share {arm.share:g}" for arm in arms)
        context.warn(
            f"sample-ratio mismatch: expected users as the arms' shares, found {told} (p = {chance:.1g}); the "
            "differences mean nothing until it is known who is missing"
        )
    if shown.n_moved:
        context.log(f"{shown.n_moved} users were in several arms within learn.days: they are left out")
    before, since = events_apart(context, shown.trained_run_id)
    drift = measured(context, ratings, before, since)
    counting = [kind for kind, weight in context.config.feedback.kinds.items() if weight]
    counts = since.where(F.col("kind").isin(counting)).agg(F.count("*"), F.count_distinct("user_idx")).collect()[0]
    numbers = (counts[0], ratings.count(), counts[1])
    known = evidence(found, compared, arms, settings.kind, shown.fill, drift, chance, numbers)
    action, reason = next_run(known, settings)
    rows: dict[str, list[tuple[object, ...]]] = {
        "feedback_metrics": metric_rows(found),
        "arm_differences": difference_rows(compared, found, chance),
        "policy_estimates": policy_rows(context, shown),
        "drift": [one.row for one in drift],
        "next_run": [(action, reason, shown.trained_run_id, counts[0], counts[1])],
    }
    shown.exposures.unpersist()
    for table, own in rows.items():
        lake.write(table, lake.frame(table, own))
    return f"{sum(sizes.values())} users in {len(sizes)} arms, {counts[0]} events since; next run: {action}: {reason}"
