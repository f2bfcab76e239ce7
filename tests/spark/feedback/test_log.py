"""Events come into the log each once, whatever comes beside them and however often they come."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from spark.dictionaries import add_ids

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.feedback.log import Taken, append_events, frame_rows, source_rows
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.schema import local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.tables import TABLE_BY_NAME
from ganrec_spark.run.invariants import feedback_log

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEADER = "event_id,user_id,item_id,kind,value,timestamp,edition,rank\n"
Take = Callable[..., Taken]


@pytest.fixture
def take(spark: SparkSession, lake: Lake, config: Config, tmp_path: Path) -> Take:
    """Return a function that appends lines of CSV as a file of its own."""

    def append(*lines: str, now: datetime = NOW, config: Config = config, header: str = HEADER) -> Taken:
        source = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        source.write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")
        return append_events(lake, config, source_rows(spark, config, str(source)), now)

    return append


def event(number: int, at: datetime = NOW, user: str = "u1", item: str = "i1", kind: str = "click") -> str:
    return f"e{number},{user},{item},{kind},,{at:%Y-%m-%dT%H:%M:%SZ},,"


def log(lake: Lake) -> list[tuple[str, str, str, str]]:
    users, items = lake.read_all("users"), lake.read_all("items")
    rows = lake.read_all("feedback_events").join(users, "user_idx").join(items, "item_idx").collect()
    return sorted((row.event_id, row.user_id, row.item_id, row.kind) for row in rows)


def snapshots(lake: Lake) -> list[int | None]:
    tables = ("feedback_events", "rejected_feedback", "users", "items")
    return [current_snapshot(lake.spark, lake.ensure(table)) for table in tables]


def test_what_comes_again_is_counted_and_changes_nothing(lake: Lake, take: Take) -> None:
    lines = [event(1), event(2, user="u2"), event(3, item="i2"), "e9,u1,,click,,2026-11-20,,"]
    first = take(*lines)
    assert (first.new, first.duplicates, first.rejected, first.known) == (3, 0, {"missing_item": 1}, 0)
    assert (first.new_users, first.new_items) == (2, 2)
    before = snapshots(lake)
    again = take(*lines)
    assert (again.new, again.duplicates, again.rejected, again.known) == (0, 3, {"missing_item": 1}, 1)
    assert snapshots(lake) == before  # not even an empty commit
    overlapping = take(event(2, user="u2"), event(4), event(4), event(3, item="i2"))
    assert (overlapping.new, overlapping.duplicates) == (1, 3)
    assert log(lake) == [
        ("e1", "u1", "i1", "click"),
        ("e2", "u2", "i1", "click"),
        ("e3", "u1", "i2", "click"),
        ("e4", "u1", "i1", "click"),
    ]
    assert lake.read_all("rejected_feedback").count() == 1
    assert feedback_log(lake)[0][0].level == "ok"


def test_without_ids_equal_rows_are_one_event(lake: Lake, take: Take) -> None:
    header = "user_id,item_id,kind,value,timestamp\n"
    rows = ["u1,i1,click,,2026-11-20T10:00:00Z", "u1,i1,click,,2026-11-20T10:00:01Z", "u1,i1,rating,4,2026-11-20"]
    assert take(*rows, rows[0], header=header).new == 3
    taken = take(rows[2], "u1,i1,rating,4.0,2026-11-20T00:00:00Z", "u1,i1,rating,5,2026-11-20", header=header)
    assert (taken.new, taken.duplicates) == (1, 2)  # 4 and 4.0 are one value, as the two times are one moment
    ids = [row.event_id for row in lake.read_all("feedback_events").collect()]
    assert all(len(one) == 64 for one in ids)
    assert len(set(ids)) == 4


def test_an_id_that_comes_with_another_time_is_a_duplicate(lake: Lake, take: Take) -> None:
    take(event(1, NOW - timedelta(days=3)))
    assert take(event(1, NOW)).duplicates == 1
    assert lake.read_all("feedback_events").count() == 1


RULES = [
    ("a,,i,click,,2026-11-20,,", "missing_user"),
    ("a,\\N,i,click,,2026-11-20,,", "missing_user"),
    ("a,u,  ,click,,2026-11-20,,", "missing_item"),
    ("a,u,i,,,2026-11-20,,", "unknown_kind"),
    ("a,u,i,Click!,,2026-11-20,,", "unknown_kind"),
    ("a,u,i,rating,,2026-11-20,,", "bad_value"),
    ("a,u,i,rating,many,2026-11-20,,", "bad_value"),
    ("a,u,i,rating,NaN,2026-11-20,,", "non_finite_value"),
    ("a,u,i,purchase,inf,2026-11-20,,", "non_finite_value"),
    ("a,u,i,rating,1000.5,2026-11-20,,", "value_out_of_range"),
    ("a,u,i,rating,-1,2026-11-20,,", "value_out_of_range"),
    ("a,u,i,click,,2026-11-20,,0", "bad_rank"),
    ("a,u,i,click,,2026-11-20,,1.5", "bad_rank"),
    ("a,u,i,click,,2026-11-20,,first", "bad_rank"),
    ("a,u,i,click,,,,", "bad_time"),
    ("a,u,i,click,,yesterday,,", "bad_time"),
    ("a,u,i,click,,1970-01-02,,", "bad_time"),
    ("a,u,i,click,,2026-11-20T12:05:01Z,,", "future_time"),
    ("a,u,i,click,,2126-11-20,,", "future_time"),
    ("a,u,i,click,,2026-11-20,nowhere,", "unknown_edition"),
    ("a,u,i", "malformed_row"),
    ("a,u,i,click,,2026-11-20,,,,7", "malformed_row"),
    (f"a,{'u' * 1001},i,click,,2026-11-20,,", "oversized_id"),
    (f"{'a' * 100_000},u,i,click,,2026-11-20,,", "oversized_id"),
]
GOOD = [
    "g1,u,i,purchase,-12.5,2026-11-20T12:04:59Z,,3",  # a minute ahead is a clock that is a minute ahead
    "g2,u,i,rating,0,1763596800,,",
    "g3,ключ,ü,hide,,2026-11-19 23:59:59,,",
]


def test_every_rule_has_its_name_and_stops_no_other_row(lake: Lake, take: Take) -> None:
    taken = take(*(row for row, _ in RULES), *GOOD)
    expected = Counter(rule for _, rule in RULES)
    assert taken.rejected == expected
    assert taken.new == len(GOOD)
    assert taken.read == len(RULES) + len(GOOD)
    rejected = lake.read_all("rejected_feedback").collect()
    assert Counter(row.rule for row in rejected) == expected
    assert all(row.source.endswith(".csv") and len(row.row) <= 10_000 for row in rejected)
    by_rule = {row.rule: row.row for row in rejected}
    assert json.loads(by_rule["unknown_edition"])["edition"] == "nowhere"
    assert sorted(row[0] for row in log(lake)) == ["g1", "g2", "g3"]
    told = taken.in_words()
    assert told.startswith("27 rows read, 3 new events (0 of them late), 0 duplicates, 24 rejected (bad_rank 3, ")


def test_bytes_that_are_no_text_are_rejected_alone(spark, lake: Lake, config: Config, tmp_path: Path) -> None:
    for name, lines in {
        "first.csv": [b"a,u1,\xff\xfe\xfa,click,,2026-11-20,,", b"b,u1,i1,click,,2026-11-20,,"],
        "first.jsonl": [
            b'{"event_id":"c","user_id":"u1","item_id":"\xff\xfe","kind":"click","timestamp":"2026-11-20"}',
            b'{"event_id":"d","user_id":"u1","item_id":"i1","kind":"click","timestamp":"2026-11-20"}',
            b'{"event_id":"f","user_id":"u1","item_id":"i1","kind":"rating","timestamp":"2026-11-20","value":4}',
            b"no JSON",
            b'{"event_id":"g","user_id":"u1","item_id":"i1","kind":"click","timestamp":"2026-11-20"}{"user_id":"u2"}',
            b"",
        ],
    }.items():
        source = tmp_path / name
        head = HEADER.encode() if name.endswith("csv") else b""
        source.write_bytes(head + b"\n".join([*lines, lines[-1] if head else b""]) + b"\n")
        taken = append_events(lake, config, source_rows(spark, config, str(source)), NOW)
        assert taken.rejected == ({"bad_encoding": 1} if head else {"bad_encoding": 1, "malformed_row": 2}), name
    assert [row[0] for row in log(lake)] == ["b", "d", "f"]


def test_late_events_are_taken_until_the_watermark(lake: Lake, take: Take) -> None:
    history = take(event(1, NOW - timedelta(days=400)), event(2, NOW - timedelta(days=1)))
    assert (history.new, history.late) == (2, 0)  # the first batch may be all of the history
    newest = NOW - timedelta(days=1)
    taken = take(event(3, newest - timedelta(days=7)), event(4, newest - timedelta(days=7, seconds=1)), event(5))
    assert (taken.new, taken.late, taken.rejected) == (2, 1, {"too_late": 1})
    again = take(event(1, NOW - timedelta(days=400)), event(4, newest - timedelta(days=7, seconds=1)))
    assert (again.duplicates, again.rejected, again.known) == (1, {"too_late": 1}, 1)  # what is known is no news
    assert [row[0] for row in log(lake)] == ["e1", "e2", "e3", "e5"]


def test_no_clock_but_that_of_now_moves_the_watermark(lake: Lake, take: Take) -> None:
    ahead = NOW + timedelta(days=365)
    taken = take(event(1), event(2, ahead))
    assert (taken.new, taken.rejected) == (1, {"future_time": 1})
    assert take(event(3, NOW - timedelta(days=6))).new == 1
    # Our own clock was a year ahead for a batch: what was taken then does not make everybody late.
    assert take(event(4, ahead), now=ahead).new == 1
    with pytest.raises(LakeError, match=r"expected a clock that is not behind .* nothing was taken"):
        take(event(5))
    assert [row[0] for row in log(lake)] == ["e1", "e3", "e4"]


def test_a_client_whose_clock_is_ahead_moves_it_by_no_more_than_now(lake: Lake, take: Take) -> None:
    take(event(1, NOW + timedelta(minutes=4)))
    assert take(event(2, NOW - timedelta(days=7))).new == 1
    assert take(event(3, NOW - timedelta(days=7, seconds=1))).rejected == {"too_late": 1}


def test_what_was_too_early_is_taken_when_its_time_has_come(lake: Lake, take: Take) -> None:
    early = event(1, NOW + timedelta(days=1))
    assert take(early).rejected == {"future_time": 1}
    assert take(early, now=NOW + timedelta(days=1)).new == 1


def test_thousands_of_events_of_one_user_are_one_user(spark: SparkSession, lake: Lake, config: Config) -> None:
    def frame(first: int) -> DataFrame:
        numbers = spark.range(first, first + 20_000)
        times = F.timestamp_seconds(F.lit(int(NOW.timestamp())) - F.col("id"))
        return numbers.select(
            F.lit(7).alias("user_id"),
            (F.col("id") % 50).alias("item_id"),
            F.lit("click").alias("kind"),
            times.alias("timestamp"),
        )

    taken = append_events(lake, config, frame_rows(frame(0), config, "a batch"), NOW)
    assert (taken.new, taken.new_users, taken.new_items) == (20_000, 1, 50)
    taken = append_events(lake, config, frame_rows(frame(10_000), config, "a batch"), NOW)
    assert (taken.new, taken.duplicates, taken.new_users) == (10_000, 10_000, 0)
    assert lake.read_all("feedback_events").count() == 30_000


def test_a_message_that_nobody_understands_is_rejected(spark: SparkSession, lake: Lake, config: Config) -> None:
    poison = [("u1", "i1", "click", "01/02/2026", None), ("u1", bytearray(b"\xff\xfe"), "click", "2026-11-20", "")]
    for row in poison:
        item = "binary" if isinstance(row[1], bytearray) else "string"
        schema = f"user_id string, item_id {item}, kind string, timestamp string, value string"
        taken = append_events(lake, config, frame_rows(spark.createDataFrame([row], schema), config, "a stream"), NOW)
        assert sum(taken.rejected.values()) == 1
    rules = {row.rule for row in lake.read_all("rejected_feedback").collect()}
    assert rules == {"bad_time", "bad_encoding"}
    assert log(lake) == []


def test_pseudonyms_stand_for_users_in_the_quarantine_too(lake: Lake, take: Take, make_config) -> None:
    salted = make_config("ingest.pseudonym_salt=salt")
    taken = take(event(1, user="alice"), event(2, user="alice", kind="poke"), "a,alice", config=salted)
    assert taken.rejected == {"unknown_kind": 1, "malformed_row": 1}
    everything = [*lake.read_all("rejected_feedback").collect(), *lake.read_all("users").collect()]
    assert not any("alice" in str(row) for row in everything)
    (user,) = lake.read_all("users").collect()
    assert len(user.user_id) == 32


def show(lake: Lake, run_id: str, edition: str, rows: list[tuple[object, ...]]) -> None:
    """Publish an edition with exposures (user_idx, rank, item_idx, arm, propensity)."""
    columns = TABLE_BY_NAME["exposures"].columns
    table = local_frame(lake.spark, columns, [(edition, *row, "ranked") for row in rows])
    lake.replace("exposures", table, run_id, only={"edition": edition})
    assert lake.point_to(run_id, edition, lake.published())


def test_events_answer_the_last_exposure_before_them(
    spark: SparkSession, lake: Lake, take: Take, config: Config
) -> None:
    for table, kind in (("users", "user"), ("items", "item")):
        ids = [(f"{kind[0]}{n}", n, "2026-11-01") for n in range(3)]
        add_ids(lake, table, local_frame(spark, TABLE_BY_NAME[table].columns, ids))
    show(lake, "2026-11-01", "old", [(0, 1, 0, "blend", 1.0), (0, 2, 1, "blend", 0.5)])
    show(lake, "2026-11-02", "new", [(0, 1, 1, "plain", 1.0), (0, 2, 2, "plain", 0.25), (1, 1, 0, "blend", 1.0)])
    old, new = (datetime.fromisoformat(one.committed_at).replace(tzinfo=UTC) for one in lake.publications()[::-1])
    between, after, before = old + (new - old) / 2, new + timedelta(seconds=1), old - timedelta(seconds=1)

    def line(name: str, at: datetime, item: int, user: int = 0, edition: str = "", rank: object = "") -> str:
        return f"{name},u{user},i{item},click,,{at:%Y-%m-%dT%H:%M:%S.%fZ},{edition},{rank}"

    taken = take(
        line("before", before, 0),
        line("between", between, 1),
        line("after", after, 1),
        line("once", after, 0),  # not in the new edition: the last exposure is of the old one
        line("never", after, 2, user=1),
        line("named", after, 1, edition="old"),
        line("early", before, 1, edition="old"),  # the client's clock is behind
        line("moved", after, 1, edition="old", rank=5),
        line("elsewhere", after, 2, edition="old", rank=9),
        line("ranked", after, 2, rank=2),
        now=after,
    )
    assert (taken.new, taken.rejected) == (10, {})
    rows = {row.event_id: row for row in lake.read_all("feedback_events").collect()}
    assert {name: (row.edition, row["rank"], row.arm, row.propensity) for name, row in rows.items()} == {
        "before": (None, None, None, None),
        "between": ("old", 2, "blend", 0.5),
        "after": ("new", 1, "plain", 1.0),
        "once": ("old", 1, "blend", 1.0),
        "never": (None, None, None, None),
        "named": ("old", 2, "blend", 0.5),
        "early": ("old", 2, "blend", 0.5),
        "moved": ("old", 5, "blend", None),
        "elsewhere": ("old", 9, None, None),
        "ranked": ("new", 2, "plain", 0.25),
    }


def test_doctor_finds_an_event_twice_and_one_of_nobody(lake: Lake, take: Take) -> None:
    take(event(1), event(2))
    stored = lake.read_all("feedback_events").localCheckpoint()
    stored.where("event_id = 'e1'").withColumn("user_idx", F.lit(9)).writeTo(lake.name("feedback_events")).append()
    ((finding,), _) = feedback_log(lake)
    assert finding.level == "fail"
    assert finding.found == "1 event ids twice, 1 events of users that are in no dictionary"
