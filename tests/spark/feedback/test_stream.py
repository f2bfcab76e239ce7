"""Files that come into a folder are taken batch after batch, each event once, whatever is in them and whoever dies."""

import gzip
import json
import re
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from spark.processes import begin

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.feedback import log as feedback_log
from ganrec_spark.feedback.folder import Folder
from ganrec_spark.feedback.log import Taken
from ganrec_spark.feedback.stream import Step, Streaming
from ganrec_spark.lake import events
from ganrec_spark.lake.store import Lake
from ganrec_spark.run import invariants

DAY = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
QUICK = "stream.trigger_seconds=0.0"
MakeConfig = Callable[..., Config]
Follow = Callable[..., Streaming]


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config(QUICK)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def follow(spark: SparkSession, folder: Path, config: Config) -> Follow:
    """Return a function that streams the folder until so many rows were read, or for so many seconds."""

    def run(rows: int, seconds: float = 120, then: tuple[Step, ...] = (), config: Config = config) -> Streaming:
        end = time.monotonic() + seconds

        def ended() -> bool:
            return stream.taken.read >= rows or time.monotonic() > end

        stream = Streaming(config, Folder.at(str(folder)), then, ended)
        stream.run(spark)
        return stream

    return run


def lines(numbers: range) -> str:
    return "".join(f"e{n},u{n % 5},i{n % 3},click,{DAY}\n" for n in numbers)


def put(folder: Path, name: str, content: str | bytes) -> None:
    """Let a file appear as a whole."""
    hidden = folder / f".{name}"
    hidden.write_bytes(content.encode() if isinstance(content, str) else content)
    hidden.rename(folder / name)


def csv(numbers: range) -> str:
    return "event_id,user_id,item_id,kind,timestamp\n" + lines(numbers)


def jsonl(numbers: range) -> str:
    rows = [{"event_id": f"e{n}", "user_id": f"u{n % 5}", "item_id": f"i{n % 3}", "kind": "click"} for n in numbers]
    return "".join(json.dumps({**row, "timestamp": DAY}) + "\n" for row in rows)


def ids(lake: Lake) -> list[str]:
    return sorted(row.event_id for row in lake.read_all("feedback_events").collect())


def names(numbers: range) -> list[str]:
    return sorted(f"e{n}" for n in numbers)


