"""A million events of one user in one file: what it costs to take them, to make ratings of them, and to learn of them.

    .venv/bin/python benchmarks/one_user.py [--events 1000000] [--items 5000] [--work DIR] [--set KEY=VALUE]

Everyone was shown a list of ten, and the one user has done something with everything else, too. Prints a row of a table
for each step: what came of it, seconds, and the most memory that the JVM had had by then (driver_memory 2g).
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from py4j.java_gateway import JavaGateway
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.log import append_events, source_rows
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.runner import run_stage, stage_context
from ganrec_spark.spark.session import build_session

_USERS, _PLACES, _ONE = 1000, 10, "u0"
_RUN = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
_EDITION = "edition"


def main() -> None:
    """Parse the command line, make the world, take the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-one-user-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        ratings = work / "ratings.csv"
        lines = [f"u{u},i{(u + k) % options.items},{3 + k % 3},2020-01-01\n" for u in range(_USERS) for k in range(5)]
        ratings.write_text("user_id,item_id,rating,timestamp\n" + "".join(lines))
        settings = ("spark.master=local[2]", "spark.driver_memory=2g", "feedback.as_ratings=true", *options.set)
        own = (f"lake.root={work / 'lake'}", f"ingest.source={ratings}")
        config = load_config(overrides=[*own, *settings], environ={})
        spark = build_session(config, "ganrec benchmark")
        try:
            steps(spark, config, work / "events.csv", options.events, options.items)
        finally:
            spark.stop()


def steps(spark: SparkSession, config: Config, file: Path, n_events: int, n_items: int) -> None:
    """Take the events, take them again, make ratings of them, learn; print what each step took."""
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    run_stage(spark, config, STAGE_BY_NAME["ingest"], _RUN)
    moment = show(lake)
    write_events(file, n_events, n_items, moment)
    received = moment + timedelta(minutes=2)

    def take() -> str:
        return append_events(lake, config, source_rows(spark, config, str(file)), received).in_words()

    def learn() -> str:
        context = stage_context(lake, config, STAGE_BY_NAME["learn"], _RUN)
        return str(importlib.import_module("ganrec_spark.stages.learn").run(context))

    print("| step | what came of it | seconds | GB |\n|---|---|---|---|", flush=True)
    told("feedback", take)
    told("the same file again", take)
    told("ingest", lambda: run_stage(spark, config, STAGE_BY_NAME["ingest"], _RUN).message)
    told("learn", learn)
    known = lake.read_all("users").where(f"user_id = '{_ONE}'").select("user_idx")
    events, ratings = lake.read_all("feedback_events"), lake.read("ratings", _RUN)
    n_shown, n_ratings = events.where("arm IS NOT NULL").count(), ratings.join(known, "user_idx").count()
    print(f"\n{events.count()} events, {n_shown} of them on what was shown; {n_ratings} ratings of the one user")


def told(step: str, act: Callable[[], str]) -> None:
    """Do it and print its row."""
    begun = time.monotonic()
    words = act()
    print(f"| {step} | {words} | {time.monotonic() - begun:.1f} | {peak_memory():.1f} |", flush=True)


def peak_memory() -> float:
    """Return the most memory, in GB, that the JVM of the session has had."""
    gateway = SparkSession.getActiveSession()._sc._gateway  # type: ignore[union-attr]
    assert isinstance(gateway, JavaGateway)  # noqa: S101
    process = gateway.jvm.java.lang.ProcessHandle.current().pid()
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def show(lake: Lake) -> datetime:
    """Publish lists of ten items for everyone, and what stage learn reads of a run beside; return a moment after it."""
    users = {row.user_id: row.user_idx for row in lake.read_all("users").collect()}
    numbers = range(_PLACES)

    def write(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, local_frame(lake.spark, declared(table).columns, rows), _RUN, phase)

    shown = [(_EDITION, u, place + 1, place, "published", 1.0, "ranked") for u in users.values() for place in numbers]
    write("exposures", shown)
    write("user_segments", [(u, "dense") for u in users.values()])
    write("blend_weights", [("none", "als", 1.0, "ranks", None, None, True)])
    for name in ("als", "popularity", "blend"):
        lists = [("none", u, [*numbers], [1.0 / (place + 1) for place in numbers]) for u in users.values()]
        write(f"{name}_candidates", [*lists], "final")
    lake.point_to(_RUN, _EDITION, lake.published())
    return datetime.fromisoformat(lake.publications()[0].committed_at).replace(tzinfo=UTC) + timedelta(seconds=1)


def write_events(file: Path, n_events: int, n_items: int, moment: datetime) -> None:
    """Write so many clicks of one user, within a minute, on one item after the other."""
    second = int(moment.timestamp())
    with file.open("w", encoding="utf-8") as out:
        out.write("event_id,user_id,item_id,kind,timestamp\n")
        out.writelines(f"e{n},{_ONE},i{n % n_items},click,{second + n % 60}\n" for n in range(n_events))


if __name__ == "__main__":
    main()
