"""What befalls those who take events, for real: each event is there once, and each error is one line."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from spark.processes import MEETING, REPOSITORY, MovedClock, begin, kill, locked, wait_for

from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.folder import Folder
from ganrec_spark.feedback.stream import Streaming
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.store import Lake
from ganrec_spark.run import invariants

DAY = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
LOCKED_SECONDS, A_DAY = 30, 86_400
KILLS = int(os.environ.get("GANREC_KILLS", "10"))
Process = subprocess.Popen[str]
Start = Callable[..., Process]
# Says when a batch begins.
BEGUN = """
import sys
from pathlib import Path
from ganrec_spark.cli.main import main
from ganrec_spark.feedback import folder
begun, take = Path(sys.argv.pop(1)), folder.append_events
def append(*arguments):
    begun.touch()
    return take(*arguments)
folder.append_events = append
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def start(config: Config) -> Iterator[Start]:
    """Return a function that begins a command on the test's lake; who is alive at the end is killed."""
    started: list[Process] = []

    def act(*arguments: Any, **options: Any) -> Process:
        started.append(begin(config, *arguments, **options))
        return started[-1]

    yield act
    for process in started:
        if process.poll() is None:
            kill(process)


def put(folder: Path, name: str, numbers: range) -> None:
    """Let a file of so many events, and of one row that is none, appear as a whole."""
    rows = "".join(f"e{n},u{n % 50},i{n % 7},click,{DAY}\n" for n in numbers)
    hidden = folder / f".{name}"
    hidden.write_text(f"event_id,user_id,item_id,kind,timestamp\n{rows}bad{numbers.start},u1,,click,{DAY}\n")
    hidden.rename(folder / name)


def ids(lake: Lake) -> list[str]:
    return sorted(row.event_id for row in lake.read_all("feedback_events").collect())


def names(numbers: range) -> list[str]:
    return sorted(f"e{n}" for n in numbers)


def has(lake: Lake, count: int) -> bool:
    return lake.read_all("feedback_events").count() >= count


def end(process: Process) -> None:
    """End a stream as its users do: after its batch, with 0."""
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told[-5000:]
    assert "Traceback" not in told


def require_error(process: Process, words: str) -> None:
    """See a command end with exit code 4 and one line."""
    _, told = process.communicate(timeout=240)
    assert process.returncode == 4, told[-5000:]
    assert words in told.splitlines()[-1]
    assert "Traceback" not in told


def require_sound(lake: Lake) -> None:
    findings = (*invariants.dictionaries(lake)[0], *invariants.feedback_log(lake)[0])
    assert {finding.level for finding in findings} == {"ok"}, findings


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["feedback", "stream"])
def test_a_catalog_that_is_locked_for_30_seconds_is_waited_for(
    lake: Lake, config: Config, start: Start, folder: Path, tmp_path: Path, command: str
) -> None:
    put(folder, "a.csv", range(20))
    source = folder if command == "stream" else folder / "a.csv"
    process = start(command, source, code=MEETING, first=(str(tmp_path),))
    wait_for((tmp_path / "about").exists, process)
    with locked(config.lake.root):
        (tmp_path / "go").touch()
        time.sleep(LOCKED_SECONDS)
        assert not has(lake, 1)
        assert process.poll() is None
    wait_for(lambda: has(lake, 20), process)
    if command == "stream":
        put(folder, "b.csv", range(15, 30))
        wait_for(lambda: has(lake, 30), process)
        end(process)
    else:
        assert process.wait(timeout=120) == 0
    assert ids(lake) == names(range(30 if command == "stream" else 20))
    require_sound(lake)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_where_the_clock_is_set_back_by_a_day_nothing_is_taken_until_it_is_right(
    lake: Lake, start: Start, folder: Path, tmp_path: Path
) -> None:
    clock = MovedClock(tmp_path)
    put(folder, "a.csv", range(20))
    # The next batch would begin 5 s after the first one: by a clock that was set back, in a day.
    process = start("stream", folder, "stream.trigger_seconds=5.0", environment=clock.environment)
    wait_for(lambda: has(lake, 20), process)
    tables = ("feedback_events", "rejected_feedback", "users", "items")
    before = [current_snapshot(lake.spark, lake.ensure(table)) for table in tables]
    clock.set(-A_DAY)
    put(folder, "b.csv", range(20, 30))
    require_error(process, "found it set back by 86")
    for command, source in (("feedback", folder / "b.csv"), ("stream", folder)):
        process = start(command, source, environment=clock.environment)
        require_error(process, "nothing was taken: set this machine's clock (NTP)")
    assert [current_snapshot(lake.spark, lake.ensure(table)) for table in tables] == before
    clock.set(0)
    process = start("stream", folder, environment=clock.environment)
    wait_for(lambda: has(lake, 30), process)
    end(process)
    assert ids(lake) == names(range(30))
    require_sound(lake)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_of_two_streams_of_one_folder_one_ends_with_an_error_and_nothing_is_lost(
    lake: Lake, start: Start, folder: Path
) -> None:
    put(folder, "0.csv", range(10))
    both, sent = [start("stream", folder) for _ in range(2)], 10
    deadline = time.monotonic() + 300
    while all(process.poll() is None for process in both):
        assert time.monotonic() < deadline
        put(folder, f"{sent}.csv", range(sent - 3, sent + 10))
        sent += 10
        time.sleep(2)
    second, first = sorted(both, key=lambda process: process.poll() is None)
    require_error(second, "expected one stream of this source, found that another one writes there")
    put(folder, "last.csv", range(sent, sent + 10))
    wait_for(lambda: has(lake, sent + 10), first)
    end(first)
    assert ids(lake) == names(range(sent + 10))
    require_sound(lake)


