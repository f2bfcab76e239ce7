"""What benchmarks/quality.py writes of one data set: a table in Markdown, its rows in Parquet, a picture."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Measured:
    """A data set's results: cut-offs to show, the command, the stages' seconds by seed, how peers were tuned.

    `table` are the rows of `quality_summary.summary`, `fills` the rows of gate_decisions with their seed.
    """

    name: str
    ks: tuple[int, ...]
    command: str
    seconds: list[float]
    peers: list[str]
    table: pd.DataFrame
    fills: pd.DataFrame


def write(measured: Measured, out: Path) -> None:
    """Write NAME.parquet, NAME.md and NAME.svg into `out`, and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    if not measured.fills.loc[measured.fills["fill"] != "none", "accepted"].any():
        unfilled = ~measured.table["system"].str.endswith("with fill")
        measured = replace(measured, table=measured.table[unfilled])
    measured.table.to_parquet(out / f"{measured.name}.parquet", index=False)
    lines = [f"# {measured.name}", "", *_preamble(measured), ""]
    for metric in [f"{name}@{k}" for k in measured.ks for name in ("recall", "ndcg")]:
        lines += [f"## {metric}", "", *_metric(measured, metric), ""]
    lines += [f"![{measured.name}]({measured.name}.svg)", "", *_changes(measured.table), *_fills(measured.fills), ""]
    text = "\n".join(lines)
    (out / f"{measured.name}.md").write_text(text)
    picture(measured).savefig(out / f"{measured.name}.svg", metadata={"Date": None})
    print(text)


def _preamble(measured: Measured) -> Iterator[str]:
    table = measured.table
    yield f"`{measured.command}`"
    yield ""
    users = int(table.loc[table["segment"] == "all", "n_users"].iloc[0])
    taken = ", ".join(f"{value:.0f}" for value in measured.seconds)
    cores = len(os.sched_getaffinity(0))
    seeds, peer, blind = table[["seeds", "best_peer", "best_blind_peer"]].iloc[0]
    mean = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
    yield (
        f"{users} users, full catalogue ranked, {mean}. The pipeline's stages took {taken} s on {cores} cores. "
        f"Lifts: over the peer that is best on validation, paired; of those that do not see the order of ratings it is "
        f"{blind}, of all {peer}. Intervals: 95 % over users, these seeds fixed."
    )
    if seeds > 1:
        yield ""
        yield "Behind the means over all users, in brackets: the smallest and the largest of the seeds' means."
    yield ""
    yield from (f"- {line}" for line in measured.peers)


def _metric(measured: Measured, metric: str) -> Iterator[str]:
    table = measured.table
    segments = list(dict.fromkeys(table["segment"]))
    seeds, *peers = table[["seeds", "best_blind_peer", "best_peer"]].iloc[0]
    # Where no peer that sees order is better, both are the same one.
    lifts = dict(zip(peers, ("blind_lift", "lift"), strict=True))
    shown = [(segment, name) for segment in ("all", "sparse") for name in lifts.values()]
    headings = [f"{segment}, over {peer}" for segment in ("all", "sparse") for peer in lifts]
    yield "| system | " + " | ".join([*segments, *headings]) + " |"
    yield "|---" * (1 + len(segments) + len(shown)) + "|"
    rows = table[table["metric"] == metric]
    for (kind, system), own in rows.groupby(["kind", "system"], sort=False):
        cells = own.set_index("segment")
        values = [f"{cells.loc[name, 'value']:.4f}" for name in segments]
        if seeds > 1:
            values[segments.index("all")] += " ({seed_low:.4f}-{seed_high:.4f})".format(**cells.loc["all"])
        gains = [_lift(cells.loc[segment], name) if segment in cells.index else "" for segment, name in shown]
        yield f"| {system} ({kind}) | " + " | ".join([*values, *gains]) + " |"
    for entry in yaml.safe_load((Path(__file__).parent / "published.yaml").read_text()).get(measured.name, []):
        if metric in entry:
            yield (
                f"| {entry['system']} ({kinship(entry)}) | {entry[metric]:.4f} | "
                + " | " * (len(segments) + len(shown) - 2)
                + " |"
            )


