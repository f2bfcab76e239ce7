"""What does each stage cost, by ratings, users and items? Worlds of growing size, from which `ganrec sizing` forecasts.

    .venv/bin/python benchmarks/scale.py [--ratings 100000 300000 1000000 3000000] [--items 20000] [--apart [300000]]
        [--work DIR] [--out DIR] [--constants FILE] [--set KEY=VALUE]

Each world (`ganrec world`) has a tenth as many users as ratings. Three more worlds, of --apart ratings, have twice the
users, three times the items, and both, so that the costs of ratings, users, items and pairs can be told apart; --apart
should be of --ratings. Every stage runs
once in each world with the cheap models of refresh.py, on two cores, in a session of its own for the world. What has
been measured is kept in --work. Writes scale.md, scale.parquet with every measurement, and --constants, what
`ganrec sizing` reads.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from process_tree import ProcessTree
from pyspark.sql import SparkSession
from refresh import CHEAP, RUN, without_work
from scale_report import constants_of, page_of

from ganrec_spark import sizing
from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.raw.large_world import LargeWorld
from ganrec_spark.run.runner import run_stage
from ganrec_spark.spark.session import build_session

USERS_SHARE = 10  # ratings a user on average
REPOSITORY = Path(__file__).resolve().parents[1]
# So that what executors count is known as soon as a stage has ended.
PROMPT = {"spark.ui.liveUpdate.period": "0"}


def main() -> None:
    """Parse the command line, measure the worlds that are not measured yet, write the page and the constants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 3_000_000])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--apart", type=int, nargs="*", default=[300_000], help="ratings of the worlds with more else")
    parser.add_argument("--work", type=Path, help="where worlds and measurements are kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks")
    parser.add_argument("--constants", type=Path, default=sizing.CONSTANTS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(LargeWorld(*options.measure), options.work, options.settings)
        return
    with tempfile.TemporaryDirectory(prefix="ganrec-scale-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        growing, apart = sizes(options)
        parts = [measured(size, work, options).assign(grows=size in growing) for size in (*growing, *apart)]
    rows = pd.concat(parts, ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(options.out / "scale.parquet")
    command = shlex.join(["benchmarks/scale.py", *without_work(sys.argv[1:], ("--work", "--out", "--constants"))])
    constants = constants_of(rows, command)
    options.constants.write_text(json.dumps(constants, indent=1) + "\n")
    page = page_of(rows, constants)
    (options.out / "scale.md").write_text(page)
    print(page)


def sizes(options: argparse.Namespace) -> tuple[list[LargeWorld], list[LargeWorld]]:
    """Return the worlds of growing size, and those with more users, more items, and both."""
    growing = [LargeWorld(ratings // USERS_SHARE, options.items, ratings) for ratings in options.ratings]
    apart = [
        LargeWorld(more_users * ratings // USERS_SHARE, more_items * options.items, ratings)
        for ratings in options.apart
        for more_users, more_items in ((2, 1), (1, 3), (2, 3))
    ]
    return growing, apart


def measured(size: LargeWorld, work: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Return a row for each stage in a world, from --work or measured in a process of its own."""
    file = rows_file(work, size)
    if not file.exists():
        ganrec = [sys.executable, "-m", "ganrec_spark.cli"]
        if not source(work, size).exists():
            words = [f"--{name}={value}" for name, value in vars(size).items()]
            master = ("--set", CHEAP[0])
            made = [*ganrec, "world", *words, *master, *of_settings(options), "--out", str(source(work, size))]
            subprocess.run(made, check=True, stdout=sys.stderr)
        numbers = map(str, (size.users, size.items, size.ratings))
        own = [sys.executable, __file__, "--work", str(work), *of_settings(options), "--measure", *numbers]
        subprocess.run(own, check=True, stdout=sys.stderr)
    world = pd.read_parquet(source(work, size), columns=["user_id", "item_id"])
    # It has about as many ratings as it was asked for, and fewer items: not all of them are rated.
    found = {"ratings": len(world), "users": world["user_id"].nunique(), "items": world["item_id"].nunique()}
    return pd.read_parquet(file).assign(**found)


def of_settings(options: argparse.Namespace) -> list[str]:
    """Return the words of the command line that pass the settings on."""
    return [word for setting in options.settings for word in ("--set", setting)]


def rows_file(work: Path, size: LargeWorld) -> Path:
    """Return where the measurements of a world are kept."""
    return work / f"{size.ratings}x{size.users}x{size.items}.measured.parquet"


def source(work: Path, size: LargeWorld) -> Path:
    """Return the folder of a world's ratings."""
    return work / f"{size.ratings}x{size.users}x{size.items}.ratings"


def measure(size: LargeWorld, work: Path, settings: Sequence[str]) -> None:
    """Run every stage in a lake of its own and keep what each took; the lake goes with the process."""
    with tempfile.TemporaryDirectory(prefix="ganrec-scale-", dir=work) as root:
        own = (f"lake.root={root}", f"ingest.source={source(work, size)}")
        config = load_config(overrides=[*CHEAP, *own, *settings], environ={})
        config.spark.properties.update(PROMPT)
        rows = pd.DataFrame(stages(config, Path(root)))
    rows.to_parquet(rows_file(work, size))


def stages(config: Config, root: Path) -> Iterator[dict[str, object]]:
    """Yield what each stage took: seconds, seconds of processors, bytes of memory, shuffles and the lake."""
    spark = build_session(config, "ganrec scale benchmark", "training")
    with ProcessTree() as tree:
        for stage in STAGES:
            before, shuffled, lake = tree.processors(), shuffle_bytes(spark), bytes_under(root)
            tree.forget_peaks()
            begun = time.monotonic()
            outcome = run_stage(spark, config, stage, RUN)
            seconds = time.monotonic() - begun
            after = tree.processors()
            words = f"{config.ingest.source}, {stage.name}: {outcome.outcome} in {seconds:.1f} s"
            print(words, file=sys.stderr, flush=True)
            yield {
                "stage": stage.name,
                "outcome": outcome.outcome,
                "seconds": seconds,
                "cpu": after.all - before.all,
                "driver_cpu": after.own - before.own,
                "shuffled": shuffle_bytes(spark) - shuffled,
                "written": bytes_under(root) - lake,
                **tree.peaks(),
            }
    spark.stop()


def shuffle_bytes(spark: SparkSession) -> int:
    """Return how many bytes this session's tasks have written to shuffles."""
    context = spark.sparkContext._jsc.sc()
    context.listenerBus().waitUntilEmpty()
    executors = context.statusStore().executorList(False)
    return sum(executors.apply(place).totalShuffleWrite() for place in range(executors.size()))


def bytes_under(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
