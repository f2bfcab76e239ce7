"""Overlays: readers see the newest lists of each user, all of one moment, and the way back leads over them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError, QualityError
from ganrec_spark.lake.overlay import OVERLAID, compact, lay_over
from ganrec_spark.lake.pointer import show
from ganrec_spark.lake.publication import (
    of_edition,
    prune_editions,
    prune_exposures,
    roll_back,
    shown_since,
    stored_editions,
)
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake, Publication
from ganrec_spark.plan.tables import EDITED
from ganrec_spark.run import invariants

RUN, NEXT = "2026-11-01", "2026-11-02"
Lists = Mapping[int, str]  # user -> the letter of their items; "" is a user without a list


def frame(lake: Lake, table: str, rows: list[tuple[object, ...]]) -> DataFrame:
    return local_frame(lake.spark, declared(table).columns, rows)


def made(lake: Lake, lists: Lists) -> dict[str, DataFrame]:
    """Return tables with a list of two items for each user."""
    items = [(u, rank, f"{letter}{rank}") for u, letter in lists.items() if letter for rank in (1, 2)]
    listed = [(f"u{u}", rank, item, 1 / rank, ["als"], "history", None, u, rank) for u, rank, item in items]
    unserved = [(f"u{u}", u, "blocked", 0) for u, letter in lists.items() if not letter]
    shown = [(None, u, rank, rank, "all", 1.0, "ranked") for u, rank, _ in items]
    return {
        "recommendations": frame(lake, "recommendations", listed),
        "unserved_users": frame(lake, "unserved_users", unserved),
        "exposures": frame(lake, "exposures", shown).drop("edition"),
    }


def publish(lake: Lake, run_id: str, edition: str, lists: Lists) -> None:
    frames = made(lake, lists) | {name: frame(lake, name, []) for name in ("metrics", "gate_decisions")}
    for name, rows in frames.items():
        table = name if name == "exposures" else f"{name}_editions"
        lake.replace(table, rows.withColumn("edition", F.lit(edition)), run_id, only={"edition": edition})
    assert show(lake, run_id, edition) == f"published edition {edition}"


def refresh(lake: Lake, lists: Lists, events: int = 1) -> str:
    users = lake.spark.createDataFrame([(u,) for u in lists], "user_idx int")
    name = lay_over(lake, lake.published(), made(lake, lists), users, events)
    assert name is not None
    return name


def readers_see(lake: Lake) -> dict[int, str]:
    """Return what `made` was given; each user has one list, and exposures and what is told of publications agree."""
    published = lake.spark.table(lake.name("published_recommendations"))
    rows = published.select("user_idx", "rank", F.substring("item_id", 1, 1).alias("letter")).collect()
    assert len({(row.user_idx, row.rank) for row in rows}) == len(rows)
    found = {row.user_idx: row.letter for row in rows}
    unserved = [row.user_idx for row in lake.spark.table(lake.name("published_unserved_users")).collect()]
    assert len(set(unserved)) == len(unserved)
    assert not set(unserved) & set(found)
    shown = lake.spark.table(lake.name("published_exposures")).select("user_idx", "rank").collect()
    assert sorted(map(tuple, shown)) == sorted((row.user_idx, row.rank) for row in rows)
    now = lake.publications()[0]
    for view, table in (
        ("published_exposures", "exposures"),
        ("published_recommendations", "recommendations_editions"),
    ):
        ours, theirs = of_edition(lake, table, now), lake.spark.table(lake.name(view))
        assert sorted(map(str, ours.collect())) == sorted(map(str, theirs.collect()))
    return found | dict.fromkeys(unserved, "")


def files(lake: Lake, edition: str) -> list[str]:
    tables = ["exposures", *(f"{name}_editions" for name in EDITED)]
    parts = [
        lake.spark.table(f"{lake.ensure(name)}.files").where(F.col("partition.edition") == edition) for name in tables
    ]
    return sorted(row.file_path for part in parts for row in part.select("file_path").collect())


def test_readers_see_the_newest_lists_and_other_rows_stay(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a", 3: "a", 4: ""})
    before = files(lake, "aaaa")
    first = refresh(lake, {2: "b", 3: "b", 4: "b"}, events=7)
    assert first.startswith("aaaa.")
    assert readers_see(lake) == {1: "a", 2: "b", 3: "b", 4: "b"}
    second = refresh(lake, {3: "c", 5: "c", 2: ""}, events=8)
    assert readers_see(lake) == {1: "a", 2: "", 3: "c", 4: "b", 5: "c"}
    assert files(lake, "aaaa") == before
    shown = lake.published()
    assert (shown.run_id, shown.edition, shown.overlays, shown.events) == (RUN, "aaaa", (first, second), 8)
    assert [one.overlays for one in lake.publications()] == [(first, second), (first,), ()]
    assert [one.events for one in lake.publications()] == [8, 7, None]
    # The same edition again changes nothing; another one starts without overlays.
    assert show(lake, RUN, "aaaa") == "already published"
    assert lake.published() == shown
    publish(lake, RUN, "bbbb", {1: "d"})
    assert readers_see(lake) == {1: "d"}
    assert lake.published().events is None


def test_who_comes_second_leaves_nothing(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a"})
    seen = lake.published()
    name = refresh(lake, {1: "b"})
    users = lake.spark.createDataFrame([(2,)], "user_idx int")
    assert lay_over(lake, seen, made(lake, {2: "c"}), users, 9) is None
    assert readers_see(lake) == {1: "b", 2: "a"}
    for table in ("refreshed_users", *OVERLAID.values()):
        assert {row.edition for row in lake.read_all(table).collect()} <= {"aaaa", name}


def test_what_must_not_be_shown_leaves_nothing(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a"})
    users = lake.spark.createDataFrame([(2,)], "user_idx int")

    def require() -> None:
        raise QualityError("a list breaks a rule")

    with pytest.raises(QualityError, match="breaks a rule"):
        lay_over(lake, lake.published(), made(lake, {2: "c"}), users, 9, require)
    assert readers_see(lake) == {1: "a", 2: "a"}
    assert lake.published().overlays == ()
    for table in ("refreshed_users", *OVERLAID.values()):
        assert {row.edition for row in lake.read_all(table).collect()} <= {"aaaa"}


def test_compacted_readers_see_the_same(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a", 3: ""})
    assert compact(lake) is None
    refresh(lake, {2: "b", 3: "b"})
    refresh(lake, {2: ""}, events=5)
    before = readers_see(lake)
    name = compact(lake)
    assert readers_see(lake) == before == {1: "a", 2: "", 3: "b"}
    shown = lake.published()
    assert (shown.edition, shown.overlays, shown.events) == (name, (), 5)
    # What is laid over it goes on; publishing the run again does not go back behind it.
    refresh(lake, {1: "c"}, events=6)
    assert readers_see(lake) == {1: "c", 2: "", 3: "b"}
    assert show(lake, RUN, "aaaa") == "already published"


def test_the_way_back_leads_over_overlays(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a"})
    refresh(lake, {1: "b"}, events=3)
    refresh(lake, {1: "c"}, events=4)
    publish(lake, NEXT, "bbbb", {1: "n", 2: "n"})
    refresh(lake, {2: "m"})
    assert roll_back(lake) == RUN
    assert readers_see(lake) == {1: "c", 2: "a"}
    assert lake.published().events == 4
    assert roll_back(lake, RUN) == RUN  # before its last refresh
    assert readers_see(lake) == {1: "b", 2: "a"}
    assert roll_back(lake, NEXT) == NEXT
    assert readers_see(lake) == {1: "n", 2: "m"}
    compact(lake)
    assert roll_back(lake) == RUN  # compacting is no step of its own
    assert readers_see(lake) == {1: "b", 2: "a"}
    with pytest.raises(LakeError, match="what was published before"):
        roll_back(lake)


def test_overlays_go_with_what_they_lie_over(lake: Lake) -> None:
    publish(lake, RUN, "aaaa", {1: "a"})
    old = refresh(lake, {1: "b"})
    publish(lake, NEXT, "bbbb", {1: "n", 2: "n"})
    kept = refresh(lake, {1: "m"})
    assert prune_editions(lake, keep=2) == 0
    assert prune_editions(lake, keep=1) == 2
    assert set(stored_editions(lake)) == {(NEXT, "bbbb"), (NEXT, kept)}
    assert {row.edition for row in lake.read_all("refreshed_users").collect()} == {kept}
    assert readers_see(lake) == {1: "m", 2: "n"}
    # What the overlays showed is known as long as feedback may come.
    assert prune_exposures(lake, 30, datetime.now(UTC)) == 0
    assert prune_exposures(lake, 0, datetime.now(UTC)) == 2
    assert {row.edition for row in lake.read_all("exposures").collect()} == {"bbbb", kept}
    compact(lake)
    prune_editions(lake, keep=1)
    # The run's own edition stays: it says what its models' tables hold.
    assert {edition for _, edition in stored_editions(lake)} == {"bbbb", lake.published().edition}
    assert old not in {row.edition for row in lake.read_all("exposures").collect()}


def test_the_doctor_looks_at_overlays(lake: Lake, spark: SparkSession) -> None:
    publish(lake, RUN, "aaaa", {1: "a", 2: "a"})
    name = refresh(lake, {1: "b"})
    for look in (invariants.published, invariants.exposures):
        assert [finding.level for finding in look(lake)[0]] == ["ok"]
    assert "1 overlays" in invariants.published(lake)[0][0].found
    spark.sql(f"DELETE FROM {lake.name('exposures')} WHERE edition = '{name}'")
    assert invariants.exposures(lake)[0][0].level == "fail"
    spark.sql(f"DELETE FROM {lake.name('recommendations_editions')} WHERE edition = '{name}'")
    assert "1 overlays are gone" in invariants.published(lake)[0][0].found


def test_what_was_seen_anew() -> None:
    times = [f"2026-11-01 0{hour}:00:00" for hour in range(5)]
    history = [
        Publication(RUN, "aaaa", times[0]),
        Publication(RUN, "aaaa", times[1], ("aaaa.1",)),
        Publication(RUN, "aaaa", times[2], ("aaaa.1", "aaaa.2")),
        Publication(NEXT, "bbbb", times[3]),
        Publication(RUN, "aaaa", times[4], ("aaaa.1",)),
    ]
    assert shown_since(history[::-1]) == [
        (RUN, "aaaa", times[0]),
        (RUN, "aaaa.1", times[1]),
        (RUN, "aaaa.2", times[2]),
        (NEXT, "bbbb", times[3]),
        (RUN, "aaaa", times[4]),
        (RUN, "aaaa.1", f"{times[4]}.000001"),
    ]
