"""Events of the log as ratings: weights by hand, dislikes, point in time, and no generated row of who is not sparse."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.log import append_events, frame_rows
from ganrec_spark.feedback.ratings import with_feedback
from ganrec_spark.frames import dislikes
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.plan.tables import TABLE_BY_NAME
from ganrec_spark.run.outside import outside

DAY = datetime(2026, 11, 1)
MakeConfig = Callable[..., Config]
Rows = dict[tuple[int, str], tuple[float | None, int, str]]  # (item, table): rating, day, origin

# One item each: what the source has (rating, day), the events (kind, value, day), and what follows from both:
# by explicit feedback with likes from 3 on, and by implicit feedback.
LIKED, DISLIKED = "ratings", "disliked_ratings"
CASES: list[tuple[tuple[float, int] | None, list[tuple[str, float | None, int]], str, object, object]] = [
    ((4, 1), [], "no events", (LIKED, 4, 1, "source"), (LIKED, 4, 1, "source")),
    ((2, 1), [], "no events", (DISLIKED, 2, 1, "source"), (LIKED, 2, 1, "source")),
    (None, [("click", None, 2), ("cart", None, 3)], "added up", (LIKED, 5, 3, "feedback"), (LIKED, 5, 3, "feedback")),
    (None, [("impression", None, 2), ("unheard", None, 2)], "count for nothing", None, None),
    ((4, 1), [("impression", None, 2)], "no say", (LIKED, 4, 1, "source"), (LIKED, 4, 1, "source")),
    ((4, 1), [("click", None, 2)], "words beat clicks", (LIKED, 4, 1, "feedback"), (LIKED, 6, 2, "feedback")),
    ((4, 1), [("rating", 5, 2)], "the newer word", (LIKED, 5, 2, "feedback"), (LIKED, 9, 2, "feedback")),
    ((4, 3), [("rating", 5, 2)], "the newer word", (LIKED, 4, 3, "feedback"), (LIKED, 9, 3, "feedback")),
    ((4, 1), [("rating", 1, 2)], "no longer", (DISLIKED, 1, 2, "feedback"), (DISLIKED, None, 2, "feedback")),
    ((2, 1), [("rating", 5, 2)], "after all", (LIKED, 5, 2, "feedback"), (LIKED, 7, 2, "feedback")),
    ((4, 1), [("hide", None, 2)], "never again", (DISLIKED, None, 2, "feedback"), (DISLIKED, None, 2, "feedback")),
    ((4, 3), [("hide", None, 2)], "liked since", (LIKED, 4, 3, "feedback"), (LIKED, 4, 3, "feedback")),
    (None, [("click", None, 2), ("dislike", 9, 2)], "a tie", (DISLIKED, None, 2, "feedback"),
     (DISLIKED, None, 2, "feedback")),
    (None, [("hide", None, 2), ("purchase", None, 3)], "bought since", (LIKED, 5, 3, "feedback"),
     (LIKED, 5, 3, "feedback")),
    (None, [("rating", 3, 2), ("click", None, 3)], "words alone", (LIKED, 3, 2, "feedback"), (LIKED, 5, 3, "feedback")),
]  # fmt: skip


def day(number: int) -> datetime:
    return DAY + timedelta(days=number)


def rated(spark: SparkSession, rows: list[tuple[object, ...]]) -> DataFrame:
    return local_frame(spark, TABLE_BY_NAME["ratings"].columns, rows)


def decided(frames: tuple[DataFrame, DataFrame], origin: str = "") -> dict[int, tuple[object, ...]]:
    return {
        row.item_idx: (table, row.rating, (row.ts - DAY).days, row.origin)
        for table, frame in zip((LIKED, DISLIKED), frames, strict=True)
        for row in frame.collect()
        if row.origin != origin
    }


@pytest.mark.parametrize("feedback", ["explicit", "implicit"])
def test_a_pair_is_rated_as_worked_by_hand(spark: SparkSession, make_config: MakeConfig, feedback: str) -> None:
    config = make_config(f"ingest.feedback={feedback}", "ingest.liked_from=3")
    own = [(0, item, *case[0]) for item, case in enumerate(CASES) if case[0]]
    explicit = feedback == "explicit"
    liked = [(user, item, float(r), day(d), "source") for user, item, r, d in own if r >= 3 or not explicit]
    refused = [(user, item, float(r), day(d), "source") for user, item, r, d in own if r < 3 and explicit]
    liked.append((0, 0, 1.0, day(9), "test_source"))
    names = TABLE_BY_NAME["feedback_events"].columns
    numbered = [(item, event) for item, case in enumerate(CASES) for event in case[1]]
    events = local_frame(
        spark,
        names,
        [
            (str(n), 0, item, kind, value, day(d), day(d), None, None, None, None)
            for n, (item, (kind, value, d)) in enumerate(numbered)
        ],
    )
    found = with_feedback(rated(spark, liked), rated(spark, refused), events, config.feedback, config.ingest)
    place = 3 if explicit else 4
    assert decided(found, "test_source") == {item: case[place] for item, case in enumerate(CASES) if case[place]}
    assert found[0].where("origin = 'test_source'").count() == 1
    assert found[0].count() + found[1].count() == sum(case[place] is not None for case in CASES) + 1


def test_an_event_of_dislike_has_no_weight_for_als(spark: SparkSession) -> None:
    observed = rated(spark, [(0, 0, 4.0, DAY, "source"), (0, 1, 4.0, DAY, "source")]).drop("origin")
    known = rated(spark, [(0, 2, None, DAY, ""), (0, 3, 1.0, DAY, "")]).drop("origin")
    for implicit, rating in ((True, -4.0), (False, 1.0)):
        rows = dislikes.learned(observed, observed, known, 1.0, implicit).where("item_idx > 1").collect()
        assert [(row.item_idx, row.rating) for row in rows] == [(3, rating)]


def append(
    spark: SparkSession, lake: Lake, config: Config, rows: list[tuple[str, str, str, str]], at: datetime
) -> None:
    frame = spark.createDataFrame(rows, "user_id string, item_id string, kind string, timestamp string")
    append_events(lake, config, frame_rows(frame, config, "a batch"), at.replace(tzinfo=UTC))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return ratings of users u0 to u9; u0 has two, of i0 and i1, all others those of i0 to i5."""
    path = tmp_path / "ratings.csv"
    lines = [f"u{u},i{i},{3 + i % 2},2026-10-0{i + 1}" for u in range(10) for i in range(6) if u or i < 2]
    path.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines) + "\n")
    return path


