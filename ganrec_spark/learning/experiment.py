"""Rows of feedback_metrics and arm_differences: moments are added up by Spark, the rest is arithmetic of the driver."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.lists import PUBLISHED as LISTS_PUBLISHED
from ganrec_spark.config.lists import Arm
from ganrec_spark.evaluation.segments import with_segments
from ganrec_spark.learning.effects import EXPOSURES, METRICS, MISMATCH, Difference, difference, level
from ganrec_spark.learning.moments import Estimate, Moments
from ganrec_spark.learning.seen import ALL
from ganrec_spark.learning.summed import moments_by

# Columns of seen.by_user, and activity before, in the order of learning.effects.
_MEASURES = ("exposures", "hits", "n_lists", "gain", "active", "returned", "value", "before", "one")
DIGITS = 10  # the last bits of sums depend on the order of partitions


@dataclass(frozen=True)
class Group:
    """Whose moments: of which lists, in which arm, of which segment of users, by which kind of events."""

    lists: str
    arm: str
    segment: str
    kind: str


def activity_before(ratings: DataFrame) -> DataFrame:
    """Return (user_idx, before): the logarithm of 1 + the user's ratings. In: one row per user and item."""
    return ratings.groupBy("user_idx").agg(F.log1p(F.count("*").cast("double")).alias("before"))


def moments_by_group(users: DataFrame, before: DataFrame, segments: DataFrame) -> dict[Group, Moments]:
    """Return the moments of every group. In: seen.by_user, activity_before, table user_segments."""
    rows = with_segments(users.join(before, "user_idx", "left").fillna({"before": 0.0}), segments)
    rows = rows.withColumn("one", F.lit(1)).withColumn("segment", F.explode("segments"))
    groups = ("lists", "arm", "segment", "kind")
    return {Group(*names): own for names, own in moments_by(rows, groups, _MEASURES).items()}


def metric_rows(found: Mapping[Group, Moments]) -> list[tuple[object, ...]]:
    """Return the rows of table feedback_metrics."""
    return [
        (group.arm, group.segment, group.kind, name, *bounds(level(own, metric)), own.n, int(own.sums[EXPOSURES]))
        for group, own in _in_order(found)
        if group.lists == ALL
        for name, metric in METRICS.items()
    ]


def arm_pairs(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """Return (arm, control) of all pairs of arms, those that list what is published first, else as configured."""
    ordered = sorted(arms, key=lambda arm: arm.lists != LISTS_PUBLISHED)
    names = [arm.name for arm in ordered]
    return [(arm, control) for place, arm in enumerate(names) for control in names[place + 1 :]]


def differences(
    found: Mapping[Group, Moments], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[Group, str, str], Difference]:
    """Return (group of the arm, control, metric) -> difference, where both arms have users."""
    return {
        (group, control, name): difference(own, other, metric)
        for group, own in _in_order(found)
        for arm, control in pairs
        if arm == group.arm and (other := found.get(Group(group.lists, control, group.segment, group.kind)))
        for name, metric in METRICS.items()
    }


def difference_rows(
    compared: Mapping[tuple[Group, str, str], Difference], found: Mapping[Group, Moments], mismatch: float
) -> list[tuple[object, ...]]:
    """Return the rows of table arm_differences; none is significant where the arms' sizes do not fit their shares."""
    rows: list[tuple[object, ...]] = []
    for (group, control, name), one in compared.items():
        theirs = found[Group(group.lists, control, group.segment, group.kind)]
        value, low, high = bounds(one.estimate)
        significant = mismatch >= MISMATCH and (one.better or one.worse)
        control_value = rounded(level(theirs, METRICS[name]).value)
        numbers = (value, low, high, control_value, rounded(one.reduction), found[group].n, theirs.n)
        rows.append((group.lists, group.arm, control, group.segment, group.kind, name, *numbers, significant))
    return rows


def rounded(value: float) -> float | None:
    """Return a number as tables have it: without the bits that partitions decide, NULL where there is none."""
    return round(float(value), DIGITS) if np.isfinite(value) else None


def bounds(one: Estimate) -> tuple[float | None, float | None, float | None]:
    """Return value and bounds of an estimate as tables have them."""
    return rounded(one.value), rounded(one.low), rounded(one.high)


def _in_order(found: Mapping[Group, Moments]) -> list[tuple[Group, Moments]]:
    return sorted(found.items(), key=lambda one: (one[0].lists, one[0].arm, one[0].segment, one[0].kind))
