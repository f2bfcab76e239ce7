"""Processes that ingest, publish and roll back at random moments and are killed at random: what must hold afterwards.

    .venv/bin/python benchmarks/chaos.py [--rounds 200] [--seed 0] [--work DIR]

A round starts two to four processes at once on one lake (SQLite): ingests of a few dates from files that share ids,
publications of small runs, rollbacks. Some are killed (SIGKILL) at a random moment. After all rounds: every id has one
index and every index one id; the ratings of a date are those of its file, or none, once its ingest is called
again; what readers see is whole and has been published; the pointer went back by rollbacks alone; nobody is left at
work. Prints what ended how, and the invariants; exit code 1 where one is broken.
"""

import argparse
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import GanrecError
from ganrec_spark.lake.publication import roll_back, stored_editions
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.run.doctor import examine
from ganrec_spark.run.runner import run_stage
from ganrec_spark.spark.session import build_session
from ganrec_spark.stages import publish

_DATES = [f"2026-11-0{day}" for day in range(1, 6)]
_USERS, _ITEMS = 40, 25
_EXPECTED_CODES = {0, 4, 6, -signal.SIGKILL}
_STAMP = datetime(2026, 1, 1)


def main() -> None:
    """Parse the command line; run the rounds, or, with --do, one process of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--do", nargs=2, metavar=("ACTION", "DATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        sys.exit(act(options.work, *options.do))
    with tempfile.TemporaryDirectory(prefix="ganrec-chaos-") as scratch:
        work = options.work or Path(scratch)
        ended = rounds(work, options.rounds, options.seed)
        broken = invariants(work)
    print(", ".join(f"{action} {code}: {count}" for (action, code), count in sorted(ended.items(), key=str)))
    odd = sorted({code for _, code in ended if code not in _EXPECTED_CODES})
    broken += [f"a process ended with exit code {code}" for code in odd]
    print("\n".join(broken) or "every invariant holds")
    sys.exit(1 if broken else 0)


def rounds(work: Path, n: int, seed: int) -> Counter[tuple[str, int]]:
    """Run the rounds; return (action, exit code) -> how many processes ended so."""
    rng, ended = random.Random(seed), Counter[tuple[str, int]]()
    for date in _DATES:
        write_ratings(work, date)
    for number in range(n):
        chosen = [
            (rng.choice(["ingest", "ingest", "publish", "rollback"]), rng.choice(_DATES))
            for _ in range(rng.randint(2, 4))
        ]
        started = [(action, start(work, action, date)) for action, date in chosen]
        doomed = [process for _, process in started if rng.random() < 0.4]
        moments = sorted(((rng.uniform(2, 14), process) for process in doomed), key=lambda pair: pair[0])
        begun = time.monotonic()
        for moment, process in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            process.kill()
        codes = [(action, process.wait()) for action, process in started]
        ended.update(codes)
        print(f"round {number + 1}: " + ", ".join(f"{action} {code}" for action, code in codes), file=sys.stderr)
    return ended


def start(work: Path, action: str, date: str) -> "subprocess.Popen[bytes]":
    """Start one process; what it says is kept for those who look into a failure."""
    log = (work / "log.txt").open("ab")
    command = [sys.executable, __file__, "--work", str(work), "--do", action, date]
    return subprocess.Popen(command, stdout=log, stderr=log)


def act(work: Path, action: str, date: str) -> int:
    """Do one thing in this process; return its exit code."""
    config = settings(work, date)
    spark = build_session(config, f"chaos {action}")
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        if action == "ingest":
            run_stage(spark, config, STAGE_BY_NAME["ingest"], date)
        elif action == "publish":
            publish_small(lake, config, date)
        else:
            told(work, "rollback", date)  # before it, for a process that is killed could not say so afterwards
            roll_back(lake)
    except GanrecError as error:
        print(f"{action} {date}: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        spark.stop()
    return 0


def settings(work: Path, date: str) -> Config:
    """Return the configuration of a date's run on the lake in `work`."""
    quick = "spark.driver.extraJavaOptions: '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC'"
    fixed = [f"lake.root={work / 'lake'}", "spark.master=local[1]", "spark.shuffle_partitions=1"]
    source = f"ingest.source={work / f'{date}.csv'}"
    more = [
        "spark.driver_memory=700m",
        "distributed.workers=1",
        "lake.wait_seconds=5",
        "publish.min_volume_ratio=0",
        f"spark.properties={{{quick}}}",
    ]
    return load_config(overrides=[*fixed, source, *more], environ={})