def test_ingest_takes_the_log_as_of_its_date(
    spark: SparkSession, lake: Lake, make_config: MakeConfig, run_alone, source: Path
) -> None:
    off = make_config(f"ingest.source={source}")
    on = make_config(f"ingest.source={source}", "feedback.as_ratings=true")
    (before,) = run_alone(on, "ingest")
    assert "with 0 events of the log 56 ratings, 0 dislikes" in before
    plain = lake.read("ratings", "2026-11-01")
    of_source = sorted(plain.collect())
    rows = [
        ("u0", "i2", "purchase", "2026-11-01T10:00:00Z"),
        ("u0", "i3", "hide", "2026-11-01T10:00:00Z"),
        ("new", "i9", "click", "2026-11-01T23:59:59Z"),
        ("u0", "i4", "purchase", "2026-11-02T00:00:00Z"),
    ]
    append(spark, lake, on, rows, datetime(2026, 11, 3))
    (told,) = run_alone(off, "ingest")
    assert told.endswith("0 new items; 3 events of the log are not used (feedback.as_ratings)")
    assert sorted(lake.read("ratings", "2026-11-01").collect()) == of_source
    (told,) = run_alone(on, "ingest")
    assert told.endswith("with 3 events of the log 58 ratings, 1 dislikes")
    own = (
        lake.read("ratings", "2026-11-01")
        .join(lake.read_all("users"), "user_idx")
        .join(lake.read_all("items"), "item_idx")
    )
    feedback = {(row.user_id, row.item_id, row.rating) for row in own.where("origin = 'feedback'").collect()}
    assert feedback == {("u0", "i2", 5.0), ("new", "i9", 2.0)}
    # Of what was shown within the last day nobody knows yet what came of it.
    seen = [("u0", "i4", "impression", f"2026-11-0{day}T{hour}:00:00Z") for day, hour in ((1, 10), (1, 11), (2, 10))]
    append(spark, lake, on, seen, datetime(2026, 11, 3))
    (told,) = run_alone(on, "ingest", run_id="2026-11-02")
    assert "with 7 events of the log 59 ratings" in told
    assert [lake.read("impressions", f"2026-11-0{day}").count() for day in (1, 2)] == [0, 2]
    run_alone(off, "ingest", run_id="2026-11-02")
    assert lake.read("impressions", "2026-11-02").isEmpty()


