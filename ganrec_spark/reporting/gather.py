"""Read what the report and the summary tell: few rows each, however large the tables are."""

import math
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.experiment.arms import arm_of
from ganrec_spark.lake.publication import of_edition, published_before
from ganrec_spark.lake.store import Lake
from ganrec_spark.reporting.answers import Facts, Row
from ganrec_spark.reporting.sections import Curves
from ganrec_spark.run.context import Context


def facts(context: Context) -> Facts:
    """Return what the report's first screen follows from."""
    read, lake, run_id = context.lake.read, context.lake.lake, context.run_id
    before = published_before(lake, run_id)
    shown = next(iter(lake.publications()), None)
    profile = read("matrix_profile").first()
    weights = read("blend_weights").where("published").first()
    metrics = rows(read("metrics").where("metric = 'ndcg'"), "k", "recommender", "fill", "segment")
    wanted = context.config.publish.metric_k
    return Facts(
        run_id=run_id,
        shown_run=shown.run_id if shown else None,
        shown_since=str(shown.committed_at)[:16] if shown else "",
        n_lists=read("recommendations").select("user_idx").distinct().count(),
        k=min({row["k"] for row in metrics}, key=lambda k: abs(k - wanted), default=wanted),
        metrics=metrics,
        metrics_before=rows(of_edition(lake, "metrics_editions", before).where("metric = 'ndcg'")) if before else (),
        run_before=before.run_id if before else None,
        decisions=rows(read("gate_decisions"), F.col("sparse_lift").desc_nulls_last(), "fill"),
        fill_segments=rows(read("published_fill_segments"), "fill", "segment"),
        published_fill=str(weights.fill) if weights else "none",
        no_filling=str(profile.reason) if profile else "the matrix was not profiled",
        rejected=_counts(read("rejected_ratings"), "rule"),
        n_ratings=read("ratings").count(),
        unserved=_counts(read("unserved_users"), "code"),
        checks=rows(read("publish_checks"), "name"),
        collapsed=_collapsed(read("generator_checkpoints")),
    )


def curves(context: Context) -> dict[str, Curves]:
    """Return by title the training curves of generators and Transformer: value name -> model -> (epoch, value)."""
    read = context.lake.read
    histories = {
        "Generators": read("generator_history"),
        "Transformer, phase choose": read("transformer_history", phase="choose"),
        "Transformer, phase final": read("transformer_history", phase="final"),
    }
    found: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = {}
    for title, frame in histories.items():
        own = found.setdefault(title, {})
        for row in frame.orderBy("name", "model", "epoch").collect():
            if row.value is not None and math.isfinite(row.value):
                own.setdefault(row.name, {}).setdefault(row.model, []).append((row.epoch, row.value))
    return dict(found)


def sample_lists(lake: Lake, run_id: str, config: Config) -> list[tuple[Row, list[Row]]]:
    """Return a few users with their lists, the first one sparse if there is any; the same ones at every call.

    Where there is an experiment, a user has `arm`, too.
    """
    n, experiment = config.report.sample_users, config.experiment
    recommendations = lake.read("recommendations", run_id)
    users = lake.read("user_sparsity", run_id).join(recommendations.select("user_idx").distinct(), "user_idx")
    order = [F.xxhash64("user_idx"), F.col("user_idx")]
    sparse = rows(users.where("is_sparse").orderBy(*order).limit(min(1, n)))
    others = rows(users.where("NOT is_sparse").orderBy(*order).limit(n - len(sparse)))
    chosen = [*sparse, *others]
    wanted = recommendations.where(F.col("user_idx").isin([user["user_idx"] for user in chosen]))
    listed = rows(wanted, "user_idx", "rank")
    samples = [(user, [row for row in listed if row["user_idx"] == user["user_idx"]]) for user in chosen]
    if experiment.is_default:
        return samples
    return [({**user, "arm": arm_of(own[0]["user_id"], experiment)}, own) for user, own in samples]


def histogram(frame: DataFrame, column: str) -> dict[int, int]:
    """Return value -> number of rows; as many entries as distinct values, so small however many rows there are."""
    return {int(row[column]): int(row["count"]) for row in frame.groupBy(column).count().collect()}


def rows(frame: DataFrame, *order: Any) -> list[Row]:
    """Return the frame's rows in order, each as a mapping."""
    return [row.asDict() for row in (frame.orderBy(*order) if order else frame).collect()]


def _counts(frame: DataFrame, column: str) -> dict[str, int]:
    return {str(row[column]): int(row["count"]) for row in frame.groupBy(column).count().collect()}


def _collapsed(checkpoints: DataFrame) -> Sequence[str]:
    told = checkpoints.where("part = 0").select(
        "generator", F.get_json_object("card", "$.collapsed").alias("collapsed")
    )
    return [row.generator for row in told.where("collapsed = 'true'").orderBy("generator").collect()]
