"""Ask whether what is published holds its own against its best member where validation users are few.

    .venv/bin/python benchmarks/small.py FOLDER... [--subsets 4] [--first 0] [--work DIR] [--out DIR] [--set KEY=VALUE]

FOLDER is a data set as benchmarks/quality.py takes it. Each subset is a seeded draw of 300 to 1,000 of its users, on
which the whole pipeline runs as shipped. Its published lists are compared on test with every member of the blend, users
paired; the best member is the one that is best on test, which no choice by validation can know. `below` says that the
published lists are significantly worse: the 95 % interval of their lift over the best member lies below 0.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from quality_data import DataSet
from quality_peers import judged
from quality_run import finished

from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.plan.members import MEMBER_NAMES

_SAMPLES = 2000
_METRIC = "ndcg@10"


def main() -> None:
    """Parse the command line; run and judge each subset, then print and write one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--subsets", type=int, default=4, help="of each folder")
    parser.add_argument("--first", type=int, default=0, help="number of the first subset; other numbers, other users")
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "benchmarks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="ganrec-small-") as scratch:
        work = options.work or Path(scratch)
        for number in range(options.first, options.first + options.subsets):
            for folder in options.folders:
                rows.append(measured(subset(folder, number, work), work, options.set))
                print(pd.DataFrame(rows).to_string(index=False), flush=True)
    table = pd.DataFrame(rows)
    table.to_parquet(options.out / "small.parquet", index=False)
    told = f"benchmarks/small.py {' '.join(folder.name for folder in options.folders)} --subsets {options.subsets}"
    (options.out / "small.md").write_text(page(table, f"{told} --first {options.first}"))


def subset(folder: Path, number: int, work: Path) -> DataSet:
    """Return a data set of 300 to 1,000 of the folder's users, drawn by `number`, written into `work`."""
    given = (folder / "train.parquet").exists()
    parts = {
        name: pd.read_parquet(folder / f"{name}.parquet") for name in (("train", "test") if given else ("ratings",))
    }
    users = np.sort(next(iter(parts.values()))["user_id"].unique())
    rng = np.random.default_rng(number)
    drawn = rng.choice(users, min(len(users), int(rng.integers(300, 1001))), replace=False)
    name = f"{folder.name}-{number}"
    work.mkdir(parents=True, exist_ok=True)
    files = {part: work / f"{name}-{part}.parquet" for part in parts}
    for part, rows in parts.items():
        if not files[part].exists():  # written anew it would be another source, and everything would run again
            rows[rows["user_id"].isin(drawn)].to_parquet(files[part])
    settings = [f"ingest.source={files['train' if given else 'ratings']}"]
    if given:
        settings += ["split.protocol=given", f"ingest.test_source={files['test']}"]
    return DataSet(name, tuple(settings), (10,))


def measured(data: DataSet, work: Path, settings: list[str]) -> dict[str, object]:
    """Run the pipeline on a subset; return what each member and the published lists reach on test, and the lift."""
    run = finished(data, work / data.name, 0, settings)
    values = {
        name: judged(test, run.split.test, data.ks).set_index("user_idx")[_METRIC]
        for (_, name), (_, test) in run.lists.items()
    }
    return {"subset": data.name, "judges": len(run.split.validation)} | compared(values)


def compared(values: dict[str, pd.Series]) -> dict[str, object]:
    """Return the means of all members and of the published lists, the best member, and the lift over it."""
    means = {name: float(values[name].mean()) for name in (*MEMBER_NAMES, "published")}
    best = max(MEMBER_NAMES, key=lambda name: means[name])
    weights = poisson_weights(values[best].index.to_numpy(), _SAMPLES, seed=0)
    lift = relative_lift(values[best].to_numpy() @ weights, values["published"].to_numpy() @ weights, 0.95)
    return {
        "test_users": len(values[best]),
        **means,
        "best_member": best,
        "lift": lift.value,
        "low": lift.low,
        "high": lift.high,
        "below": lift.high < 0,
    }


def page(table: pd.DataFrame, command: str) -> str:
    """Return the table in Markdown."""
    lines = [
        "# Small subsets: the published lists against their best member",
        "",
        f"`{command}`",
        "",
        "NDCG@10 on test, full catalogue ranked. The published lists are significantly below the member that is best "
        f"on test in {int(table['below'].sum())} of {len(table)} subsets.",
        "",
        "| subset | judges | " + " | ".join(MEMBER_NAMES) + " | published | best member | published over it |",
        "|---" * (len(MEMBER_NAMES) + 5) + "|",
    ]
    for row in table.to_dict("records"):
        cells = " | ".join(f"{row[name]:.4f}" for name in (*MEMBER_NAMES, "published"))
        lift = f"{100 * row['lift']:+.1f} % [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        lines.append(f"| {row['subset']} | {row['judges']} | {cells} | {row['best_member']} | {lift} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