def test_new_events_make_a_run_stale_and_later_ones_do_not(
    spark: SparkSession, lake: Lake, make_config: MakeConfig, source: Path
) -> None:
    off = make_config(f"ingest.source={source}")
    on = make_config(f"ingest.source={source}", "feedback.as_ratings=true")
    tired = make_config(f"ingest.source={source}", "rules.shown_times=2")
    ingest = STAGE_BY_NAME["ingest"]

    def states() -> tuple[str, str, str, str]:
        return (
            outside(lake, off, ingest, "2026-11-01"),
            outside(lake, on, STAGE_BY_NAME["split"], "2026-11-01"),
            outside(lake, on, ingest, "2026-11-01"),
            outside(lake, tired, STAGE_BY_NAME["recommend"], "2026-11-01"),
        )

    none = states()
    append(spark, lake, on, [("u0", "i2", "click", "2026-11-02T00:00:00Z")], datetime(2026, 11, 3))
    assert states() == none
    append(spark, lake, on, [("u0", "i2", "click", "2026-11-01T23:59:59Z")], datetime(2026, 11, 3))
    now = states()
    assert now[:2] == none[:2]
    assert now[2] != none[2]
    assert now[3] != none[3]


def test_who_has_rated_enough_has_no_generated_rows_and_the_log_never_any(
    spark: SparkSession, lake: Lake, make_config: MakeConfig, run_alone, source: Path
) -> None:
    config = make_config(
        f"ingest.source={source}",
        "feedback.as_ratings=true",
        "split.protocol=none",
        "sparsity.max_ratings=4",
        "sparsity.min_sparse_users=1",
        "augment.rules=[popularity]",
        "augment.strategies=[{how: top, n: 1}]",
    )
    stages = ("ingest", "attributes", "split", "sparsity", "augment_final")
    decision = {"fill": "popularity_top1", "accepted": True}
    decisions = [tuple(decision.get(column.name) for column in declared("gate_decisions").columns)]
    for run_id in ("2026-11-01", "2026-11-02"):
        accepted = local_frame(spark, declared("gate_decisions").columns, decisions)
        lake.replace("gate_decisions", accepted, run_id)
    run_alone(config, *stages)
    (u0,) = lake.read_all("users").where("user_id = 'u0'").collect()
    generated = lake.read("generated_ratings", "2026-11-01", "final").collect()
    assert {row.user_idx for row in generated} == {u0.user_idx}  # the one with few ratings
    bought = [("u0", f"i{i}", "purchase", f"2026-11-02T0{i}:00:00Z") for i in (2, 3, 4, 5)]
    append(spark, lake, config, [*bought, ("fresh", "i1", "click", "2026-11-02")], datetime(2026, 11, 3))
    run_alone(config, *stages, run_id="2026-11-02")
    (fresh,) = lake.read_all("users").where("user_id = 'fresh'").collect()
    generated = lake.read("generated_ratings", "2026-11-02", "final").collect()
    assert {row.user_idx for row in generated} == {fresh.user_idx}
    assert lake.read_all("feedback_events").count() == 5
    (profile,) = lake.read("user_sparsity", "2026-11-02").where(f"user_idx = {u0.user_idx}").collect()
    assert not profile.is_sparse  # 5 of 6 observed ratings train; what was generated before is not counted
    assert profile.n_ratings == 5