def kinship(entry: dict[str, str]) -> str:
    """Return in words what a row of published.yaml shares with our file, and whether its figures were checked."""
    words = [f"published; shares {entry['shares']} with our file", *([entry["note"]] if entry.get("note") else [])]
    return "; ".join([*words, *([] if entry["read_in"] else ["figures not checked"])])


def _lift(row: pd.Series, name: str) -> str:
    value, low, high = (f"{100 * row[column]:+.1f}" for column in (name, f"{name}_low", f"{name}_high"))
    return f"{value} % [{low}, {high}]"


def _changes(table: pd.DataFrame) -> Iterator[str]:
    """Yield what the accepted fills change of test users' NDCG@10: each system with fill against itself without."""
    rows = table[(table["metric"] == "ndcg@10") & table["fill_lift"].notna()]
    rows = rows[rows["segment"].isin(("all", "sparse", "dense"))]
    if not rows["system"].str.endswith("with fill").any():
        return
    yield "## Fills on test users: change of NDCG@10 against the same lists without fill"
    yield ""
    segments = list(dict.fromkeys(rows["segment"]))
    yield "| system | " + " | ".join(segments) + " |"
    yield "|---" * (len(segments) + 1) + "|"
    for system, own in rows.groupby("system", sort=False):
        cells = own.set_index("segment")
        yield f"| {system} | " + " | ".join(_lift(cells.loc[name], "fill_lift") for name in segments) + " |"
    yield ""


def _fills(fills: pd.DataFrame) -> Iterator[str]:
    """Yield the gate's verdicts: by fill the lift of sparse validation users, each seed with its interval."""
    judged = fills[fills["fill"] != "none"]
    if fills.empty:
        yield "No fill was tried: the data set has too few sparse users."
        return
    if judged["sparse_lift"].isna().all():
        yield "No fill was judged: " + "; ".join(sorted(fills["reason"].unique())) + "."
        return
    seeds = sorted(judged["seed"].unique())
    yield "## Fills at the gate: change of NDCG@10 of sparse validation users"
    yield ""
    yield "| fill | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"
    yield "|---" * (len(seeds) + 1) + "|"
    order = judged.groupby("fill")["sparse_lift"].mean().sort_values(ascending=False).index
    for fill in order:
        rows = judged[judged["fill"] == fill].set_index("seed")
        cells = [_verdict(rows.loc[seed]) if seed in rows.index else "" for seed in seeds]
        yield f"| {fill} | " + " | ".join(cells) + " |"


def _verdict(row: pd.Series) -> str:
    value, low, high = (f"{100 * row[name]:+.1f}" for name in ("sparse_lift", "sparse_ci_low", "sparse_ci_high"))
    return f"{value} % [{low}, {high}], {row['level']}: {row['verdict'].replace('_', ' ')}"


def picture(measured: Measured) -> Figure:
    """Draw NDCG at the last cut-off of every system, for all and for sparse users, with intervals."""
    table, metric = measured.table, f"ndcg@{measured.ks[-1]}"
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, segment in zip(axes, ("all", "sparse"), strict=True):
        rows = table[(table["metric"] == metric) & (table["segment"] == segment)]
        colours = rows["kind"].map({"peer": "#999999", "member": "#56B4E9", "blend": "#0072B2"})
        spread = np.stack([rows["value"] - rows["low"], rows["high"] - rows["value"]])
        axis.barh(rows["system"], rows["value"], xerr=spread, color=colours, capsize=2)
        axis.set(title=f"{measured.name}: {segment} users", xlabel=metric.upper())
    axes[0].invert_yaxis()
    return figure