def everything(lake: Lake) -> dict[str, list[tuple[object, ...]]]:
    """Return what the log, the quarantine and the dictionaries say, but for indices and times of reception."""
    users, items = lake.read_all("users"), lake.read_all("items")
    columns = ("event_id", "user_id", "item_id", "kind", "value", "ts", "edition", "rank", "arm", "propensity")
    frames = {
        "log": lake.read_all("feedback_events").join(users, "user_idx").join(items, "item_idx").select(*columns),
        "quarantine": lake.read_all("rejected_feedback").select("row_key", "rule", "row"),
        "users": users.select("user_id"),
        "items": items.select("item_id"),
    }
    return {name: sorted(map(tuple, frame.collect()), key=str) for name, frame in frames.items()}


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_stream_that_is_killed_at_random_moments_ends_as_one_that_is_not(
    spark: SparkSession, lake: Lake, config: Config, start: Start, folder: Path, tmp_path: Path
) -> None:
    chance, sent, rows, begun = random.Random(27), 0, 0, tmp_path / "begun"
    for _ in range(KILLS):
        for _ in range(3):
            numbers = range(max(0, sent - 10), sent + 40)
            put(folder, f"{sent}.csv", numbers)
            sent, rows = sent + 40, rows + len(numbers) + 1
        begun.unlink(missing_ok=True)
        process = start("stream", folder, "stream.max_files=1", code=BEGUN, first=(str(begun),))
        wait_for(begun.exists, process)
        time.sleep(chance.uniform(0, 8))
        kill(process)
    process = start("stream", folder)
    wait_for(lambda: has(lake, sent), process)
    end(process)
    assert ids(lake) == names(range(sent))
    require_sound(lake)
    calm = config.model_copy(update={"lake": config.lake.model_copy(update={"namespace": "undisturbed"})})
    stream = Streaming(calm, Folder.at(str(folder)), (), lambda: stream.taken.read >= rows)
    stream.run(spark)
    assert everything(lake) == everything(Lake(spark, "lake", "undisturbed"))


@pytest.mark.timeout(1800)
def test_a_million_events_of_one_user_are_taken_rated_and_learnt_of_with_two_gigabytes(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/one_user.py", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "| 1000000 rows read, 1000000 new events (" in done.stdout
    assert "| 1000000 rows read, 0 new events (0 of them late), 1000000 duplicates, " in done.stdout
    # Of 5,000 items, on each of which it did 200 things, ten were shown.
    assert "1000000 events, 2000 of them on what was shown; 5000 ratings of the one user" in done.stdout
