"""The checks that publication depends on: ids, rows, lists, volume and quality of a run, each with a limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Publish
from ganrec_spark.evaluation.groups import group_gaps
from ganrec_spark.frames.kept import side_by_side
from ganrec_spark.lake.publication import of_edition, published_before
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import BLEND
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context


@dataclass(frozen=True)
class Check:
    """One quality check: `value` was found, `limit` demanded, `message` says both in words."""

    name: str
    value: float
    limit: float
    passed: bool
    message: str
    severity: str = "refuse"


def dictionary_checks(dictionaries: Mapping[str, DataFrame]) -> list[Check]:
    """Check that every id of users and items has one index, and every index one id."""
    checks = []
    for name, rows in dictionaries.items():
        kind = name.removesuffix("s")
        found = rows.agg(
            F.count("*").alias("rows"),
            F.count_distinct(f"{kind}_id").alias("ids"),
            F.count_distinct(f"{kind}_idx").alias("indices"),
        ).collect()[0]
        shared = max(found["rows"] - found["ids"], found["rows"] - found["indices"])
        message = f"shared_{kind}_indices: expected one index for each id in table {name}, found {shared} rows too many"
        advice = "" if shared == 0 else "; lists would be strangers', `ganrec doctor` says what can be done"
        checks.append(Check(f"shared_{kind}_indices", float(shared), 0.0, shared == 0, message + advice))
    return checks


def volume_checks(lake: Lake, run_id: str, recommendations: DataFrame, settings: Publish) -> list[Check]:
    """Compare how much this run read and lists with the run that was published before it.

    A run that lost much is refused (publish.min_volume_ratio); newest ratings that are older than before, or twice the
    rejects, are worth a warning.
    """
    reference = published_before(lake, run_id)
    if reference is None:
        return []
    edition = of_edition(lake, "recommendations_editions", reference)
    before, now = (_volume(lake, run) for run in (reference.run_id, run_id))
    pairs = {name: (before[name], now[name]) for name in ("users", "items", "ratings")}
    old_lists, new_lists = (frame.select("user_id").distinct().count() for frame in (edition, recommendations))
    pairs["lists"] = (old_lists, new_lists)
    checks = _warnings(before, now, reference.run_id)
    for name, (old, new) in pairs.items():
        if old:
            detail = f"{new} {name}, {old} in run {reference.run_id}, which was published before"
            checks.append(_at_least(f"volume_{name}", new / old, settings.min_volume_ratio, detail))
    return checks


def _volume(lake: Lake, run_id: str) -> dict[str, Any]:
    ratings = lake.read("ratings", run_id).agg(
        F.count("*").alias("ratings"),
        F.count_distinct("user_idx").alias("users"),
        F.count_distinct("item_idx").alias("items"),
        F.max("ts").alias("newest"),
    )
    return {**ratings.collect()[0].asDict(), "rejects": lake.read("rejected_ratings", run_id).count()}


def _warnings(before: Mapping[str, Any], now: Mapping[str, Any], published: str) -> list[Check]:
    checks = []
    if before["newest"] and now["newest"]:
        behind = (before["newest"] - now["newest"]).total_seconds() / 86400
        message = f"newest_rating: {now['newest']} UTC, in the published run {published} {before['newest']} UTC"
        checks.append(Check("newest_rating", max(behind, 0.0), 0.0, behind <= 0, message, "warn"))
    old, new = (found["rejects"] / max(1, found["rejects"] + found["ratings"]) for found in (before, now))
    limit = max(2 * old, 0.01)
    message = f"reject_share: {new:.4f} of the rows, {old:.4f} in the published run {published}"
    checks.append(Check("reject_share", new, limit, new <= limit, message, "warn"))
    return checks


def row_checks(recommendations: DataFrame, users: DataFrame, items: DataFrame, n: int) -> list[Check]:
    """Check ranks, duplicates, scores and ids of the recommended rows; every count must be 0."""
    aggregates = recommendations.agg(
        F.count("*").alias("rows"),
        F.count_distinct("user_id", "rank").alias("ranks"),
        F.count_distinct("user_id", "item_id").alias("pairs"),
        F.count_if(~F.col("rank").between(1, n)).alias("bad_ranks"),
        F.count_if(F.col("score").isNull() | F.isnan("score")).alias("bad_scores"),
    )

    def unknown(kind: str, known: DataFrame) -> int:
        return recommendations.join(known, [f"{kind}_id", f"{kind}_idx"], "left_anti").count()

    (totals, unknown_users), unknown_items = side_by_side(
        lambda: (aggregates.collect()[0], unknown("user", users)), lambda: unknown("item", items)
    )
    counts = {
        "duplicate_ranks": totals["rows"] - totals["ranks"],
        "duplicate_items": totals["rows"] - totals["pairs"],
        "ranks_out_of_range": totals["bad_ranks"],
        "scores_not_finite": totals["bad_scores"],
        "unknown_users": unknown_users,
        "unknown_items": unknown_items,
    }
    return [
        Check(name, float(count), 0.0, count == 0, f"{name}: expected 0 rows, found {count}")
        for name, count in counts.items()
    ]


def coverage_checks(
    recommendations: DataFrame, unserved: DataFrame, ratings: DataFrame, context: Context
) -> list[Check]:
    """Check that every user has n rows or a reason code, how many are served, and how much is shown."""
    n, settings = context.config.recommend.n, context.config.publish
    lists = recommendations.groupBy("user_id").agg(F.count("*").alias("n_rows"))
    coded = unserved.select("user_id", F.lit(True).alias("has_code")).distinct()
    found = lists.join(coded, "user_id", "full").agg(
        F.count("*").alias("eligible"),
        F.count("n_rows").alias("served"),
        F.count_if((F.col("n_rows") != n) & F.col("has_code").isNull()).alias("short"),
    )
    eligible, served, short = found.collect()[0]
    share = served / eligible if eligible else 0.0
    n_items = ratings.select("item_idx").distinct().count()
    coverage = recommendations.select("item_idx").distinct().count() / max(1, n_items)
    return [
        Check(
            "short_lists", float(short), 0.0, short == 0, f"short_lists: {short} users with neither {n} rows nor a code"
        ),
        _at_least("served_share", share, settings.min_served_share, f"{served} of {eligible} users have a list"),
        _at_least("catalogue_coverage", coverage, settings.min_catalogue_coverage, f"of {n_items} items"),
    ]


def metric_checks(metrics: DataFrame, published: DataFrame | None, context: Context) -> list[Check]:
    """Check the blend's NDCG against popularity of this run and against the blend of the run published before."""
    settings = context.config.publish
    here = _ndcg(metrics, settings.metric_k)
    checks = []
    if "blend" in here and here.get("popularity", 0.0) > 0:
        lift = here["blend"] / here["popularity"] - 1
        detail = f"blend {here['blend']:.4f}, popularity {here['popularity']:.4f}"
        checks.append(_at_least("lift_over_popularity", lift, settings.min_lift_over_popularity, detail))
    before = {} if published is None else _ndcg(published, settings.metric_k)
    if "blend" in here and before.get("blend", 0.0) > 0:
        ratio = here["blend"] / before["blend"]
        detail = f"NDCG@{settings.metric_k} {here['blend']:.4f}, last published {before['blend']:.4f}"
        checks.append(_at_least("metric_ratio", ratio, settings.min_metric_ratio, detail))
    return checks + _gap_checks(metrics, settings)


