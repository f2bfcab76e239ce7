"""`ganrec refresh` as its users run it, on a published run: alone, two at once, locked out, during the next run."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from e2e.lakeside import LOCAL, REPOSITORY, RUN_DATE, Lakeside
from pyspark.sql import SparkSession
from spark.processes import locked

from ganrec_spark.config.load import load_config
from ganrec_spark.lake.overlay import lay_over
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import write_world
from ganrec_spark.refresh import refresh as room
from ganrec_spark.run import invariants

NEXT_DATE = "2026-11-02"
LOCKED_SECONDS = 30
N = 5
SETTINGS = (
    "lake.namespace=refreshing",
    "distributed.workers=1",
    "feedback.as_ratings=true",
    "sparsity.max_ratings=0",
    "recommend.reranker=none",
    f"recommend.n={N}",
    "rules.shown_times=1",  # the first run has shown nothing before
)
Lists = dict[str, list[tuple[str, float]]]


@pytest.fixture(scope="module")
def lakeside(lake_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Lakeside:
    source = tmp_path_factory.mktemp("world") / "ratings.parquet"
    write_world(source, users=120, items=60)
    more = [word for setting in SETTINGS for word in ("--set", setting)]
    made = Lakeside(lake_root, source, (*LOCAL, *more))
    done = made.pipeline()
    assert done.returncode == 0, done.stderr[-6000:]
    return made


@pytest.fixture
def lake(spark: SparkSession, lakeside: Lakeside) -> Lake:
    return Lake(spark, "lake", "refreshing")


def published(lake: Lake) -> tuple[str, Lists]:
    """Return what readers see at one moment: the run, and each user's list; a list is whole or there is none of it."""
    rows = lake.spark.table(lake.name("published_recommendations")).orderBy("user_id", "rank").collect()
    found: Lists = {}
    for row in rows:
        found.setdefault(row.user_id, []).append((row.item_id, row.score))
        assert row.rank == len(found[row.user_id])
    assert {len(one) for one in found.values()} == {N}
    (run_id,) = {row.run_id for row in rows}
    return run_id, found


def bought(lakeside: Lakeside, folder: Path, pairs: dict[str, str]) -> None:
    """Let `ganrec feedback` take that these users bought these items."""
    rows = [f"{user},{item},purchase,2026-11-01 20:00:00\n" for user, item in pairs.items()]
    file = folder / f"{min(pairs)}.csv"
    file.write_text("user_id,item_id,kind,timestamp\n" + "".join(rows))
    done = lakeside.ganrec("feedback", str(file))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{len(pairs)} new events" in done.stdout