def write_ratings(work: Path, date: str) -> None:
    """Write the date's file: its users and items overlap with other dates'."""
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(date)
    users, items = (rng.sample(range(2 * n), n) for n in (_USERS, _ITEMS))
    rows = [
        f"u{user},i{item},{rng.randint(1, 5)},{1_700_000_000 + user}"
        for user in users
        for item in items[: user % 7 + 1]
    ]
    (work / f"{date}.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")


def publish_small(lake: Lake, config: Config, date: str) -> None:
    """Publish a run of a few lists, made up here: its earlier stages are not what is tried."""
    stage = STAGE_BY_NAME["publish"]
    staged = StageLake(lake, date, stage.name, None, stage.reads, stage.writes)
    names = {kind: lake.read_all(f"{kind}s").orderBy(f"{kind}_idx").limit(12).collect() for kind in ("user", "item")}
    if min(map(len, names.values())) < 12:
        return  # nothing was ingested yet
    shift = int(time.time()) % 12
    rows = [
        (user.user_id, rank, item.item_id, 1.0 / rank, ["als"], "similar_users", None, user.user_idx, item.item_idx)
        for user in names["user"]
        for rank in range(1, 11)
        for item in [names["item"][(rank + shift) % 12]]
    ]
    metric = [("blend", "none", "test", "all", "ndcg", 10, 0.2, 0.2, 0.2, 12)]
    ratings = [
        (user.user_idx, item.item_idx, 5.0, _STAMP, "source") for user in names["user"] for item in names["item"]
    ]
    for table, content in (
        ("recommendations", rows),
        ("metrics", metric),
        ("unserved_users", []),
        ("gate_decisions", []),
    ):
        lake.replace(table, staged.frame(table, content), date)
    if lake.read("ratings", date).isEmpty():
        lake.replace("ratings", staged.frame("ratings", ratings), date)
    publish.run(Context(lake.spark, config, staged, date, None, ""))
    told(Path(config.lake.root).parent, "publish", date)


def told(work: Path, action: str, run_id: str) -> None:
    """Note what a process that was not killed has done, with the time."""
    with (work / "done.jsonl").open("a") as file:
        file.write(json.dumps([datetime.now(UTC).isoformat(), action, run_id]) + "\n")


def invariants(work: Path) -> list[str]:
    """Return in words which invariants are broken."""
    broken = []
    config = settings(work, _DATES[0])
    spark = build_session(config, "chaos: invariants")
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        # Whatever died half-way is done again, as a retry would; a dead process must not stop it.
        for date in _DATES:
            run_stage(spark, settings(work, date), STAGE_BY_NAME["ingest"], date)
            broken += wrong_ratings(spark, lake, work, date)
        shown = lake.published()
        if shown.run_id is not None and (shown.run_id, shown.edition) not in stored_editions(lake):
            broken.append(f"readers see run {shown.run_id}, edition {shown.edition}, which has no rows")
        broken += went_back(lake, work)
        findings, _ = examine(config)
        broken += [f"doctor: {finding}" for finding in findings if finding.level == "fail"]
    finally:
        spark.stop()
    return broken


def wrong_ratings(spark: SparkSession, lake: Lake, work: Path, date: str) -> list[str]:
    """Compare the date's ratings with its file, id by id."""
    users, items = lake.read_all("users"), lake.read_all("items")
    found = lake.read("ratings", date).join(users, "user_idx").join(items, "item_idx")
    rows = sorted((row.user_id, row.item_id, row.rating) for row in found.collect())
    lines = (work / f"{date}.csv").read_text().splitlines()[1:]
    expected = sorted((user, item, float(rating)) for user, item, rating, _ in (line.split(",") for line in lines))
    return [] if rows == expected else [f"run {date}: {len(rows)} ratings, not the {len(expected)} of its file"]


def went_back(lake: Lake, work: Path) -> list[str]:
    """Return where the pointer moved to an older run though nobody rolled back at that time."""
    log = work / "done.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    moments = [datetime.fromisoformat(when) for when, action, _ in done if action == "rollback"]
    history = list(reversed(lake.publications()))
    broken = []
    for before, after in itertools.pairwise(history):
        if after.run_id < before.run_id:
            at = datetime.fromisoformat(after.committed_at).replace(tzinfo=UTC)
            if not any(timedelta(0) <= at - moment < timedelta(seconds=60) for moment in moments):
                broken.append(f"the pointer went from {before.run_id} to {after.run_id} at {after.committed_at}")
    return broken


if __name__ == "__main__":
    main()
