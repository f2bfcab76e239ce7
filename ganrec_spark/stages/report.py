"""Stage report: one static HTML page with SVG figures, no scripts, nothing to download."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from ganrec_spark import figures
from ganrec_spark.context import Context
from ganrec_spark.lake_files import lake_root, write_file

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px;margin:1em 0}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;
text-align:left}svg{max-width:100%;height:auto}.no{color:#b00}h2{margin-top:2em}"""


def run(context: Context) -> str:
    """Draw the page from the run's tables and write it to lake.root/reports/RUN.html."""
    sections = [
        data_section(context),
        training_section(context),
        gate_section(context.lake.read("gate_decisions")),
        metrics_section(context.lake.read("metrics"), context.lake.read("blend_weights")),
        checks_section(context.lake.read("publish_checks")),
    ]
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>ganrec {escape(context.run_id)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>Run {escape(context.run_id)}</h1>{''.join(sections)}</body></html>"
    )
    path = f"{lake_root(context.config)}/reports/{context.run_id}.html"
    write_file(path, page.encode())
    return f"wrote {path} ({len(page) // 1024} KB)"


def data_section(context: Context) -> str:
    """Describe the matrix: its profile, the distributions, and what was rejected."""
    lake = context.lake
    profile = lake.read("matrix_profile").first()
    users = _histogram(lake.read("user_sparsity"), "n_ratings")
    popularity = lake.read("train_ratings").groupBy("item_idx").agg(F.count("*").alias("n"))
    sparse = lake.read("user_sparsity").where("is_sparse").agg(F.max("n_ratings").alias("n")).first()
    figure = figures.distributions(users, _histogram(popularity, "n"), int(sparse.n or 0) if sparse else 0)
    rejected = lake.read("rejected_ratings").groupBy("rule").count().orderBy("rule").collect()
    rows = [(name, value) for name, value in profile.asDict().items()] if profile else []
    return (
        "<h2>Data</h2>"
        + figure
        + _table(("training matrix", ""), rows)
        + (
            _table(("rejected rows: rule", "rows"), [tuple(row) for row in rejected])
            if rejected
            else "<p>No row was rejected.</p>"
        )
    )


def training_section(context: Context) -> str:
    """Draw the training curves of generators and transformer; say where nothing was trained."""
    html = "<h2>Training</h2>"
    histories = {
        "Generators": context.lake.read("generator_history"),
        "Transformer, phase choose": context.lake.read("transformer_history", phase="choose"),
        "Transformer, phase final": context.lake.read("transformer_history", phase="final"),
    }
    for title, frame in histories.items():
        curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for row in frame.orderBy("name", "model", "epoch").collect():
            if row.value is not None and math.isfinite(row.value):
                curves.setdefault(row.name, {}).setdefault(row.model, []).append((row.epoch, row.value))
        html += f"<h3>{title}</h3>" + (figures.training_curves(curves) if curves else "<p>Nothing was trained.</p>")
    return html


def gate_section(decisions: DataFrame) -> str:
    """Draw every candidate fill's lift with its interval, and the verdicts in words."""
    rows = decisions.orderBy(F.col("sparse_lift").desc_nulls_last(), "candidate").collect()
    if not rows:
        return "<h2>Gate</h2><p>No fill was tried: see the reason under Data.</p>"
    drawn = [
        (row.candidate, row.level, bool(row.accepted), (row.sparse_lift, row.sparse_ci_low, row.sparse_ci_high))
        for row in rows
        if row.candidate != "none" and _finite(row.sparse_lift, row.sparse_ci_low, row.sparse_ci_high)
    ]
    cells = [(row.candidate, row.level, row.verdict, row.reason) for row in rows]
    figure = figures.gate_lifts(drawn) if drawn else ""
    return "<h2>Gate</h2>" + figure + _table(("candidate", "level", "verdict", "reason"), cells)


def metrics_section(metrics: DataFrame, weights: DataFrame) -> str:
    """Draw NDCG@10 by segment for every recommender, before and after the fill, and list all recommenders."""
    rows = metrics.where("metric = 'ndcg'").orderBy("k", "recommender", "fill", "segment").collect()
    html = "<h2>Quality</h2>"
    cutoffs = sorted({row.k for row in rows})
    if not cutoffs:
        return html + "<p>No held-out ratings: nothing was measured.</p>"
    k = 10 if 10 in cutoffs else cutoffs[0]
    for split in ("validation", "test"):
        chosen = [row for row in rows if row.split == split and row.k == k and row.value is not None]
        if chosen:
            html += f"<h3>NDCG@{k}, {split}</h3>" + figures.metric_bars(_bars(chosen), _segments(chosen), f"NDCG@{k}")
            html += _metric_table(chosen)
    blend = weights.orderBy("fill", "recommender").collect()
    cells = [(row.fill, row.recommender, row.weight, row.validation_ndcg, row.published) for row in blend]
    return html + _table(("fill", "recommender", "weight", "blend's validation NDCG@10", "published"), cells)


def checks_section(checks: DataFrame) -> str:
    """List the quality checks that publication depended on."""
    rows = checks.orderBy("name").collect()
    return "<h2>Checks</h2>" + _table(("check", "passed", ""), [(row["name"], row.passed, row.message) for row in rows])


def _bars(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, figures.Interval]]:
    order = list(figures.COLOURS)
    pairs = {(row.recommender, row.fill) for row in rows}
    key = {pair: (order.index(pair[0]) if pair[0] in order else 99, pair[1] != "none", pair[1]) for pair in pairs}
    bars: dict[tuple[str, str], dict[str, figures.Interval]] = {pair: {} for pair in sorted(pairs, key=key.__getitem__)}
    for row in rows:
        low = row.value if row.ci_low is None else row.ci_low
        high = row.value if row.ci_high is None else row.ci_high
        bars[(row.recommender, row.fill)][row.segment] = (row.value, low, high)
    return bars


def _segments(rows: Sequence[Row]) -> list[str]:
    names = {row.segment for row in rows}
    fixed = [name for name in ("all", "sparse", "dense", "cold") if name in names]
    rest = names - set(fixed)
    return fixed + sorted(rest, key=lambda name: int("".join(ch for ch in name.split("-")[0] if ch.isdigit()) or 0))


def _metric_table(rows: Sequence[Row]) -> str:
    segments = _segments(rows)
    head = ("recommender", "fill", *segments)
    body = []
    for (recommender, fill), cells in _bars(rows).items():
        texts = ["{:.4f} [{:.4f}, {:.4f}]".format(*cells[name]) if name in cells else "" for name in segments]
        body.append((recommender, fill, *texts))
    return _table(head, body)


def _histogram(frame: DataFrame, column: str) -> dict[int, int]:
    """Return value -> number of rows; as many entries as distinct values, so small however many rows there are."""
    return {int(row[column]): int(row["count"]) for row in frame.groupBy(column).count().collect()}


def _finite(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{header}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is False:
        return "<span class='no'>no</span>"
    if value is True:
        return "yes"
    if value is None:
        return "-"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))
