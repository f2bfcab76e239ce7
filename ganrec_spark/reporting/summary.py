"""What a person sees at the end of a run: metrics, the gate's verdict, three lists, where to look further."""

import math
from collections.abc import Mapping, Sequence

from pyspark.sql import Row, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.evaluation.segments import BUCKET, in_order
from ganrec_spark.lake.files import lake_root
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import RECOMMENDERS
from ganrec_spark.reporting.answers import reason_in_words
from ganrec_spark.reporting.gather import sample_lists
from ganrec_spark.reporting.sections import user_in_words
from ganrec_spark.spark.session import spark_sql_command

Metric = Mapping[str, object]

_SHOWN = ("all", "sparse", "dense")  # beside the buckets; the report has cold users and other groups


def metrics_rows(spark: SparkSession, config: Config, run_id: str) -> list[dict[str, object]]:
    """Return every row of the run's metrics as plain values, in a fixed order; not-a-number becomes None."""
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    order = ["split", "recommender", "fill", "segment", "metric", "k"]
    rows = lake.read("metrics", run_id).orderBy(*order).collect()
    return [{key: _plain(value) for key, value in row.asDict().items()} for row in rows]


def print_summary(spark: SparkSession, config: Config, run_id: str) -> None:
    """Print the run's result to standard output."""
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    metrics = metrics_rows(spark, config, run_id)
    print("\n".join(_metric_lines(metrics, config)))
    print("\nFill: " + gate_words(lake.read("gate_decisions", run_id).collect(), lake, run_id))
    print("\n".join(_blend_lines(lake.read("blend_weights", run_id).orderBy("fill", "recommender").collect())))
    print("\n".join(_list_lines(lake, config, run_id)))
    published = lake.published()
    print(f"\nPublished run: {published.run_id or 'none'}")
    print(f"Tables: {config.lake.catalog}.{config.lake.namespace} in {lake_root(config)}")
    print(f"Report: {lake_root(config)}/reports/{run_id}.html")
    query = " \\\n    -e 'SELECT * FROM published_recommendations LIMIT 20'"
    print(f"Query them with:\n  {spark_sql_command(config, query)}")


def gate_words(decisions: Sequence[Row], lake: Lake, run_id: str) -> str:
    """Return the gate's verdict in one or two sentences."""
    if not decisions:
        profile = lake.read("matrix_profile", run_id).first()
        return f"not tried: {profile.reason if profile else 'the matrix was not profiled'}"
    accepted = [row for row in decisions if row.accepted]
    tried = [row for row in decisions if row.fill != "none"]
    if accepted and accepted[0].fill != "none":
        return f"{accepted[0].fill} accepted among {len(tried)} fills: {accepted[0].reason}"
    confirmed = [row for row in tried if row.level == "confirm"]
    best = max(confirmed or tried, key=lambda row: row.sparse_lift or -math.inf, default=None)
    words = f"nothing accepted among {len(tried)} fills"
    return words + (f"; the best was {best.fill}, refused: {best.reason}" if best else "")


def _metric_lines(metrics: Sequence[Metric], config: Config) -> list[str]:
    lines = []
    k = config.publish.metric_k
    for split in ("validation", "test"):
        chosen = [row for row in metrics if row["split"] == split and row["metric"] == "ndcg" and row["k"] == k]
        if not chosen:
            continue
        segments = _segments(chosen)
        lines += ["", f"NDCG@{k} on {split} ratings, full catalogue ranked, with 95 % intervals"]
        lines.append(f"{'recommender':12} {'fill':18}" + "".join(f"{name:>24}" for name, _ in segments))
        lines.append(f"{'':12} {'users':18}" + "".join(f"{count:>24,}" for _, count in segments))
        pairs = sorted({(str(row["recommender"]), str(row["fill"])) for row in chosen}, key=_by_recommender)
        for recommender, fill in pairs:
            cells = {
                row["segment"]: _cell(row) for row in chosen if (row["recommender"], row["fill"]) == (recommender, fill)
            }
            cell_text = "".join(f"{cells.get(name, '-'):>24}" for name, _ in segments)
            lines.append(f"{recommender:12} {fill:18}{cell_text}")
    return lines or ["", "No held-out ratings: nothing was measured."]


def _segments(rows: Sequence[Metric]) -> list[tuple[str, int]]:
    counts = {str(row["segment"]): int(str(row["n_users"])) for row in rows}
    shown = (name for name in in_order(counts) if name in _SHOWN or name.startswith(BUCKET))
    return [(name, counts[name]) for name in shown]


def _by_recommender(pair: tuple[str, str]) -> tuple[int, bool, str]:
    recommender, fill = pair
    position = RECOMMENDERS.index(recommender) if recommender in RECOMMENDERS else len(RECOMMENDERS)
    return position, fill != "none", fill


def _cell(row: Metric) -> str:
    if row["value"] is None:
        return "-"
    if row["ci_low"] is None:
        return f"{row['value']:.4f}"
    return f"{row['value']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]"


def _blend_lines(rows: Sequence[Row]) -> list[str]:
    lines = []
    for fill in sorted({row.fill for row in rows}, key=lambda fill: fill != "none"):
        mine = [row for row in rows if row.fill == fill]
        weights = ", ".join(f"{row.recommender} {row.weight:.2g}" for row in mine)
        mark = "published" if mine[0].published else "not published"
        lines.append(f"Blend with fill {fill} ({mark}): {weights}")
    return lines


def _list_lines(lake: Lake, config: Config, run_id: str) -> list[str]:
    lines = []
    for user, rows in sample_lists(lake, run_id, config):
        lines += ["", f"User {rows[0]['user_id'] if rows else '?'} ({user_in_words(user)})"]
        for row in rows[:5]:
            why = reason_in_words(row["reason"], row["because_item_id"])
            told = f"{row['item_id']}  {row['score']:.5f}  {why}  [{', '.join(row['members'])}]"
            lines.append(f"  {row['rank']:2}. {told}")
    return lines


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