def start(lakeside: Lakeside, log: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a command; what it says goes to a file."""
    command = [sys.executable, *words, *lakeside.settings()]
    with log.open("wb") as said:
        return subprocess.Popen(command, cwd=REPOSITORY, env=lakeside.surroundings(), stdout=said, stderr=said)


def require_whole(lake: Lake) -> None:
    for look in (invariants.published, invariants.exposures):
        assert [finding.level for finding in look(lake)[0]] == ["ok"]


@pytest.mark.timeout(1200)
def test_events_change_their_users_lists_and_nobody_elses(lakeside: Lakeside, lake: Lake, tmp_path: Path) -> None:
    _, before = published(lake)
    pairs = {user: before[user][0][0] for user in ("u00001", "u00002")}
    bought(lakeside, tmp_path, pairs)
    done = lakeside.ganrec("refresh")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"lists of 2 users of run {RUN_DATE} are new, overlay {lake.published().overlays[0]}" in done.stdout
    run_id, after = published(lake)
    assert run_id == RUN_DATE
    assert {user for user in before if after[user] != before[user]} == set(pairs)
    for user, item in pairs.items():
        assert item not in [listed for listed, _ in after[user]]
    require_whole(lake)
    done = lakeside.ganrec("refresh")
    assert (done.returncode, f"nothing new since what is published of run {RUN_DATE}" in done.stdout) == (0, True)


@pytest.mark.timeout(1200)
def test_two_refreshes_at_once_make_each_list_once(lakeside: Lakeside, lake: Lake, tmp_path: Path) -> None:
    _, before = published(lake)
    had = lake.published().overlays
    pairs = {user: before[user][0][0] for user in ("u00003", "u00004")}
    bought(lakeside, tmp_path, pairs)
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    both = [start(lakeside, log, "-m", "ganrec_spark.cli", "refresh") for log in logs]
    assert [process.wait(timeout=600) for process in both] == [0, 0], [log.read_text()[-3000:] for log in logs]
    assert sorted("lists of 2 users of run" in log.read_text() for log in logs) == [False, True]
    overlays = lake.published().overlays
    assert overlays[:-1] == had
    assert {row.edition for row in lake.read_all("refreshed_users").collect()} == set(overlays)  # none is left over
    _, after = published(lake)
    assert {user for user in before if after[user] != before[user]} == set(pairs)
    require_whole(lake)


@pytest.mark.timeout(1200)
def test_a_catalog_that_is_locked_for_30_seconds_is_waited_for(
    lakeside: Lakeside, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = published(lake)
    pairs = {"u00005": before["u00005"][0][0]}
    bought(lakeside, tmp_path, pairs)
    waited = []

    def lay_over_locked(*arguments: Any) -> str | None:
        with ExitStack() as lock:
            lock.enter_context(locked(lakeside.root))
            threading.Timer(LOCKED_SECONDS, lock.pop_all().close).start()
        begun = time.monotonic()
        assert published(lake) == (RUN_DATE, before)  # who reads is not kept waiting
        assert time.monotonic() - begun < LOCKED_SECONDS
        overlay = lay_over(*arguments)
        waited.append(time.monotonic() - begun)
        return overlay

    monkeypatch.setattr(room, "lay_over", lay_over_locked)
    overrides = [word for word in lakeside.settings() if word != "--set"]
    assert room.refresh(lake, load_config(overrides=overrides, environ={})).n_users == 1
    assert waited[0] > LOCKED_SECONDS - 1
    _, after = published(lake)
    assert {user for user in before if after[user] != before[user]} == set(pairs)
    require_whole(lake)


@pytest.mark.timeout(2400)
def test_refreshes_during_a_whole_run_leave_lists_whole(lakeside: Lakeside, lake: Lake, tmp_path: Path) -> None:
    _, before = published(lake)
    log = tmp_path / "run.log"
    run = start(lakeside, log, "jobs/run_pipeline.py", "--run-date", NEXT_DATE, "--verbose")
    while "] sequences" not in log.read_text():  # then it has read the events
        assert run.poll() is None, log.read_text()[-3000:]
        time.sleep(0.5)
    users = [f"u{number:05d}" for number in range(10, 40)]
    told = []
    for user in users:
        bought(lakeside, tmp_path, {user: before[user][0][0]})
        done = lakeside.ganrec("refresh")
        assert done.returncode == 0, done.stderr[-3000:]
        told.append(done.stdout)
        run_id, lists = published(lake)
        if f"of run {run_id} are new" in done.stdout:  # else it was published since
            assert before[user][0][0] not in [item for item, _ in lists[user]]
        if run.poll() is not None:
            break
    assert run.wait(timeout=1200) == 0, log.read_text()[-3000:]
    assert f"lists of 1 users of run {RUN_DATE} are new" in told[0]
    assert lakeside.ganrec("refresh").returncode == 0  # the new run may not know of some
    run_id, lists = published(lake)
    assert run_id == NEXT_DATE
    for user in users[: len(told)]:
        assert before[user][0][0] not in [item for item, _ in lists[user]]
    # What the first run listed without a click makes room (rules.shown_times).
    for user, shown in before.items():
        assert not {item for item, _ in shown} & {item for item, _ in lists[user]}
    (rule,) = lake.read("rule_checks", NEXT_DATE).where("rule = 'shown'").collect()
    assert (rule.n_changed > 0, rule.n_broken) == (True, 0)
    require_whole(lake)
    assert f"nothing new since what is published of run {NEXT_DATE}" in lakeside.ganrec("refresh").stdout