def _gap_checks(metrics: DataFrame, settings: Publish) -> list[Check]:
    """Check for each column of groups how far apart the blend serves them, with and without fill, by a limit."""
    limit, checks = settings.max_group_gap, []
    if limit is None:
        return []
    where = (F.col("recommender") == BLEND) & (F.col("metric") == "ndcg") & (F.col("k") == settings.metric_k)
    rows = metrics.where(where).collect()
    split = "test" if any(row.split == "test" for row in rows) else "validation"
    for fill in sorted({row.fill for row in rows}):
        for gap in group_gaps(row.asDict() for row in rows if (row.split, row.fill) == (split, fill)):
            name = f"group_gap_{gap.column}" + (f"_{fill}" if fill != NONE else "")
            message = (
                f"{name}: expected no provable gap above {limit:g} NDCG@{settings.metric_k}, found {gap.in_words()}"
            )
            checks.append(Check(name, gap.low, limit, gap.low <= limit, message))
    return checks


def published_metrics(context: Context) -> DataFrame | None:
    """Return the metrics of the run that was published before this one, or None."""
    reference = published_before(context.lake.lake, context.run_id)
    return None if reference is None else of_edition(context.lake.lake, "metrics_editions", reference)


def _ndcg(metrics: DataFrame, k: int) -> dict[str, float]:
    """Return NDCG@k over all users by recommender: on test where it was measured, else on validation."""
    rows = (
        metrics.where((F.col("metric") == "ndcg") & (F.col("k") == k) & (F.col("segment") == "all"))
        .select("recommender", "fill", "split", "value")
        .orderBy("split", "recommender", "fill")
        .collect()
    )
    split = "test" if any(row["split"] == "test" for row in rows) else "validation"
    values: dict[str, float] = {}
    for row in rows:
        if row["split"] == split:
            # With and without fill: the weaker one must hold, since either may be published.
            values[row.recommender] = min(row.value, values.get(row.recommender, row.value))
    return values


def _at_least(name: str, value: float, limit: float, detail: str) -> Check:
    message = f"{name}: expected at least {limit:g}, found {value:.4f} ({detail})"
    return Check(name, value, limit, value >= limit, message)
