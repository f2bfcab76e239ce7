"""Stage publish: check this run's rows, then show all of them to readers in one commit, or refuse."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.context import Context
from ganrec_spark.errors import QualityError
from ganrec_spark.publication import prune_editions, write_edition


@dataclass(frozen=True)
class Check:
    """One quality check: `value` was found, `limit` demanded, `message` says both in words."""

    name: str
    value: float
    limit: float
    passed: bool
    message: str


def run(context: Context) -> str:
    """Check, write the edition, move the pointer. Raises QualityError naming every check that failed."""
    lake, settings = context.lake, context.config.publish
    recommendations, unserved = lake.read("recommendations"), lake.read("unserved_users")
    checks = [
        *row_checks(recommendations, lake.read("users"), lake.read("items"), context.config.recommend.n),
        *coverage_checks(recommendations, unserved, lake.read("ratings"), context),
        *metric_checks(lake.read("metrics"), published_metrics(context), context),
    ]
    lake.write("publish_checks", lake.frame("publish_checks", [_as_row(check) for check in checks]))
    failed = [check for check in checks if not check.passed]
    if failed:
        raise QualityError(
            f"run '{context.run_id}' is not published, readers keep what they see: "
            + "; ".join(check.message for check in failed)
        )
    edition = write_edition(lake)
    published = lake.lake.published()
    if published is not None and published[0] > context.run_id:
        return (
            f"{len(checks)} checks passed; run {published[0]} is newer and stays published "
            f"(`ganrec rollback --to {context.run_id}` points back)"
        )
    moved = lake.lake.point_to(context.run_id, edition)
    prune_editions(lake.lake, settings.keep_editions)
    return f"{len(checks)} checks passed; " + (f"published edition {edition}" if moved else "already published")


def row_checks(recommendations: DataFrame, users: DataFrame, items: DataFrame, n: int) -> list[Check]:
    """Check ranks, duplicates, scores and ids of the recommended rows; every count must be 0."""
    totals = recommendations.agg(
        F.count("*").alias("rows"),
        F.count_distinct("user_id", "rank").alias("ranks"),
        F.count_distinct("user_id", "item_id").alias("pairs"),
        F.count_if(~F.col("rank").between(1, n)).alias("bad_ranks"),
        F.count_if(F.col("score").isNull() | F.isnan("score")).alias("bad_scores"),
    ).collect()[0]
    unknown_users = recommendations.join(users, ["user_id", "user_idx"], "left_anti").count()
    unknown_items = recommendations.join(items, ["item_id", "item_idx"], "left_anti").count()
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
    short = lists.where(F.col("n_rows") != n).join(unserved, "user_id", "left_anti").count()
    served = lists.count()
    eligible = lists.select("user_id").union(unserved.select("user_id")).distinct().count()
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
    """Check the blend's NDCG against popularity of this run and against the blend of the published run."""
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
    return checks


def published_metrics(context: Context) -> DataFrame | None:
    """Return the metrics of the published edition where it is of another run, else None."""
    published = context.lake.lake.published()
    if published is None or published[0] == context.run_id:
        return None
    editions = context.lake.lake.read_all("metrics_editions")
    return editions.where((F.col("run_id") == published[0]) & (F.col("edition") == published[1]))


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


def _as_row(check: Check) -> tuple[object, ...]:
    return (check.name, check.value, check.limit, check.passed, check.message)
