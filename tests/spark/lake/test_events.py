"""A log of events holds each once: delivered again, in pieces, by several writers at a time."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.errors import LakeError
from ganrec_spark.lake import events
from ganrec_spark.lake.iceberg import Conflict, current_snapshot, replace_rows
from ganrec_spark.lake.schema import local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.table import Table, columns
from ganrec_spark.plan.tables import TABLE_BY_NAME

CLICKS = Table(
    "clicks",
    "one click",
    ("event_id",),
    columns("event_id string: id\nuser_idx int: who\nday string: when"),
    scope="events",
    partition_by=("day",),
)
Make = Callable[[range], DataFrame]


@pytest.fixture
def clicks(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setitem(TABLE_BY_NAME, CLICKS.name, CLICKS)
    return lambda ids: local_frame(spark, CLICKS.columns, [(f"e{n}", n % 3, f"2026-11-0{1 + n % 2}") for n in ids])


def stored(lake: Lake) -> list[str]:
    return sorted(row.event_id for row in lake.read_all("clicks").collect())


def named(ids: range) -> list[str]:
    return sorted(f"e{n}" for n in ids)


def test_what_comes_again_adds_nothing(lake: Lake, clicks: Make) -> None:
    assert events.append(lake, "clicks", clicks(range(5))) == 5
    assert events.append(lake, "clicks", clicks(range(5))) == 0
    assert events.append(lake, "clicks", clicks(range(3, 9)).union(clicks(range(3, 9)))) == 4
    assert stored(lake) == named(range(9))
    assert lake.read_all("clicks").columns == ["event_id", "user_idx", "day"]
    assert events.append(lake, "clicks", clicks(range(0))) == 0


def test_a_log_that_is_known_to_lack_them_is_read_again_only_where_others_added(
    lake: Lake, clicks: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int | None] = []
    as_of = Lake.as_of
    monkeypatch.setattr(Lake, "as_of", lambda self, table, seen: reads.append(seen) or as_of(self, table, seen))
    assert events.append(lake, "clicks", clicks(range(3)), absent_as_of=(None,)) == 3
    before = current_snapshot(lake.spark, lake.ensure("clicks"))
    assert events.append(lake, "clicks", clicks(range(3, 5)), absent_as_of=(before,)) == 2
    assert reads == []
    assert events.append(lake, "clicks", clicks(range(3, 7)), absent_as_of=(before,)) == 2  # e3, e4 came meanwhile
    assert len(reads) == 1
    assert stored(lake) == named(range(7))


def test_of_two_that_began_with_the_same_log_each_event_is_taken_once(
    lake: Lake, clicks: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, tries = Barrier(2), itertools.count()

    def at_once(*arguments: Any, **options: Any) -> tuple[int, int]:
        if next(tries) < 2:  # the first try of each: both have read the log, neither has written
            both.wait(timeout=60)
        return replace_rows(*arguments, **options)

    assert events.append(lake, "clicks", clicks(range(1))) == 1
    monkeypatch.setattr(events, "replace_rows", at_once)
    known = (current_snapshot(lake.spark, lake.ensure("clicks")),)  # neither has looked for its own there

    def add(first: int) -> int:
        return events.append(lake, "clicks", clicks(range(first, first + 4)), absent_as_of=known)

    with ThreadPoolExecutor(2) as pool:
        added = list(pool.map(add, (1, 3)))
    assert stored(lake) == named(range(7))
    assert sorted(added) == [2, 4]
    assert next(tries) == 3  # one of them tried again


def test_who_is_always_too_late_gives_up_and_has_written_nothing(
    lake: Lake, clicks: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        raise Conflict

    monkeypatch.setattr(events, "replace_rows", too_late)
    with pytest.raises(LakeError, match="at each of 20 tries"):
        events.append(lake, "clicks", clicks(range(2)))
    assert stored(lake) == []
