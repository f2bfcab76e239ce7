"""What benchmarks/generators.py writes: one page in Markdown and one picture of every data set measured so far."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr


def write(folder: Path) -> None:
    """Write FOLDER.md and FOLDER.svg from the rows of all data sets in `folder`, and print the page."""
    recommenders, fills = (_all(folder, kind) for kind in ("recommenders", "fills"))
    lines = [
        "# Generators: as recommenders, as fills, and the gate's verdicts",
        "",
        *_commands(recommenders, fills),
        "",
        *_recommenders(recommenders),
        "",
        *_twins(recommenders),
        "",
        *_adversarial([pd.read_parquet(path) for path in sorted(folder.glob("*.adversarial.parquet"))]),
        *_fills(fills),
        "",
        *_gate(fills),
        "",
        f"![lifts on validation and on test]({folder.name}.svg)",
        "",
    ]
    text = "\n".join(lines)
    folder.with_suffix(".md").write_text(text)
    picture(fills).savefig(folder.with_suffix(".svg"), metadata={"Date": None})
    print(text)


def _all(folder: Path, kind: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob(f"*.{kind}.parquet"))], ignore_index=True)


def _commands(recommenders: pd.DataFrame, fills: pd.DataFrame) -> Iterator[str]:
    yield "Written by, of all data sets in one page:"
    yield ""
    ranked, filled = (rows.groupby("dataset")["command"].first() for rows in (recommenders, fills))
    for dataset in sorted({*ranked.index, *filled.index}):
        told = {f"`{rows[dataset]}`": None for rows in (ranked, filled) if dataset in rows.index}
        yield f"- {dataset}: " + ", then ".join(told)


def _recommenders(rows: pd.DataFrame) -> Iterator[str]:
    yield "## As recommenders of every test user"
    yield ""
    metrics = [name for name in rows["metric"].unique() if name.startswith("ndcg")]
    metrics.sort(key=lambda name: int(name.partition("@")[2]))
    yield "| data set | generator | " + " | ".join(metrics) + " |"
    yield "|---" * (2 + len(metrics)) + "|"
    for (dataset, generator), own in rows.groupby(["dataset", "generator"]):
        values = own.set_index("metric")["value"]
        cells = [f"{values[metric]:.4f}" if metric in values.index else "" for metric in metrics]
        yield f"| {dataset} | {generator} | " + " | ".join(cells) + " |"


def _twins(rows: pd.DataFrame) -> Iterator[str]:
    yield "## Adversarial against its twin without a critic, test users paired"
    yield ""
    yield "| data set | generator | twin | change of NDCG@10 |"
    yield "|---|---|---|---|"
    for row in rows[(rows["metric"] == "ndcg@10") & rows["twin"].notna()].itertuples():
        yield f"| {row.dataset} | {row.generator} | {row.twin} | {_interval(row.lift, row.lift_low, row.lift_high)} |"


def _adversarial(tables: list[pd.DataFrame]) -> Iterator[str]:
    """Yield what benchmarks/adversarial.py found, if it ran."""
    if not tables:
        return
    yield "## Transformers whose item vectors an adversary moves, against their twins (users paired, seeds fixed)"
    yield ""
    yield "| data set | radius | twin, test | adversarial, test | change on validation | on test | seeds ahead, test |"
    yield "|---" * 7 + "|"
    for table in tables:
        validation, test = (table[table["split"] == split].iloc[0] for split in ("validation", "test"))
        changes = [_interval(row["lift"], row["lift_low"], row["lift_high"]) for row in (validation, test)]
        figures = f"{test['twin']:.4f} | {test['adversarial']:.4f} | {changes[0]} | {changes[1]}"
        yield f"| {test['dataset']} | {test['radius']:g} | {figures} | {test['seeds_ahead']} of {test['seeds']} |"
    yield ""
    yield "Written by " + ", ".join(f"`{table['command'].iloc[0]}`" for table in tables) + "."
    yield ""


def _fills(rows: pd.DataFrame) -> Iterator[str]:
    yield "## As fills: change of NDCG@10 of sparse users' lists by ALS"
    yield ""
    yield "| data set | fill | validation | test | verdict of the gate's rules |"
    yield "|---|---|---|---|---|"
    for row in rows.sort_values(["dataset", "test_sparse"], ascending=[True, False]).itertuples():
        validation = _interval(row.validation_sparse, row.validation_low, row.validation_high)
        test = _interval(row.test_sparse, row.test_low, row.test_high)
        yield f"| {row.dataset} | {row.fill} | {validation} | {test} | {row.verdict.replace('_', ' ')} |"


def _gate(rows: pd.DataFrame) -> Iterator[str]:
    yield "## Was the gate right?"
    yield ""
    heads = ("data set", "fills", "accepted", "of these test > 0", "refused", "of these test interval > 0")
    yield "| " + " | ".join((*heads, "same sign", "Spearman")) + " |"
    yield "|---" * 8 + "|"
    for dataset, own in [*rows.groupby("dataset"), ("all", rows)]:
        accepted = own["verdict"] == "accepted"
        helped, missed = (own["test_sparse"] > 0) & accepted, (own["test_low"] > 0) & ~accepted
        agreed = np.mean(np.sign(own["validation_sparse"]) == np.sign(own["test_sparse"]))
        rank = spearmanr(own["validation_sparse"], own["test_sparse"]).statistic
        yield (
            f"| {dataset} | {len(own)} | {accepted.sum()} | {helped.sum()} | {(~accepted).sum()} | {missed.sum()} "
            f"| {agreed:.0%} | {rank:.2f} |"
        )


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}]"


def picture(fills: pd.DataFrame) -> Figure:
    """Draw every fill's lift on validation against that on test, the accepted ones filled."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.axvline(0, color="#999999", linewidth=0.8)
    for number, (dataset, own) in enumerate(fills.groupby("dataset")):
        accepted = own["verdict"] == "accepted"
        for rows, face in ((own[accepted], f"C{number}"), (own[~accepted], "none")):
            x, y = 100 * rows["validation_sparse"], 100 * rows["test_sparse"]
            label = dataset if face != "none" else None
            axes.scatter(x, y, facecolors=face, edgecolors=f"C{number}", label=label)
    axes.set(xlabel="validation: change of sparse users' NDCG@10, %", ylabel="test, %")
    axes.set_title("Fills in ALS; filled marks: accepted by the gate's rules")
    axes.legend(fontsize="small")
    return figure