def test_files_of_any_form_are_taken_once_and_a_stream_goes_on_where_it_was(
    spark: SparkSession, lake: Lake, folder: Path, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ganrec")
    put(folder, "a.csv", csv(range(10)))
    put(folder, "b.csv.gz", gzip.compress(csv(range(10, 20)).encode()))
    put(folder, "c.jsonl", jsonl(range(15, 25)))
    (folder / "day=1").mkdir()
    put(folder / "day=1", "d.csv", csv(range(20, 30)))
    frame = spark.createDataFrame([(f"e{n}", f"u{n}", "i1", "click", DAY) for n in range(30, 33)])
    frame = frame.toDF("event_id", "user_id", "item_id", "kind", "timestamp").coalesce(1)
    frame.write.parquet(str(folder / "e"))
    frame.withColumnRenamed("user_id", "USER_ID").write.parquet(str(folder / "f"))
    first = follow(46)
    assert (first.taken.new, first.taken.duplicates, first.taken.rejected) == (33, 13, {})
    assert ids(lake) == names(range(33))
    assert first.checkpoint.startswith(f"{follow_root(lake)}/streams/")
    (line,) = [one for one in caplog.messages if one.startswith("batch 0: ")]
    assert re.fullmatch(r"batch 0: 46 rows read, 33 new events .*; [\d.]+ s; lag [\d.]+ s", line)
    put(folder, "g.csv", csv(range(30, 40)))
    second = follow(10)
    assert (second.batches, second.taken.new, second.taken.duplicates) == (1, 7, 3)
    assert follow(1, seconds=3).batches == 0


def follow_root(lake: Lake) -> str:
    return str(lake.spark.conf.get("spark.sql.catalog.lake.warehouse")).rpartition("/")[0]


def test_a_batch_has_at_most_so_many_files(folder: Path, follow: Follow, make_config: MakeConfig) -> None:
    for number in range(5):
        put(folder, f"{number}.csv", csv(range(number, number + 1)))
    assert follow(5, config=make_config(QUICK, "stream.max_files=2")).batches == 3


def test_poison_is_quarantined_with_rule_and_source_and_stops_nothing(lake: Lake, folder: Path, follow: Follow) -> None:
    put(folder, "binary.csv", bytes(range(256)) * 40)
    put(folder, "cut.csv.gz", gzip.compress(csv(range(5000)).encode())[:-200])
    put(folder, "no.parquet", b"PAR1 is not all that makes a file of Parquet")
    put(folder, "other_columns.csv", "a,b\n1,2\n")
    put(folder, "cut.json", '[{"user_id": "u1", "item_id": ')
    put(folder, "zipped.zip", b"PK\x03\x04 no zip")
    put(folder, "empty.csv", b"")
    put(folder, "good.csv", csv(range(10)))
    nested, digits = "[" * 5000 + "]" * 5000, "7" * 5000
    bad = [
        "no json",
        '{"user_id": {"a": 1}, "item_id": "i"}',
        nested,
        "{}",
        f'{{"user_id": {digits}}} {{"user_id": 1}}',
    ]
    text = b'{"user_id": "\xff\xfe", "item_id": "i", "kind": "click", "timestamp": "2026-11-20"}\n'
    put(folder, "mixed.jsonl", (jsonl(range(10, 12)) + "\n".join(bad) + "\n").encode() + text)
    running = follow(24)
    assert running.taken.rejected == {
        "unreadable_file": 6,
        "malformed_row": 4,
        "missing_user": 1,
        "bad_encoding": 1,
    }
    assert ids(lake) == names(range(12))
    rows = lake.read_all("rejected_feedback").collect()
    found = {Path(row.source).name for row in rows if row.rule == "unreadable_file"}
    assert found == {"binary.csv", "cut.csv.gz", "no.parquet", "other_columns.csv", "cut.json", "zipped.zip"}
    assert {Path(row.source).name for row in rows if row.rule == "malformed_row"} == {"mixed.jsonl"}
    assert all("expected" in json.loads(row.row)["error"] for row in rows if row.rule == "unreadable_file")
    assert invariants.feedback_log(lake)[0][0].level == "ok"


def test_a_failure_that_is_not_the_files_stops_the_stream_and_loses_nothing(
    lake: Lake, folder: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.csv", csv(range(4)))

    def fail(*_: object, **__: object) -> Taken:
        raise InputError("a file of the lake's is missing")

    with monkeypatch.context() as patched:
        patched.setattr("ganrec_spark.feedback.folder.append_events", fail)
        with pytest.raises(InputError, match="of the lake's"):
            follow(4)
    assert lake.read_all("rejected_feedback").count() == 0
    assert follow(4).taken.new == 4


def test_what_is_done_after_a_batch_is_done_again_where_it_failed(lake: Lake, folder: Path, follow: Follow) -> None:
    put(folder, "a.csv", csv(range(4)))
    seen: list[tuple[int, int]] = []

    def step(lake: Lake, config: Config, taken: Taken) -> str:
        seen.append((taken.new, len(ids(lake))))
        if len(seen) == 1:
            raise LakeError("refresh failed")
        return "3 lists"

    with pytest.raises(LakeError, match="refresh failed"):
        follow(4, then=(step,))
    assert follow(4, then=(step,)).taken.duplicates == 4
    assert seen == [(4, 4), (0, 4)]


def test_a_death_at_any_commit_leaves_each_event_once(
    lake: Lake, folder: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.csv", csv(range(4)) + f"e5,u1,,click,{DAY}\n")
    add, extend = events.append, Lake.extend

    def dies(when: str, table: str, write: Callable[..., int]) -> Callable[..., int]:
        def act(lake: Lake, name: str, *arguments: object, **options: object) -> int:
            if name == table and when == "before":
                raise SystemError(f"died before {table}")
            done = write(lake, name, *arguments, **options)
            if name == table:
                raise SystemError(f"died after {table}")
            return done

        return act

    for table in ("rejected_feedback", "users", "items", "feedback_events"):
        for when in ("before", "after"):
            with monkeypatch.context() as patched:
                if table in ("users", "items"):
                    patched.setattr(Lake, "extend", dies(when, table, extend))
                else:
                    patched.setattr(feedback_log.events, "append", dies(when, table, add))
                try:
                    follow(5)
                except SystemError as death:
                    assert str(death) == f"died {when} {table}"  # noqa: PT017
    assert follow(5).taken.new == 0
    assert ids(lake) == names(range(4))
    assert lake.read_all("rejected_feedback").count() == 1
    assert invariants.feedback_log(lake)[0][0].level == "ok"


def test_a_clock_that_is_set_back_while_nothing_comes_ends_the_stream(
    lake: Lake, folder: Path, follow: Follow, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.csv", csv(range(4)))
    set_back = False

    def ahead() -> float:
        return -86_400.0 if set_back else 0.0

    def step(lake: Lake, config: Config, taken: Taken) -> str:
        nonlocal set_back
        set_back = True
        return ""

    monkeypatch.setattr("ganrec_spark.feedback.stream._ahead", ahead)
    with pytest.raises(LakeError, match="set back by 86400 s; nothing more was taken"):
        follow(8, then=(step,), config=make_config("stream.trigger_seconds=3600.0"))
    assert ids(lake) == names(range(4))


def test_a_source_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    for name, found in (("a.csv", "ganrec feedback"), ("nowhere", "nothing there")):
        with pytest.raises(InputError, match=found):
            Folder.at(str(tmp_path / name))


# Runs `ganrec stream` as its users do, and dies before or after the log's commit.
KILLED = """
import os, signal, sys
from ganrec_spark.cli.main import main
from ganrec_spark.lake import events
add, when = events.append, sys.argv.pop(1)
def append(lake, table, *arguments, **options):
    if table == "feedback_events" and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = add(lake, table, *arguments, **options)
    if table == "feedback_events" and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
events.append = append
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_killed_for_real_before_and_after_the_logs_commit_and_ended_by_sigterm(
    lake: Lake, config: Config, folder: Path
) -> None:
    put(folder, "a.csv", csv(range(20)))
    for when, there in (("before", 0), ("after", 20)):
        process = begin(config, "stream", folder, code=KILLED, first=(when,))
        _, told = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, told[-3000:]
        assert len(ids(lake)) == there
    put(folder, "b.csv", csv(range(15, 30)))
    process = begin(config, "stream", folder, code=KILLED, first=("never",))
    assert process.stderr is not None
    for line in process.stderr:
        if "batch 1: " in line:
            break
    process.send_signal(signal.SIGTERM)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 0, told[-3000:]
    assert "ended after 2 batches: 35 rows read, 10 new events" in said
    assert "Traceback" not in told
    assert ids(lake) == names(range(30))
    assert invariants.feedback_log(lake)[0][0].level == "ok"
