"""Which exposure an event answers is looked up: of a few users few files and rows are read, whatever the lake holds."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.feedback.exposed import with_exposures
from ganrec_spark.frames import users as frames_users
from ganrec_spark.lake.iceberg import layout
from ganrec_spark.lake.schema import local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.table import columns

RUN, USERS, PLACES, OVERLAYS = "2026-11-01", 20_000, 5, 30
EVENTS = columns("""
    event_id string: id
    user_idx int: who
    item_idx int: what
    kind string: how
    value double: how much
    ts timestamp: when
    edition string: seen where
    rank int: seen at
""")


@pytest.fixture
def world(spark: SparkSession, lake: Lake) -> Lake:
    """Return a lake of one edition of all users, and of overlays of ten users each, one after the other."""

    def lists(edition: str, first: int, users: int, shift: int) -> DataFrame:
        place = F.col("id") % PLACES
        return spark.range(users * PLACES).select(
            F.lit(edition).alias("edition"),
            ((F.col("id") / PLACES).cast("int") + first).alias("user_idx"),
            (place + 1).cast("int").alias("rank"),
            ((F.xxhash64("id") % 500 + 500) % 500 * 10 + place + shift).cast("int").alias("item_idx"),
            F.lit("blend").alias("arm"),
            F.lit(1.0).alias("propensity"),
            F.lit("ranked").alias("place"),
        )

    rows, overlays = lists("base", 0, USERS, 0), [f"base.{number:08d}" for number in range(OVERLAYS)]
    for number, overlay in enumerate(overlays):
        rows = rows.unionByName(lists(overlay, number * 10, 10, number % 2))
    # As they come: in no order.
    lake.replace("exposures", rows.repartition(2, F.xxhash64("user_idx", "rank")), RUN)
    assert lake.point_to(RUN, "base", lake.published(), overlays)
    return lake


@pytest.fixture
def one_plan(spark: SparkSession) -> Iterator[None]:
    """Let a query's plan stay as it is made, so that its metrics are found."""
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    yield
    spark.conf.unset("spark.sql.adaptive.enabled")


def some_events(lake: Lake, users: list[int], n: int = 1) -> DataFrame:
    """Return events on what the users were shown, and one on something else each."""
    shown = lake.read_all("exposures").where(F.col("user_idx").isin(users)).collect()
    moment = datetime.now(UTC) + timedelta(minutes=1)
    rows = [(f"e{k}", row.user_idx, row.item_idx, "click", None, moment, None, None) for k, row in enumerate(shown)]
    more = [(f"x{user}", user, 99_999, "click", None, moment, None, None) for user in users]
    return local_frame(lake.spark, EVENTS, [*rows[::n], *more])


def answers(lake: Lake, events: DataFrame) -> dict[str, Row]:
    return {row.event_id: row for row in with_exposures(lake, events, lake.publications()).collect()}


def scans(frame: DataFrame) -> list[dict[str, int]]:
    """Return the metrics of each scan of exposures, once the frame's plan has run."""
    plan: Any = frame._jdf.queryExecution().executedPlan()
    plan.executeCollect()
    leaves = plan.collectLeaves()
    found = [leaves.apply(number) for number in range(leaves.size())]
    names = ("numOutputRows", "resultDataFiles", "skippedDataFiles")
    return [
        {name: leaf.metrics().apply(name).value() for name in names}
        for leaf in found
        if "exposures" in leaf.nodeName() or ".exposures" in leaf.simpleString(200)
    ]


def test_of_few_users_few_files_and_rows_are_read(world: Lake, one_plan: None) -> None:
    found = layout(world.spark, world.name("exposures"), [])
    assert (found.parts, found.order) == (("run_id", "edition"), ("user_idx",))
    files = world.spark.table(f"{world.name('exposures')}.files").count()
    assert files == OVERLAYS + 1
    found = with_exposures(world, some_events(world, [155, 15_000]), world.publications())
    (read,) = scans(found)
    # The edition, and the overlay of users 150 to 159.
    assert (read["resultDataFiles"], read["skippedDataFiles"]) == (2, files - 2)
    assert read["numOutputRows"] < USERS * PLACES / 2
    shown = {row.event_id: row.edition for row in found.collect()}
    assert shown["x155"] is None
    assert {edition for name, edition in shown.items() if name.startswith("e")} == {"base", "base.00000015"}


@pytest.mark.parametrize("users", [300, 900])
def test_what_is_skipped_has_no_say(world: Lake, monkeypatch: pytest.MonkeyPatch, users: int) -> None:
    chosen = sorted(np.random.default_rng(users).choice(USERS, users, replace=False).tolist())
    events = some_events(world, [*range(0, 300, 7), *chosen], n=3).persist()
    pruned = answers(world, events)
    monkeypatch.setattr(frames_users, "_FEW", 0)
    assert answers(world, events) == pruned
    assert {row.edition for row in pruned.values()} > {None, "base", "base.00000000"}
