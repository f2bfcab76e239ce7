"""Refreshed lists are those that stage recommend would write of the same models and events, for all and for one."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark.dictionaries import add_ids
from spark.refresh.world import RUN, Row, World, forget, published_world, said_again

from ganrec_spark.errors import ConfigError, LakeError
from ganrec_spark.feedback.folder import Folder
from ganrec_spark.feedback.stream import Streaming
from ganrec_spark.frames import dislikes, ignored
from ganrec_spark.frames.users import Users
from ganrec_spark.lake import overlay
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.publication import roll_back
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import taste_of_item
from ganrec_spark.refresh import models
from ganrec_spark.refresh import refresh as room
from ganrec_spark.refresh.histories import Histories
from ganrec_spark.refresh.lists import UsersLake, lists_of
from ganrec_spark.refresh.models import models_of
from ganrec_spark.refresh.refresh import after_batch, refresh
from ganrec_spark.reporting.explain import explain
from ganrec_spark.run import invariants
from ganrec_spark.run.context import Context
from ganrec_spark.run.log import withdraw

EVENING = datetime(2026, 11, 1, 20)


@pytest.fixture(scope="module")
def everything(spark: SparkSession, lake_root: Path) -> World:
    return published_world(spark, lake_root, "refreshed")


@pytest.fixture
def world(everything: World) -> Iterator[World]:
    """Return the lake, with nothing in the log but what the run knew, and nothing laid over the run."""
    forget(everything)
    everything.unlaid()
    yield everything
    everything.unlaid()


def test_who_says_the_same_again_has_the_same_list(world: World) -> None:
    before = {name: world.published(name) for name in ("recommendations", "unserved_users", "exposures")}
    world.tell(*said_again(world))
    outcome = refresh(world.lake, world.config)
    users = world.read("merged_ratings", "final").where("observed").select("user_idx").distinct().count()
    assert outcome.n_users >= users > 80
    after = {name: world.published(name) for name in before}
    assert after == before
    assert world.read("known_ignored").where("times = 1 AND part = 'train'").count() > 200
    assert world.read("variety_choices").where("chosen AND strength > 0").count() == 1
    # As one of many and as the only one: scores do not hang on who stands beside.
    for user in (3, 4):
        world.unlaid()
        forget(world)
        world.tell(*said_again(world, {user}))
        assert refresh(world.lake, world.config).n_users == 1
        assert world.published() == before["recommendations"]


def new_events(world: World) -> list[tuple[int, int, str, float | None, datetime]]:
    """Return events of users 1 to 6, and of 500 and 501, who are new."""
    listed = {user: rows[0][-2:] for user, rows in world.published().items()}
    table = world.spark.table(world.lake.name("published_recommendations"))
    new = table.where("user_idx > 7 AND reason = 'new_item'").orderBy("user_idx").first()
    assert new is not None
    first = {user: int(str(item)) for user, (_, item) in listed.items()}
    held = world.read("test_ratings").where("user_idx = 4").first()
    assert held is not None
    seen = world.read("merged_ratings", "final").where("observed AND user_idx = 5").first()
    assert seen is not None
    return [
        (1, first[1], "rating", 5.0, EVENING),
        (1, first[1], "impression", None, EVENING),
        (2, first[2], "dislike", None, EVENING),
        (3, first[3], "click", None, EVENING),
        (3, first[3], "cart", None, EVENING + timedelta(minutes=1)),
        (4, held.item_idx, "rating", 4.0, EVENING),
        (5, seen.item_idx, "hide", None, EVENING + timedelta(hours=9)),  # after the run's date
        (6, 30, "rating", 5.0, EVENING),
        (6, 9_999, "rating", 5.0, EVENING),  # no model knows it
        (new.user_idx, new.item_idx, "click", None, EVENING),  # it was new to the run, and was listed
        (500, 7, "purchase", None, EVENING),
        (500, 8, "rating", 5.0, EVENING + timedelta(minutes=2)),
        (501, 9_999, "click", None, EVENING),
        (7, first[7], "impression", None, EVENING),
    ]


def by_hand(world: World) -> tuple[list[Row], list[Row]]:
    """Return what `new_events` make of ratings (user, item, rating, time), and of dislikes."""
    events = {
        (user, item): (kind, value, ts) for user, item, kind, value, ts in new_events(world) if kind != "impression"
    }
    weight = {"purchase": 5.0, "click": 2.0}
    liked, refused = [], []
    for (user, item), (kind, value, ts) in events.items():
        if kind in ("dislike", "hide"):
            refused.append((user, item, None, ts))
        elif item < 40:
            liked.append((user, item, 5.0 if kind == "cart" else value or weight[kind], ts))
    return liked, refused


def reference(world: World) -> dict[int, list[Row]]:
    """Return the lists of all users of the run and of the events, from tables that are made by hand."""
    spark, lake = world.spark, world.lake
    ratings = "user_idx int, item_idx int, rating double, ts timestamp"
    liked, refused = (spark.createDataFrame(rows, ratings) for rows in by_hand(world))
    pairs = liked.union(refused).select("user_idx", "item_idx")
    merged = world.read("merged_ratings", "final")
    merged = merged.join(pairs, ["user_idx", "item_idx"], "left_anti").unionByName(
        liked.withColumns({"observed": F.lit(True), "fill": F.lit("none")}), allowMissingColumns=True
    )
    disliked = world.read("disliked_ratings").join(pairs, ["user_idx", "item_idx"], "left_anti")
    disliked = disliked.unionByName(refused, allowMissingColumns=True)
    known = world.read("known_dislikes").join(pairs, ["user_idx", "item_idx"], "left_anti").drop("part")
    known = known.unionByName(refused).withColumn("part", F.lit("train"))
    observed = merged.where("observed").cache()
    context = Context(spark, world.config, UsersLake(lake, RUN, "refresh", "final", (), ()), RUN, "final", "")
    sparse = world.read("user_sparsity").where("is_sparse").select("user_idx")
    against = dislikes.of_phase(known, observed, "final")
    shown = ignored.of_phase(world.read("known_ignored"), observed, "final")
    assert shown is not None
    beyond = [(user, item) for user, item, *_ in new_events(world) if item >= 40]
    rows = Histories(
        merged.localCheckpoint(),
        disliked,
        against and against.localCheckpoint(),
        sparse,
        spark.createDataFrame(beyond, "user_idx int, item_idx int"),
        shown.localCheckpoint(),
    )
    users = (
        observed.select("user_idx")
        .union(disliked.select("user_idx"))
        .union(spark.createDataFrame([(501,)], "user_idx int"))
    )
    found = lists_of(context, Users.of(users), rows, models_of(context, "reference"))["recommendations"]
    lists: dict[int, list[Row]] = {}
    columns = [column.name for column in declared("recommendations").columns]
    for row in sorted(found.select(F.lit(RUN).alias("run_id"), *columns).collect(), key=str):
        lists.setdefault(row.user_idx, []).append(tuple(row))
    return lists


def files(world: World) -> set[str]:
    tables = ("recommendations_editions", "unserved_users_editions", "exposures")
    return {row.file_path for name in tables for row in world.spark.table(f"{world.lake.name(name)}.files").collect()}


def test_lists_follow_their_users(world: World) -> None:
    add_ids(
        world.lake,
        "users",
        world.spark.createDataFrame(
            [("n504", 500, "feedback"), ("n508", 501, "feedback")], "user_id string, user_idx int, first_run_id string"
        ),
    )
    # Both were known by attributes alone; 501 still is, for no model knows what 501 clicked.
    alike = [(500, [30, 31, 32], [0.3, 0.2, 0.1]), (501, [33, 34, 35], [0.3, 0.2, 0.1])]
    rows = local_frame(world.spark, declared("strangers_candidates").columns, alike)
    world.lake.replace("strangers_candidates", rows, RUN, "final")
    before, had = world.published(), files(world)
    events = new_events(world)
    expected = reference(world)
    world.tell(*events)
    outcome = refresh(world.lake, world.config)
    changed = {user for user, *_ in events} - {7}  # who was shown an item, and no more
    assert len(changed) == 9
    assert outcome.n_users == len(changed)
    after = world.published()
    for user in changed:
        assert after[user] == expected[user], user
    assert {user: after[user] for user in before if user not in changed} == {
        user: before[user] for user in before if user not in changed
    }
    table = world.spark.table(world.lake.name("published_recommendations"))
    arms = {row.user_idx: row.arm for row in world.spark.table(world.lake.name("published_exposures")).collect()}
    assert (arms[500], arms[501]) == ("blend", "blend"), "choose other ids: other arms have no lists by attributes"
    reasons = {user: [row.reason for row in table.where(f"user_idx = {user}").collect()] for user in (500, 501)}
    assert reasons[501] == ["attributes"] * 5
    assert "attributes" not in reasons[500]
    assert had <= files(world)
    shown = {(user, row[-1]) for user, rows in after.items() for row in rows}
    barred = {(user, item) for user, item, kind, *_ in events if kind != "impression"}
    assert not shown & barred
    exposures = world.published("exposures")
    assert {u: len(rows) for u, rows in exposures.items()} == {u: len(rows) for u, rows in after.items()}
    for look in (invariants.published, invariants.exposures):
        assert [finding.level for finding in look(world.lake)[0]] == ["ok"]
    # Nothing new, nothing written.
    state = world.lake.published()
    again = refresh(world.lake, world.config)
    assert (again.overlay, again.n_users, world.lake.published()) == (None, 0, state)
    # More of one user: the others' overlay stays, and both at once would have been the same.
    world.tell((1, 31, "rating", 5.0, EVENING + timedelta(hours=1)))
    assert refresh(world.lake, world.config).n_users == 1
    twice = world.published()
    world.unlaid()
    assert refresh(world.lake, world.config).n_users == len(changed)
    assert world.published() == twice
    assert roll_back(world.lake, RUN) == RUN
    assert world.published() == before


def test_two_refreshes_at_once_and_one_during_a_publication(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_over, others = overlay.lay_over, []

    def late(lake: Lake, *arguments: object) -> str | None:
        if not others:
            others.append("begun")
            others.append(refresh(world.lake, world.config))
        return lay_over(lake, *arguments)  # type: ignore[arg-type]

    world.tell(*said_again(world, {1, 2}))
    before = world.published()
    monkeypatch.setattr(room, "lay_over", late)
    second = refresh(world.lake, world.config)
    assert second.overlay is None  # what the first one did was all that was new
    assert others[1].n_users == 2
    assert world.lake.published().overlays == (others[1].overlay,)
    assert {row.edition for row in world.lake.read_all("refreshed_users").collect()} >= {others[1].overlay}
    assert world.published() == before

    def published_meanwhile(lake: Lake, *arguments: object) -> str | None:
        monkeypatch.setattr(room, "lay_over", lay_over)
        world.unlaid()
        return lay_over(lake, *arguments)  # type: ignore[arg-type]

    world.tell(*said_again(world, {3}))
    monkeypatch.setattr(room, "lay_over", published_meanwhile)
    outcome = refresh(world.lake, world.config)
    assert outcome.n_users == 3  # of the run as it was published anew
    assert world.lake.published().overlays == (outcome.overlay,)
    assert world.published() == before


def test_overlays_are_compacted(world: World) -> None:
    config = world.config.model_copy(update={"refresh": world.config.refresh.model_copy(update={"compact_after": 2})})
    before = world.published()
    for user in (1, 2):
        world.tell(*said_again(world, {user}))
        outcome = refresh(world.lake, config)
    assert outcome.compacted
    assert world.lake.published().overlays == ()
    assert world.published() == before
    assert refresh(world.lake, config).overlay is None
    world.tell(*said_again(world, {3}))
    assert refresh(world.lake, config).n_users == 1
    assert world.published() == before


def test_a_refreshed_list_is_explained(world: World) -> None:
    world.tell(*said_again(world, {3}))
    refresh(world.lake, world.config)
    names = {row.item_idx: row.item_id for row in world.lake.read_all("items").collect()}
    (user,) = world.lake.read_all("users").where("user_idx = 3").collect()
    rated = world.read("merged_ratings", "final").where("observed AND user_idx = 3").select("item_idx").collect()
    tastes = [taste_of_item(names[row.item_idx]) for row in rated]
    most = max(tastes, key=tastes.count)
    item = names[rated[tastes.index(most)].item_idx]
    told = list(explain(world.lake, world.config, user.user_id, [item]))
    assert "`ganrec refresh` has made the list anew" in told[1]
    assert told[2] == f"{item} is not listed: the user has rated it"
    shared = f"in common with items that the user has rated, {len(rated) - 1} in all: taste taste {most}"
    assert any(line.startswith("  blend, reordered for calibration by taste: ") for line in told)
    assert tastes.count(most) > 1
    assert told[-1] == f"  {shared} ({tastes.count(most) - 1})"


def test_a_stream_refreshes_after_each_batch(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {row.user_idx: row.user_id for row in world.lake.read_all("users").collect()}
    before, read, reads = world.published(), models._read, list[str]()

    def counted(context: Context) -> models.Models:
        reads.append(context.run_id)
        return read(context)

    monkeypatch.setattr(models, "_KEPT", {})
    monkeypatch.setattr(models, "_read", counted)
    caplog.set_level("INFO", "ganrec")

    def bought(user: int, part: str) -> None:
        item = before[user][0][3]
        (tmp_path / f".{part}").write_text(
            f"user_id,item_id,kind,timestamp\n{ids[user]},{item},purchase,2026-11-01 20:00:00\n"
        )
        (tmp_path / f".{part}").rename(tmp_path / f"{part}.csv")

    def follow(rows: int, **recommend: int) -> Streaming:
        changed = world.config.recommend.model_copy(update=recommend)
        stream = world.config.stream.model_copy(update={"trigger_seconds": 0.0, "max_files": 1})
        config = world.config.model_copy(update={"recommend": changed, "stream": stream})
        running = Streaming(config, Folder.at(str(tmp_path)), (after_batch,), lambda: running.taken.read >= rows)
        running.run(world.spark)
        return running

    bought(1, "a")
    assert follow(1, n=4).taken.new == 1  # no settings of what is published: the event is taken, and waits
    assert "; lists stay as they are: run '2026-11-01': stage 'report' expected" in caplog.messages[-1]
    assert world.published() == before
    bought(2, "b")
    bought(3, "c")
    assert follow(2).batches == 2
    told = [message.partition("new items; ")[2] for message in caplog.messages if message.startswith("batch ")]
    assert told[1].startswith(f"lists of 2 users of run {RUN} are new, overlay ")
    assert told[2].startswith(f"lists of 1 users of run {RUN} are new, overlay ")
    assert reads == [RUN]
    after = world.published()
    assert {user for user in before if after[user] != before[user]} == {1, 2, 3}
    world.unlaid()
    assert refresh(world.lake, world.config).n_users == 3
    assert world.published() == after


def test_what_is_not_what_readers_see_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="as_ratings"):
        refresh(world.lake, world.config.model_copy(update={"feedback": type(world.config.feedback)()}))
    other = world.config.model_copy(update={"recommend": world.config.recommend.model_copy(update={"n": 4})})
    with pytest.raises(LakeError, match="other settings"):
        refresh(world.lake, other)
    snapshot = current_snapshot(world.spark, world.lake.ensure("current_run"))
    withdraw(world.lake, RUN, "als_final", "a test")
    with pytest.raises(LakeError, match="als_final"):
        refresh(world.lake, world.config)
    assert current_snapshot(world.spark, world.lake.ensure("current_run")) == snapshot
