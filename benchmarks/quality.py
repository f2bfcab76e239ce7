"""Measure the pipeline against tuned peers on the same split: one table, one picture and one Parquet file per data set.

    .venv/bin/python benchmarks/quality.py DATASET... [--seeds 3] [--budget SECONDS] [--peers NAME...] [--work DIR]

DATASET is a folder with ratings.parquet (each user's last two ratings held out) or train.parquet and test.parquet.
For each seed the whole pipeline runs as shipped, then every peer is fitted on the same train + validation ratings and
ranks the catalogue. A peer's settings are those best on the first seed's validation ratings: a grid in random order,
then the best one's neighbours, past the grid's edge, too, for as long as the pipeline ran (or --budget, at least half
of that). The peers that see the order of ratings run in an environment of their own (`make peers`). Test ratings are
read once.

Lifts are those of a row over the peer that was best on validation, of all and of those that do not see order, per
user and averaged over seeds, with paired 95 % bootstrap intervals over users, these seeds fixed; what fills change is
measured in the same way, against the same lists without.

`--cut SHARE` cuts that share of the users to 5-10 training ratings first. `--global-time .9` splits by one moment for
all users instead (benchmarks/global_time.py); the page is then NAME-time-0.9. `--tie-ascending` takes runs of ascending
item ids for ratings of one time, whose order the pipeline draws: for sequences in which ties may be sorted by id; the
page is then NAME-tied.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from quality_data import DataSet, prepared
from quality_peers import allowed, everyone, judged, peer_lists, sequential_peers, tuned_peers
from quality_report import Measured, write
from quality_run import REPOSITORY, OfSystems, Split, finished
from quality_summary import summary
from search import Setting
from sequential import NAMES, required


def main() -> None:
    """Parse the command line; run, judge and write each data set."""
    options = _options()
    if set(options.peers) & set(NAMES):
        required()
    with tempfile.TemporaryDirectory(prefix="ganrec-quality-") as scratch:
        for folder in options.datasets:
            work = options.work or Path(scratch)
            data = prepared(folder, options.cut, work, options.global_time, options.tie_ascending)
            measure(data, work / data.name, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="of tuning a peer; the pipeline's time, and no less than half of it",
    )
    parser.add_argument("--peers", nargs="+", choices=everyone(), default=everyone(), metavar="NAME", help="only these")
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument("--cut", type=float, default=0.0, metavar="SHARE")
    changed.add_argument("--tie-ascending", action="store_true")
    changed.add_argument("--global-time", type=float, default=0.0, metavar="QUANTILE", help="of the cut, as .9")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks")
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    if set(options.peers) <= set(NAMES):
        parser.error("--peers: lifts are told over a peer that does not see order, too; popularity takes no time")
    return options


def measure(data: DataSet, work: Path, options: argparse.Namespace) -> None:
    """Run every seed of one data set, then write its table, its picture and its rows."""
    parts: list[pd.DataFrame] = []
    fills, seconds = [], []
    settings_of: dict[str, Setting] = {}
    sequential: dict[str, Any] = {}
    budget = 0.0
    told: list[str] = []
    for seed in range(options.seeds):
        run = finished(data, work, seed, options.set)
        found = run.lists
        fills.append(run.gate)
        seconds.append(run.seconds)
        # Spark has gone: EASE needs its memory.
        if not told:
            budget, words = allowed(options.budget, seconds[0])
            settings_of, lines = tuned_peers(run.split, budget, seed, options.peers)
            told = [words, *lines]
        found |= peer_lists(run.split, settings_of, seed)
        if names := [name for name in NAMES if name in options.peers]:
            folder = work.with_name(f"{data.name}-sequential")
            lists, sequential = sequential_peers(run.split, folder, seed, budget, sequential, names)
            found |= lists
        parts += metrics(found, run.split, data.ks, seed)
    told += [f"{name}: {own['told']}" for name, own in sequential.items()]
    if left_out := [name for name in everyone() if name not in options.peers]:
        told.append(f"{', '.join(left_out)}: left out by --peers")
    values = pd.concat(parts, ignore_index=True)
    table = summary(values, run.split.segments).assign(dataset=data.name, seeds=options.seeds)
    write(Measured(data.name, data.ks, command_line(options), seconds, told, table, pd.concat(fills)), options.out)


def metrics(found: OfSystems, split: Split, ks: tuple[int, ...], seed: int) -> Iterator[pd.DataFrame]:
    """Yield the metrics of every user, of each system on validation and on test."""
    for (kind, system), (validation, test) in found.items():
        for name, lists, relevant in (("validation", validation, split.validation), ("test", test, split.test)):
            yield judged(lists, relevant, ks).assign(split=name, kind=kind, system=system, seed=seed)


def command_line(options: argparse.Namespace) -> str:
    """Return the command without the folders, for the table."""
    words = ["benchmarks/quality.py", *(folder.name for folder in options.datasets), f"--seeds {options.seeds}"]
    numbers = ("budget", "cut", "global_time")
    words += [f"--{name.replace('_', '-')} {value:g}" for name in numbers if (value := getattr(options, name))]
    words += ["--tie-ascending"] if options.tie_ascending else []
    if options.peers != everyone():
        words.append(f"--peers {' '.join(map(shlex.quote, options.peers))}")
    return " ".join([*words, *(f"--set {shlex.quote(setting)}" for setting in options.set)])


if __name__ == "__main__":
    main()
