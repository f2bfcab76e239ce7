"""Events of what is listed no longer, was never rated, was shown by an overlay, or by a client whose clock is wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.log import Taken, append_events, source_rows
from ganrec_spark.lake.schema import local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.tables import TABLE_BY_NAME
from ganrec_spark.run.invariants import dictionaries, feedback_log

RUN = "2026-11-01"
HEADER = "event_id,user_id,item_id,kind,timestamp,edition\n"
Take = Callable[..., Taken]


@pytest.fixture
def shown(spark: SparkSession, lake: Lake) -> datetime:
    """Show u0 i0 and i1 in an edition, i2 in an overlay over it; return a moment after both."""
    for table, kind in (("users", "user"), ("items", "item")):
        ids = [(f"{kind[0]}{n}", n, RUN) for n in range(3)]
        add_ids(lake, table, local_frame(spark, TABLE_BY_NAME[table].columns, ids))
    for overlays, edition, items in (((), "base", (0, 1)), (("base.over",), "base.over", (2,)), (None, "unseen", (0,))):
        rows = [(edition, 0, rank, item, "blend", 1.0, "ranked") for rank, item in enumerate(items, 1)]
        table = local_frame(spark, TABLE_BY_NAME["exposures"].columns, rows)
        lake.replace("exposures", table, RUN, only={"edition": edition})
        assert overlays is None or lake.point_to(RUN, "base", lake.published(), overlays)
    newest = datetime.fromisoformat(lake.publications()[0].committed_at).replace(tzinfo=UTC)
    return newest + timedelta(seconds=1)


@pytest.fixture
def take(spark: SparkSession, lake: Lake, config: Config, tmp_path: Path) -> Take:
    """Return a function that appends lines of CSV as a file of its own."""

    def append(*lines: str, now: datetime) -> Taken:
        source = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        source.write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
        return append_events(lake, config, source_rows(spark, config, str(source)), now)

    return append


def line(name: str, item: str, at: datetime, edition: str = "", user: str = "u0") -> str:
    return f"{name},{user},{item},click,{at:%Y-%m-%dT%H:%M:%S.%fZ},{edition}"


def log(lake: Lake) -> dict[str, Row]:
    return {row.event_id: row for row in lake.read_all("feedback_events").collect()}


def test_an_edition_may_be_an_overlay_and_must_have_been_seen(lake: Lake, take: Take, shown: datetime) -> None:
    lines = [line(f"e{n}", "i2", shown, edition) for n, edition in enumerate(("base.over", "", "base", "unseen"))]
    taken = take(*lines, now=shown)
    assert (taken.new, taken.rejected) == (3, {"unknown_edition": 1})
    found = {name: (row.edition, row["rank"], row.arm) for name, row in log(lake).items()}
    assert found["e0"] == found["e1"] == ("base.over", 1, "blend")
    assert found["e2"] == ("base", None, None)  # which did not show it


def test_what_is_listed_no_longer_or_was_never_rated_is_an_event_as_any(
    spark: SparkSession, lake: Lake, make_config: Callable[..., Config], tmp_path: Path, shown: datetime, run_alone
) -> None:
    blocked, source, events = (tmp_path / name for name in ("blocked.csv", "ratings.csv", "events.csv"))
    blocked.write_text("item_id\ni1\n")
    source.write_text("user_id,item_id,rating,timestamp\nu1,i0,4,2026-10-01\n")
    config = make_config(f"rules.blocked_items={blocked}", f"ingest.source={source}", "feedback.as_ratings=true")
    events.write_text(HEADER + "\n".join((line("gone", "i1", shown), line("fresh", "i9", shown), "")))
    taken = append_events(lake, config, source_rows(spark, config, str(events)), shown)
    assert (taken.new, taken.rejected, taken.new_items) == (2, {}, 1)
    found = log(lake)
    assert (found["gone"].edition, found["gone"]["rank"], found["gone"].arm) == ("base", 2, "blend")
    assert (found["fresh"].item_idx, found["fresh"].edition, found["fresh"].arm) == (3, None, None)
    run_id = f"{shown + timedelta(days=1):%Y-%m-%d}"
    run_alone(config, "ingest", run_id=run_id)
    rated = lake.read("ratings", run_id).where("origin = 'feedback'").collect()
    assert sorted((row.user_idx, row.item_idx, row.rating) for row in rated) == [(0, 1, 2.0), (0, 3, 2.0)]
    assert {finding.level for finding in (*dictionaries(lake)[0], *feedback_log(lake)[0])} == {"ok"}


def test_a_client_whose_clock_is_set_back_harms_itself_alone(lake: Lake, take: Take, shown: datetime) -> None:
    take(line("before", "i0", shown), now=shown)
    yesterday, long_ago = shown - timedelta(days=1), shown - timedelta(days=8)
    taken = take(
        line("back", "i0", yesterday),
        line("named", "i0", yesterday, "base"),
        line("far", "i0", long_ago, "base"),
        line("other", "i0", shown, user="u1"),
        now=shown,
    )
    assert (taken.new, taken.late, taken.rejected) == (3, 2, {"too_late": 1})
    found = {name: (row.edition, row.arm) for name, row in log(lake).items()}
    assert found == {
        "before": ("base", "blend"),
        "back": (None, None),  # it says that it happened before anything was shown
        "named": ("base", "blend"),
        "other": (None, None),
    }
