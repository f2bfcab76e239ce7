"""From raw rows to ratings, rejects and dictionaries."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark.dictionaries import add_ids

from ganrec_spark.errors import ConfigError, InputError, LakeError
from ganrec_spark.frames.dense_index import with_positions
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake

HEADER = "user_id,item_id,rating,timestamp\n"
RUN = "2026-11-01"
BIG = "18446744073709551616000"

RULES = f"""
{BIG},ключ,4,1700000000 -> ok
 u1 ,i1,3,2023-11-14T22:13:20Z -> ok
u1,i1,3,1700000000 -> exact_duplicate
u1,i1,5,1600000000 -> conflicting_duplicate
u2,i1,2,1700000000 -> conflicting_duplicate
u2,i1,4,1700000000 -> ok
,i1,3,1700000000 -> missing_id
u3,"  ",3,1700000000 -> missing_id
u4,i1,many,1700000000 -> bad_rating
u4,i2,,1700000000 -> bad_rating
u4,i3,NaN,1700000000 -> non_finite_rating
u4,i4,-Infinity,1700000000 -> non_finite_rating
u4,i5,1000.5,1700000000 -> rating_out_of_range
u4,i6,-1,1700000000 -> rating_out_of_range
u5,i1,3,yesterday -> bad_time
u5,i2,3, -> bad_time
u5,i3,3,12:30 -> bad_time
u5,i4,3,1e300 -> bad_time
u5,i5,3,2026-11-01T23:59:59Z -> ok
u5,i6,3,2999-11-02 -> future_time
u5,i7,3,32500915200000 -> future_time
u6,i1,3 -> malformed_row
u6,i2,3,1700000000,5 -> malformed_row
"""


def cases() -> list[tuple[str, str]]:
    return [tuple(line.split(" -> ")) for line in RULES.strip("\n").splitlines()]


def pairs(lake: Lake, run_id: str = RUN) -> dict[tuple[str, str], float]:
    users, items = lake.read("users", run_id), lake.read("items", run_id)
    rows = lake.read("ratings", run_id).join(users, "user_idx").join(items, "item_idx").collect()
    return {(row.user_id, row.item_id): row.rating for row in rows}


def dictionary(lake: Lake, table: str) -> dict[str, int]:
    rows = lake.read(table, RUN).collect()
    result = {row[0]: row[1] for row in rows}
    assert len(result) == len(rows), "an id twice"
    assert sorted(result.values()) == list(range(len(rows))), "not dense"
    return result


def test_every_rule_has_its_name_and_every_row_is_counted(make_config, run_stages, lake: Lake, tmp_path: Path):
    source = tmp_path / "ratings.csv"
    source.write_text(HEADER + "".join(f"{row}\n" for row, _ in cases()), encoding="utf-8")
    config = make_config(f"ingest.source={source}", "ingest.max_rejected_share=1.0")
    (outcome,) = run_stages(config, "ingest")
    rejected = lake.read("rejected_ratings", RUN).collect()
    expected = Counter(rule for _, rule in cases())
    assert pairs(lake) == {(BIG, "ключ"): 4.0, ("u1", "i1"): 3.0, ("u2", "i1"): 4.0, ("u5", "i5"): 3.0}
    assert Counter(row.rule for row in rejected) == expected - Counter(ok=expected["ok"])
    assert f"{len(cases())} rows read, 4 ratings, {len(rejected)} rejected" in outcome.message
    assert all(row.file.endswith("/ratings.csv") for row in rejected)
    by_rule = {(row.rule, row.row) for row in rejected}
    assert ("malformed_row", json.dumps({"line": "u6,i1,3"}, separators=(",", ":"))) in by_rule
    assert ("bad_rating", '{"user_id":"u4","item_id":"i2","rating":null,"timestamp":"1700000000"}') in by_rule
    assert ("conflicting_duplicate", '{"user_id":"u2","item_id":"i1","rating":"2","timestamp":"1700000000"}') in by_rule


def test_a_bad_delivery_fails_and_leaves_the_ratings_as_they_were(make_config, run_stages, lake: Lake, tmp_path: Path):
    good, bad, hopeless, headed = (tmp_path / name for name in ("good.csv", "bad.csv", "hopeless.csv", "headed.csv"))
    good.write_text(HEADER + "u1,i1,3,1\nu2,i2,4,2\n")
    bad.write_text(HEADER + "u1,i1,3,1\nu1,i1,3,1\nu2,i2,x,2\nu2,i3,3,2\n")
    hopeless.write_text(HEADER + "u1,i1,NaN,1\nu2,i2,inf,2\n")
    headed.write_text(HEADER)
    run_stages(make_config(f"ingest.source={good}"), "ingest")
    before = pairs(lake)
    with pytest.raises(InputError, match=r"2 of 4 rows \(50.0%\).*bad_rating 1, exact_duplicate 1.*rejected_ratings"):
        run_stages(make_config(f"ingest.source={bad}"), "ingest")
    assert lake.read("rejected_ratings", RUN).count() == 2
    with pytest.raises(InputError, match="all 2 rows were rejected"):
        run_stages(make_config(f"ingest.source={hopeless}", "ingest.max_rejected_share=1.0"), "ingest")
    with pytest.raises(InputError, match="found no rows"):
        run_stages(make_config(f"ingest.source={headed}"), "ingest")
    with pytest.raises(InputError, match="expected a file, folder, URI or table, found none"):
        run_stages(make_config(), "ingest")
    assert pairs(lake) == before
    assert dictionary(lake, "users").keys() == {"u1", "u2"}


def test_dictionaries_only_grow_and_survive_a_kill_between_them(
    make_config, run_stages, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(HEADER + "".join(f"u{n},i{n % 7},3,{n}\n" for n in range(20)))
    second.write_text(HEADER + "".join(f"u{n},i{n % 11},3,{n}\n" for n in range(10, 40)))
    run_stages(make_config(f"ingest.source={first}"), "ingest")
    users, items = dictionary(lake, "users"), dictionary(lake, "items")
    (again,) = run_stages(make_config(f"ingest.source={first}"), "ingest")
    assert "0 new users, 0 new items" in again.message
    assert (dictionary(lake, "users"), dictionary(lake, "items")) == (users, items)

    extend = StageLake.extend

    def killed(self: StageLake, table: str, frame: object) -> int:
        if table == "items":
            raise KeyboardInterrupt
        return extend(self, table, frame)

    with monkeypatch.context() as patch:
        patch.setattr(StageLake, "extend", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stages(make_config(f"ingest.source={second}"), "ingest", run_id="2026-11-02")
    (after,) = run_stages(make_config(f"ingest.source={second}"), "ingest", run_id="2026-11-02")
    assert "0 new users, 4 new items" in after.message
    grown = dictionary(lake, "users")
    assert len(grown) == 40
    assert users.items() <= grown.items()
    assert items.items() <= dictionary(lake, "items").items()
    assert len(pairs(lake)) == 20
    assert len(pairs(lake, "2026-11-02")) == 30


def test_events_add_up_and_copies_do_not(make_config, run_stages, lake: Lake, tmp_path: Path):
    source = tmp_path / "events.csv"
    source.write_text(
        "user_id,item_id,event,timestamp\n"
        "u1,i1,view,10\nu1,i1,view,20\nu1,i1,purchase,20\nu1,i1,view,20\n"  # 1 + 1 + 5, the last one a copy
        "u2,i1,click,5\nu2,i2,wink,5\n"
    )
    config = make_config(
        f"ingest.source={source}",
        "ingest.feedback=implicit",
        "ingest.columns.event=event",
        "ingest.max_rejected_share=0.5",
    )
    (outcome,) = run_stages(config, "ingest")
    assert pairs(lake) == {("u1", "i1"): 7.0, ("u2", "i1"): 2.0}
    assert lake.read("ratings", RUN).agg(F.max(F.unix_timestamp("ts"))).first()[0] == 20
    assert outcome.message.startswith(
        "6 rows read, 2 ratings, 2 events merged into others of the same user and item, 2 rejected "
        "(exact_duplicate 1, unknown_event 1)"
    )


def test_positions_are_dense_and_do_not_depend_on_partitions(spark: SparkSession):
    keys = spark.range(1000).select(F.concat(F.lit("k"), "id").alias("key"))
    numbered = []
    for partitions in (1, 7):
        frame, count = with_positions(keys.repartition(partitions), "key", "position", F.xxhash64("key"), first=5)
        numbered.append({row.key: row.position for row in frame.collect()})
        assert count == 1000
    assert numbered[0] == numbered[1]
    assert sorted(numbered[0].values()) == list(range(5, 1005))


def test_rows_of_one_time_keep_the_files_order_where_the_source_says_that_it_is_one(
    spark: SparkSession, lake: Lake, make_config, run_stages, tmp_path: Path
):
    # Two files, the second one larger, which Spark reads first; i3 is rated again in the last row.
    (tmp_path / "a.csv").write_text(HEADER + "u,i9,1,100\nu,i3,2,100\nu,i5,3,100\n")
    (tmp_path / "b.csv").write_text(HEADER + "u,i7,4,100\nu,i1,5,100\nu,i0,1,50\nu,i3,9,100\n")
    config = make_config(f"ingest.source={tmp_path}", "ingest.tie_order=source", "ingest.max_rejected_share=0.2")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "30")  # several pieces of a file for several tasks
    run_stages(config, "ingest")
    spark.conf.unset("spark.sql.files.maxPartitionBytes")
    rows = lake.read("ratings", RUN).join(lake.read("items", RUN), "item_idx").orderBy("ts").collect()
    assert [(row.item_id, row.rating) for row in rows] == [
        ("i0", 1.0), ("i9", 1.0), ("i5", 3.0), ("i7", 4.0), ("i1", 5.0), ("i3", 9.0)
    ]  # fmt: skip
    seconds = [row.ts.timestamp() for row in rows]
    assert seconds[:2] == [50.0, 100.0]
    assert seconds[-1] - 100.0 == pytest.approx(4e-6, abs=1e-7)
    run_stages(config, "split")
    held = {name: lake.read(f"{name}_ratings", RUN).collect()[0].item_idx for name in ("validation", "test")}
    assert held == {"validation": rows[-2].item_idx, "test": rows[-1].item_idx}


def test_the_same_event_twice_at_one_time_is_one_whatever_stands_between(
    lake: Lake, make_config, run_stages, tmp_path: Path
):
    rows = "u,i1,view,100\nu,i1,cart,100\nu,i1,view,100\n"
    (tmp_path / "events.csv").write_text("user_id,item_id,event,timestamp\n" + rows)
    run_stages(
        make_config(
            f"ingest.source={tmp_path}", "ingest.tie_order=source", "ingest.max_rejected_share=0.5",
            "ingest.feedback=implicit", "ingest.columns.event=event", "ingest.event_weights={view: 1.0, cart: 3.0}",
        ),
        "ingest",
    )  # fmt: skip
    assert [row.rating for row in lake.read("ratings", RUN).collect()] == [4.0]
    assert [row.rule for row in lake.read("rejected_ratings", RUN).collect()] == ["exact_duplicate"]


def test_a_table_has_no_order_of_its_own(make_config):
    with pytest.raises(ConfigError, match="rows of a table have no order"):
        make_config("ingest.source=x", "ingest.format=table", "ingest.tie_order=source")


def ingested(lake: Lake, run_stages, config) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float], str]:
    """Return what a user rated and liked, what they disliked, and what the stage said."""
    (outcome,) = run_stages(config, "ingest")
    users, items = lake.read("users", RUN), lake.read("items", RUN)
    rows = lake.read("disliked_ratings", RUN).join(users, "user_idx").join(items, "item_idx").collect()
    return pairs(lake), {(row.user_id, row.item_id): row.rating for row in rows}, outcome.message


def test_ratings_that_mean_dislike_are_kept_apart(lake: Lake, make_config, run_stages, tmp_path: Path):
    source = tmp_path / "votes.csv"
    source.write_text("user_id,item_id,rating\nu,a,-5.5\nu,b,3\nu,c,0\nv,a,9\nw,a,-1\n")
    shared = (f"ingest.source={source}", "ingest.columns.timestamp=null", "ingest.rating_min=-10")
    likes, dislikes, told = ingested(lake, run_stages, make_config(*shared))
    assert likes == {("u", "b"): 3.0, ("u", "c"): 0.0, ("v", "a"): 9.0}
    assert dislikes == {("u", "a"): -5.5, ("w", "a"): -1.0}
    assert "5 rows read, 5 ratings" in told
    assert "2 ratings below 0 are dislikes (ingest.liked_from)" in told
    likes, dislikes, _ = ingested(lake, run_stages, make_config(*shared, "ingest.liked_from=5"))
    assert likes == {("v", "a"): 9.0}
    likes, dislikes, _ = ingested(lake, run_stages, make_config(*shared, "ingest.liked_from=null"))
    assert (len(likes), len(dislikes)) == (5, 0)
    likes, dislikes, told = ingested(lake, run_stages, make_config(*shared, "ingest.unrated=0"))
    assert ("u", "c") not in likes | dislikes
    assert "1 ignored (not_rated 1)" in told
    with pytest.raises(InputError, match="expected ratings of at least 50"):
        run_stages(make_config(*shared, "ingest.liked_from=50"), "ingest")


def test_events_of_weight_nought_are_counted_and_left_out(lake: Lake, make_config, run_stages, tmp_path: Path):
    source = tmp_path / "events.csv"
    source.write_text("user_id,item_id,event,timestamp\n" + "u,a,view,1\n" * 3 + "u,b,cart,2\nu,c,wish,3\n")
    shared = (f"ingest.source={source}", "ingest.feedback=implicit", "ingest.columns.event=event")
    config = make_config(*shared, "ingest.event_weights.view=0", "ingest.event_weights.wish=2")
    likes, _, told = ingested(lake, run_stages, config)
    assert likes == {("u", "b"): 3.0, ("u", "c"): 2.0}, "maps merge over the defaults"
    assert "0 rejected, 3 ignored (ignored_event 3)" in told
    assert lake.read("rejected_ratings", RUN).isEmpty()
    config = make_config(*shared, "ingest.max_rejected_share=0.7")
    assert "unknown events: 'wish' 1; give them a weight" in ingested(lake, run_stages, config)[2]


def test_events_of_one_day_are_as_many(lake: Lake, make_config, run_stages, tmp_path: Path):
    source = tmp_path / "bought.csv"
    source.write_text("user_id,item_id,timestamp\nu,a,2004-11-09\nu,a,2004-11-09\nu,b,2004-11-10\n")
    config = make_config(f"ingest.source={source}", "ingest.feedback=implicit", "ingest.columns.rating=null")
    assert ingested(lake, run_stages, config)[0] == {("u", "a"): 2.0, ("u", "b"): 1.0}


HINTS = [
    ("u,a,5000,1", "Ratings from 5000 to 5000 are outside", "rating_max 1000; widen them"),
    ("u,a,many,1", "Bad_rating: 'many'", "ingest.columns.rating"),
    ("u,a,3,soon", "Bad_time: 'soon'", "ingest.timestamp_format"),
    ("u,a,3", "Malformed_row", "ingest.delimiter"),
    ("u,b,4,1", "Several ratings of one user and item", "ingest.feedback=implicit"),
]


@pytest.mark.parametrize(("row", "found", "key"), HINTS)
def test_a_common_reject_names_the_key_that_would_take_it(
    lake: Lake, make_config, run_stages, tmp_path: Path, row: str, found: str, key: str
):
    (tmp_path / "a.csv").write_text(HEADER + "u,b,3,1\nv,b,3,2\n" + f"{row}\n")
    with pytest.raises(InputError) as error:
        run_stages(make_config(f"ingest.source={tmp_path / 'a.csv'}"), "ingest")
    assert found in str(error.value)
    assert key in str(error.value)


def test_damaged_dictionaries_do_not_double_ratings_unseen(lake: Lake, make_config, run_stages, tmp_path: Path):
    (tmp_path / "a.csv").write_text(HEADER + "u,b,3,1\nv,b,3,2\n")
    config = make_config(f"ingest.source={tmp_path / 'a.csv'}")
    run_stages(config, "ingest")
    add_ids(lake, "users", lake.read_all("users").where("user_id = 'u'"))
    with pytest.raises(LakeError, match=r"2 ratings stay as many, found 3 after the join; .*ganrec doctor"):
        run_stages(config, "ingest")


def test_a_backfill_from_a_source_that_has_gone_on_leaves_later_rows_for_later(
    lake: Lake, make_config, run_stages, tmp_path: Path
):
    days = ["2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03", "2999-01-01"]
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"u,i{day},3,{day}\n" for day in days))
    config = make_config(f"ingest.source={tmp_path / 'a.csv'}", "ingest.max_rejected_share=0.2")
    likes, _, told = ingested(lake, run_stages, config)
    assert likes.keys() == {("u", "i2026-10-31"), ("u", "i2026-11-01")}
    assert "1 rejected (future_time 1), 2 ignored (not_yet_given 2)" in told
    assert [row.rule for row in lake.read("rejected_ratings", RUN).collect()] == ["future_time"]


def test_a_further_run_of_a_date_knows_what_happened_before_its_moment(lake: Lake, make_config, run_stages, tmp_path):
    hours = ["00:00", "11:59", "12:00", "23:00"]
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"u,i{hour},3,2025-11-01T{hour}:00Z\n" for hour in hours))
    config = make_config(f"ingest.source={tmp_path / 'a.csv'}", "run.as_of=2025-11-01T12:00:00Z")
    run_stages(config, "ingest", run_id="2025-11-01.1")
    found = lake.read("ratings", "2025-11-01.1").join(lake.read_all("items"), "item_idx").collect()
    assert {row.item_id for row in found} == {"i00:00", "i11:59"}
    with pytest.raises(ConfigError, match=r"run.as_of: expected a moment of the run's date 2025-11-02"):
        run_stages(config, "ingest", run_id="2025-11-02")


def test_with_a_salt_no_table_but_one_knows_whose_a_rating_is(
    lake: Lake, make_config, run_stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SALT_OF_TEST", "grains")
    rows = "anna,a,3,1\nbert,a,4,2\nbert,a,5,3\ncarl,b,many,4\nd\ufffdra,b,3,4\ndora,b,3\n"
    (tmp_path / "a.csv").write_text(HEADER + rows)
    shared = (f"ingest.source={tmp_path / 'a.csv'}", "ingest.max_rejected_share=0.9")
    config = make_config(*shared, "ingest.pseudonym_salt=${SALT_OF_TEST}")
    likes, _, told = ingested(lake, run_stages, config)
    known = {row.user_id: row.source_id for row in lake.read("pseudonyms", RUN).collect()}
    assert set(known.values()) == {"anna", "bert"}
    assert {(known[user], item): rating for (user, item), rating in likes.items()} == {
        ("anna", "a"): 3.0,
        ("bert", "a"): 5.0,
    }
    anna = hashlib.sha256(b"grains\x1fanna").hexdigest()[:32]
    assert known[anna] == "anna"
    rejected = lake.read("rejected_ratings", RUN).collect()
    assert {row.rule for row in rejected} == {"conflicting_duplicate", "bad_rating", "bad_encoding", "malformed_row"}
    for table in ("users", "items", "ratings", "rejected_ratings", "stage_log"):
        content = str(lake.read(table, RUN).collect())
        assert not any(name in content for name in ("anna", "bert", "carl", "dora")), table
    assert "anna" not in told
    # The same people in a later run are the same users.
    run_stages(config, "ingest", run_id="2026-11-02")
    assert lake.read("users", RUN).count() == 2
    with pytest.raises(ConfigError, match="expected environment variable NO_SALT"):
        run_stages(make_config(*shared, "ingest.pseudonym_salt=${NO_SALT}"), "ingest")
