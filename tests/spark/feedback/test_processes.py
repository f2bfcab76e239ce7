"""Processes that write at once, and one that is killed between two commits: nothing is given twice, nothing lost."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from spark.processes import MEETING, begin, locked, wait_for

from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.log import append_events, source_rows
from ganrec_spark.lake.store import Lake
from ganrec_spark.run.invariants import dictionaries, feedback_log

HEADER = "user_id,item_id,kind,timestamp\n"
# Runs `ganrec feedback` as its users do, with what is patched in before.
KILLED = """
import os, signal, sys
from ganrec_spark.cli.main import main
from ganrec_spark.lake import events
add = events.append
def append(lake, table, *arguments, **options):
    if table == "feedback_events":
        os.kill(os.getpid(), signal.SIGKILL)
    return add(lake, table, *arguments, **options)
events.append = append
sys.exit(main(sys.argv[1:]))
"""
AT_ONCE = """
import sys, time
from pathlib import Path
from ganrec_spark.cli.main import main
from ganrec_spark.lake import events, store
here, replace, met = Path(sys.argv.pop(1)), store.replace_rows, set()
def meet(frame, full_name, *arguments, **options):
    if full_name not in met:  # the first try of each table: both have read it, none has written
        met.add(full_name)
        (here / f"{full_name}.{sys.argv[0]}.{time.time_ns()}").touch()
        end = time.monotonic() + 120
        while len(list(here.glob(f"{full_name}.*"))) < 2 and time.monotonic() < end:
            time.sleep(0.05)
    return replace(frame, full_name, *arguments, **options)
store.replace_rows = events.replace_rows = meet
sys.exit(main(sys.argv[1:]))
"""


def write(path: Path, users: range) -> Path:
    path.write_text(HEADER + "".join(f"u{u},i{u % 7 + users.start},click,2026-11-20\n" for u in users))
    return path


def indices(lake: Lake, table: str) -> dict[str, int]:
    return {row[0]: row[1] for row in lake.read_all(table).collect()}


@pytest.mark.timeout(600)
def test_killed_between_dictionaries_and_log_it_goes_on_where_it_was(
    spark: SparkSession, lake: Lake, config: Config, tmp_path: Path
) -> None:
    source = write(tmp_path / "events.csv", range(20))
    with source.open("a") as file:
        file.write("u1,,click,2026-11-20\n")
    process = begin(config, "feedback", source, code=KILLED)
    _, told = process.communicate(timeout=500)
    assert process.returncode == -signal.SIGKILL, told[-3000:]
    users, items = indices(lake, "users"), indices(lake, "items")
    assert (len(users), len(items)) == (20, 7)
    assert lake.read_all("feedback_events").count() == 0
    assert lake.read_all("rejected_feedback").count() == 1
    taken = append_events(lake, config, source_rows(spark, config, str(source)))
    assert (taken.new, taken.duplicates, taken.new_users, taken.new_items) == (20, 0, 0, 0)
    assert (taken.rejected, taken.known) == ({"missing_item": 1}, 1)
    assert (indices(lake, "users"), indices(lake, "items")) == (users, items)
    assert lake.read_all("feedback_events").count() == 20
    assert lake.read_all("rejected_feedback").count() == 1
    assert feedback_log(lake)[0][0].level == "ok"


@pytest.mark.timeout(600)
def test_of_two_processes_at_once_each_id_gets_one_index_and_each_event_one_row(
    lake: Lake, config: Config, tmp_path: Path, spark: SparkSession, make_config: Callable[..., Config]
) -> None:
    for table in ("users", "items", "feedback_events", "rejected_feedback", "exposures", "current_run"):
        lake.ensure(table)
    here = tmp_path / "meeting"
    here.mkdir()
    first, second = range(60), range(30, 90)
    processes = [
        begin(config, "feedback", write(tmp_path / f"{users.start}.csv", users), code=AT_ONCE, first=(str(here),))
        for users in (first, second)
    ]
    for process in processes:
        told = process.communicate(timeout=500)
        assert process.returncode == 0, told[1][-3000:]
    # They have met before each of their first commits: both had read what the other one changed.
    assert sum(".users." in file.name for file in here.iterdir()) == 2
    users = indices(lake, "users")
    assert set(users) == {f"u{u}" for u in range(90)}
    assert sorted(users.values()) == list(range(90))
    items = indices(lake, "items")
    assert sorted(items.values()) == list(range(len(items)))
    assert [finding.level for finding in dictionaries(lake)[0]] == ["ok", "ok"]
    rows = lake.read_all("feedback_events")
    names = {index: name for name, index in users.items()}
    assert rows.count() == 120  # of the users in both files each has an event of two items
    assert {names[row.user_idx] for row in rows.collect()} == set(users)
    assert feedback_log(lake)[0][0].level == "ok"


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["feedback", "stream"])
def test_a_catalog_that_stays_locked_is_one_error_and_nothing_is_lost(
    lake: Lake, config: Config, tmp_path: Path, spark: SparkSession, command: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = write(folder / "events.csv", range(20))
    hasty = "lake.properties.uri=jdbc:sqlite:file:{root}/catalog.db?journal_mode=WAL&busy_timeout=1000"
    process = begin(
        config, command, folder if command == "stream" else source, hasty, code=MEETING, first=(str(tmp_path),)
    )
    wait_for((tmp_path / "about").exists, process)
    with locked(config.lake.root):
        (tmp_path / "go").touch()
        _, told = process.communicate(timeout=300)
        assert lake.read_all("feedback_events").count() == 0  # who reads is not kept waiting
    assert process.returncode == 4, told[-3000:]
    assert "the catalog is locked by another process" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert append_events(lake, config, source_rows(spark, config, str(source))).new == 20
    assert lake.read_all("feedback_events").count() == 20
    assert feedback_log(lake)[0][0].level == "ok"
