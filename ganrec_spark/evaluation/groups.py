"""Groups of users by an attribute: as segments of the metrics, and how far apart lists serve them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.bootstrap import bonferroni
from ganrec_spark.evaluation.segments import BUCKET

_MOST = 20  # values of a column, those that most users have
_CONFIDENCE = 0.95  # of the intervals in table metrics, and of a gap's


@dataclass(frozen=True)
class Gap:
    """How far the best served group of a column is from the worst, with an interval that holds for all of its pairs."""

    column: str
    best: str
    worst: str
    value: float
    low: float
    high: float

    def in_words(self) -> str:
        """Return it in a few words."""
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] between {self.best} and {self.worst}"


def with_groups(segments: DataFrame, attributes: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Return table user_segments with `column:value` for the values that users have of these columns.

    In: user_attributes. Users who are in no segment so far, as they have no training rating, become `cold` ones.
    Raises InputError where a column has no categories.
    """
    named = attributes.where(F.col("name").isin(list(columns)) & F.col("value").isNotNull())
    named = named.select("user_idx", "name", "value").distinct()
    counts = named.groupBy("name", "value").agg(F.count("*").alias("n"))
    place = F.row_number().over(Window.partitionBy("name").orderBy(F.desc("n"), "value"))
    kept = counts.withColumn("place", place).where(F.col("place") <= _MOST).select("name", "value").collect()
    if missing := sorted({*columns} - {row.name for row in kept}):
        raise InputError(
            f"sparsity.group_by: expected columns of ingest.users_source that hold categories or several values, found "
            f"none of the name {', '.join(map(repr, missing))}; table attribute_columns has those that were read"
        )
    values = segments.sparkSession.createDataFrame(kept, "name string, value string")
    groups = named.join(F.broadcast(values), ["name", "value"])
    groups = groups.select("user_idx", F.concat_ws(":", "name", "value").alias("segment"))
    unknown = groups.select("user_idx").distinct().join(segments, "user_idx", "left_anti")
    return segments.unionByName(groups).unionByName(unknown.withColumn("segment", F.lit("cold")))


def group_gaps(rows: Iterable[Mapping[str, Any]]) -> list[Gap]:
    """Return the gap of each column that has two groups at least, in order of the columns' names.

    In: rows of table metrics of one recommender, fill, split, metric and k, means over users. The interval is that of a
    difference of two means of other users, by Bonferroni for all pairs of a column, as the pair was chosen for its gap.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if ":" in row["segment"] and not row["segment"].startswith(BUCKET) and row["ci_low"] is not None:
            groups.setdefault(row["segment"].partition(":")[0], []).append(row)
    one = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    gaps = []
    for column, own in sorted(groups.items()):
        if len(own) < 2:
            continue
        ordered = sorted(own, key=lambda row: (row["value"], row["segment"]))
        errors = [(row["ci_high"] - row["ci_low"]) / 2 / one for row in (ordered[0], ordered[-1])]
        widened = NormalDist().inv_cdf(0.5 + bonferroni(_CONFIDENCE, len(own) * (len(own) - 1) // 2) / 2)
        half = widened * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
        value = ordered[-1]["value"] - ordered[0]["value"]
        gaps.append(Gap(column, ordered[-1]["segment"], ordered[0]["segment"], value, value - half, value + half))
    return gaps
