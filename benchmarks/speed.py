"""How fast are the parts that take most of a run? Each beside a named peer, in turns in one process.

    .venv/bin/python benchmarks/speed.py RATINGS.parquet [--only top_n als catalogue readers workers] [--rounds 3]
        [--size 64] [--out DIR]

- top_n: lists of 20 of all users of the file, written to Parquet, against MLlib's recommendForAllUsers of the same
  vectors, which lists what users have rated, too.
- als: a fit of ten iterations, users' vectors included, against MLlib's.
- catalogue: a step of the Transformer with 200,000 items against one with 10,000, the same batch.
- readers: a step of the Transformer fed by Petastorm against one fed from memory.
- workers: an epoch of one Transformer by two Horovod workers of a thread against one worker of two threads.

Writes speed.md with the medians over rounds, and the smallest and largest ratio of a round.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Window
from pyspark.sql import functions as F
from speed_measures import LENGTH, LISTED, THREADS, Bench, Timed, als, catalogue, readers, top_n, workers

from ganrec_spark.config.load import load_config
from ganrec_spark.spark.session import build_session


@dataclass(frozen=True)
class Measure:
    """One row of the page: what is measured, ours and the peer's name, what makes both, and the ratio in words.

    The ratio is the peer's seconds over ours.
    """

    what: str
    ours: str
    peer: str
    make: Callable[[Bench], tuple[Timed, Timed]]
    in_words: Callable[[float], str]


MEASURES = {
    "top_n": Measure(
        f"lists of {LISTED} of all users, written",
        "rank_by, what users have rated left out",
        "MLlib recommendForAllUsers",
        top_n,
        lambda ratio: f"{ratio:.1f} times as fast",
    ),
    "als": Measure("ALS, ten iterations", "fit_als", "MLlib ALS", als, lambda ratio: f"{ratio:.1f} times as fast"),
    "catalogue": Measure(
        "steps of the Transformer",
        "the larger catalogue",
        "the smaller one",
        catalogue,
        lambda ratio: f"{1 / ratio:.2f} times the time",
    ),
    "readers": Measure(
        "steps of the Transformer",
        "fed by Petastorm",
        "fed from memory",
        readers,
        lambda ratio: f"{ratio:.0%} of the rate",
    ),
    "workers": Measure(
        "an epoch of the Transformer",
        "two Horovod workers of a thread",
        "one worker of two threads",
        workers,
        lambda ratio: f"{ratio:.0%} of the rate",
    ),
}


def main() -> None:
    """Parse the command line, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="ratings: user_id, item_id")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="of ALS's vectors")
    parser.add_argument("--steps", type=int, default=200, help="of the Transformer, an epoch")
    parser.add_argument("--items", type=int, nargs=2, default=[10_000, 200_000], help="of the two catalogues")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-speed-") as folder:
        config = load_config(overrides=[f"lake.root={folder}/lake", f"spark.master=local[{THREADS}]"], environ={})
        spark = build_session(config, "ganrec benchmark")
        try:
            source = spark.read.parquet(f"file://{options.source.resolve()}")
            places = {side: F.dense_rank().over(Window.orderBy(f"{side}_id")) - 1 for side in ("user", "item")}
            columns = [place.alias(f"{side}_idx") for side, place in places.items()]
            ratings = source.select(*columns, F.lit(1.0).alias("rating")).distinct().cache()
            found = f"{ratings.count():,} ratings"
            bench = Bench(spark, ratings, Path(folder), options)
            lines = [line for name in options.only for line in rows(name, bench)]
        finally:
            spark.stop()
    page = page_of(lines, found, options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "speed.md").write_text(page)
    print(page)


def rows(name: str, bench: Bench) -> Iterator[str]:
    """Measure ours and the peer in turns, after a first turn that warms both; yield the line of the page."""
    measure = MEASURES[name]
    both = measure.make(bench)
    taken: list[tuple[float, float]] = []
    for number in range(bench.options.rounds + 1):
        pair = both[0](), both[1]()
        taken += [pair] if number else []
        print(f"{name}, {'round ' + str(number) if number else 'warming'}: {pair}", file=sys.stderr, flush=True)
    own, peer = (statistics.median(side) for side in zip(*taken, strict=True))
    ratios = sorted(theirs / ours for ours, theirs in taken)
    ends = sorted((measure.in_words(ratio).split()[0] for ratio in (ratios[0], ratios[-1])), key=leading_number)
    yield (
        f"| {measure.what} | {measure.ours}: {own:.1f} s | {measure.peer}: {peer:.1f} s | "
        f"{measure.in_words(peer / own)} ({ends[0]} to {ends[1]}) |"
    )


def leading_number(word: str) -> float:
    """Return the number of a word such as 98%."""
    return float(word.rstrip("%"))


def page_of(lines: list[str], found: str, options: argparse.Namespace) -> str:
    """Return the page."""
    few, many = options.items
    command = [f"benchmarks/speed.py {options.source.parent.name}/{options.source.name}", f"--rounds {options.rounds}"]
    command += [f"--steps {options.steps}"]
    command += [] if options.only == list(MEASURES) else [f"--only {shlex.join(options.only)}"]
    return "\n".join(
        [
            "# How fast, beside whom",
            "",
            f"Medians of {options.rounds} rounds in which ours and the peer take turns, two cores; in brackets the "
            "smallest and the largest ratio of a round.",
            "",
            "| what | ours | beside | |",
            "|---|---|---|---|",
            *lines,
            "",
            f"ALS and lists: {found}, vectors of {options.size}. The Transformer: {options.steps} steps of 512 users "
            f"with {LENGTH} items, vectors of 64, catalogues of {few:,} and {many:,} items.",
            "",
            "```bash",
            f".venv/bin/python {' '.join(command)}",
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    main()
