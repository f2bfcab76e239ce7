"""Five users, ten items, lists by hand: what recommend gives them and what evaluate says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import Row, SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.load import load_config
from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.quality import metric_sums
from ganrec_spark.evaluation.segments import segment_means
from ganrec_spark.experiment.exposures import exposure_rows
from ganrec_spark.frames.ship import ship
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.reporting.explain import Listed, places, why
from ganrec_spark.rules.reading import known_rows
from ganrec_spark.run.context import Context
from ganrec_spark.stages import evaluate, recommend

MakeContext = Callable[..., Context]

RUN, DAY = "2026-11-01", datetime(2026, 1, 1)
# User 3 saw the whole catalogue, user 4 has held-out ratings only. Counts of items: 0: 4, 1: 3, 2: 3, 3: 2, others 1.
SEEN = {0: [0, 1], 1: [0, 2], 2: [0, 1, 2, 3], 3: list(range(10))}
CATALOGUE = list(range(10))
TRENDING = [8, *range(8), 9]
LISTS = {
    "als": {0: [4, 5], 1: [3, 5, 6]},
    "item_item": {0: [5, 3], 1: [3], 2: [7]},
    "transformer": {0: [4]},
    "trending": {user: [i for i in TRENDING if i not in seen] for user, seen in SEEN.items()} | {-1: TRENDING},
    "popularity": {user: [i for i in CATALOGUE if i not in seen] for user, seen in SEEN.items()} | {-1: CATALOGUE},
}
VALIDATION = [(0, 5), (1, 3), (2, 7), (4, 0)]
TEST = [(0, 3), (0, 4), (0, 11), (1, 9), (4, 2)]


@pytest.fixture(scope="module")
def make_context(spark: SparkSession, lake_root: Path) -> MakeContext:
    """Return a function from a stage's name and configuration to its context in the world's namespace."""
    lake = Lake(spark, "lake", "five_users")

    def make(stage_name: str, *overrides: str) -> Context:
        stage = STAGE_BY_NAME[stage_name]
        staged = StageLake(lake, RUN, stage_name, None, stage.reads, stage.writes)
        fixed = [f"lake.root={lake_root}", "recommend.n=3", "recommend.n_candidates=20", "evaluate.ks=[2,5]"]
        return Context(spark, load_config(overrides=[*fixed, *overrides], environ={}), staged, RUN, None, "")

    return make


@pytest.fixture(scope="module")
def world(make_context: MakeContext) -> Lake:
    context = make_context("recommend")
    lake, frame = context.lake.lake, context.lake.frame

    def put(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, frame(table, rows), RUN, phase)

    observed = [(user, item) for user, items in SEEN.items() for item in items]
    add_ids(lake, "users", frame("users", [(f"u{u}", u, RUN) for u in range(5)]))
    add_ids(lake, "items", frame("items", [(f"i{i}", i, RUN) for i in range(12)]))
    put("ratings", [(u, i, 5.0, DAY, "source") for u, i in sorted({*observed, *VALIDATION, *TEST})])
    put("train_ratings", [(u, i, 5.0, DAY) for u, i in observed])
    put("validation_ratings", [(u, i, 5.0, DAY) for u, i in VALIDATION])
    put("test_ratings", [(u, i, 5.0, DAY) for u, i in TEST])
    few, many = ("sparse", "bucket:1-5"), ("dense", "bucket:6-10")
    segments = [(u, name) for u in SEEN for name in (few if u < 3 else many)]
    put("user_segments", [*segments, (1, "age:30-39"), (3, "age:30-39")])
    for phase in ("choose", "final"):
        for member, lists in LISTS.items():
            scored = [("none", u, items, np.linspace(1, 0.1, len(items)).tolist()) for u, items in lists.items()]
            put(f"{member}_candidates", scored, phase)
        put("merged_ratings", [(u, i, 5.0, DAY, True, "none") for u, i in observed], phase)
        put("item_item_weights", [(5, [1, 0, 9], [0.9, 0.2, -0.5]), (4, [8], [0.3])], phase)
        put("als_quality", [("none", "rmse", 0.9)], phase)
    return lake


@dataclass(frozen=True)
class Written:
    """What recommend and evaluate wrote on the untouched world; read once, for every test costs commits."""

    recommendations: list[Row]
    codes: dict[str, tuple[str, int]]
    weights: list[Row]
    blends: dict[str, dict[int, list[int]]]
    metrics: dict[tuple[object, ...], Row]


@pytest.fixture(scope="module")
def written(world: Lake, make_context: MakeContext) -> Written:
    recommend.run(make_context("recommend"))
    evaluate.run(make_context("evaluate"))
    rows = world.read("metrics", RUN).collect()
    return Written(
        listed(world),
        codes(world),
        world.read("blend_weights", RUN).collect(),
        {
            phase: {row.user_idx: list(row["items"]) for row in world.read("blend_candidates", RUN, phase).collect()}
            for phase in ("choose", "final")
        },
        {(row.recommender, row.split, row.segment, row.metric, row.k): row for row in rows},
    )


def listed(lake: Lake) -> list[Row]:
    return lake.read("recommendations", RUN).orderBy("user_id", "rank").collect()


def codes(lake: Lake) -> dict[str, tuple[str, int]]:
    return {row.user_id: (row.code, row.n_available) for row in lake.read("unserved_users", RUN).collect()}


def test_every_user_gets_n_items_or_a_code(written: Written) -> None:
    lists = {
        f"u{user}": [
            (row.rank, row.item_id, sorted(row.members), row.reason, row.because_item_id)
            for row in written.recommendations
            if row.user_idx == user
        ]
        for user in range(5)
    }
    assert {user: len(rows) for user, rows in lists.items()} == {"u0": 3, "u1": 3, "u2": 3, "u3": 0, "u4": 3}
    assert written.codes == {"u3": ("too_few_items", 0)}
    by_item = {row[1]: row[2:] for row in lists["u0"]}
    assert by_item["i5"] == (["als", "item_item", "trending"], "history", "i1")
    assert by_item["i4"] == (["als", "transformer", "trending"], "similar_users", None)
    assert lists["u2"] == [
        (1, "i7", ["item_item", "trending"], "similar_users", None),
        (2, "i8", ["trending"], "popular", None),
        (3, "i4", ["trending"], "popular", None),
    ]
    assert [row[1] for row in lists["u4"]] == ["i8", "i0", "i1"]
    assert all(row.item_idx not in SEEN.get(row.user_idx, []) for row in written.recommendations)
    for user in SEEN:
        scores = [row.score for row in written.recommendations if row.user_idx == user]
        assert scores == sorted(scores, reverse=True)


def test_the_blend_is_no_worse_than_its_best_member_and_both_phases_have_lists(written: Written) -> None:
    # The most even weights with user 0's item 5 before ALS's and the transformer's 4, and with trending for user 4.
    weights = {row.recommender: row.weight for row in written.weights}
    assert weights == pytest.approx({"als": 0.2, "item_item": 0.3, "transformer": 0.2, "trending": 0.3}, abs=0.05)
    assert all(row.published for row in written.weights)
    # Users 0, 1, 2 and 4; ALS has user 0's item second, user 1's first; trending has them at 5, 3, 5 and 2.
    alone = {row.recommender: row.member_ndcg for row in written.weights}
    trending = (2 / log2(6) + 1 / 2 + 1 / log2(3)) / 4
    als = (1 / log2(3) + 1) / 4
    assert alone == pytest.approx({"als": als, "item_item": 3 / 4, "transformer": 0, "trending": trending})
    assert written.weights[0].validation_ndcg == pytest.approx((3 + 1 / log2(3)) / 4)
    # In phase choose those who have validation ratings are asked, and nobody else.
    assert set(written.blends["choose"]) == {0, 1, 2, 4}
    assert set(written.blends["final"]) == {0, 1, 2, 3, 4}
    assert {user: written.blends["final"][user] for user in written.blends["choose"]} == written.blends["choose"]
    served = [row.item_idx for row in written.recommendations if row.user_idx == 0]
    assert written.blends["final"][0][:3] == served


def test_metrics_by_hand(written: Written) -> None:
    table = written.metrics

    def value(*key: object) -> float:
        return float(table[key].value)

    # Test users 0 (held out 3, 4, 11), 1 (9) and 4 (2, no training row). ALS lists 4, 5 for 0 and misses 9 for 1.
    assert value("als", "test", "all", "recall", 2) == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert value("als", "test", "all", "ndcg", 2) == pytest.approx(1 / (1 + 1 / log2(3)) / 3)
    assert value("als", "test", "sparse", "precision", 2) == pytest.approx((1 / 2 + 0) / 2)
    assert value("als", "test", "all", "mrr", 5) == pytest.approx(1 / 3)
    assert table["als", "test", "all", "recall", 2].n_users == 3
    assert value("als", "test", "cold", "recall", 5) == 0
    # The list for anyone is 0, 1, 2, ...: user 4's item is third.
    assert value("popularity", "test", "cold", "recall", 2) == 0
    assert value("popularity", "test", "cold", "mrr", 5) == pytest.approx(1 / 3)
    assert value("trending", "test", "cold", "mrr", 5) == pytest.approx(1 / 4)
    assert value("blend", "test", "cold", "mrr", 5) == pytest.approx(1 / 4)
    # ALS lists 4, 5 and 3, 5 in the first two places: 3 of 10 items.
    assert value("als", "test", "all", "coverage", 2) == pytest.approx(3 / 10)
    assert table["als", "test", "all", "coverage", 2].ci_low is None
    assert value("als", "test", "all", "rmse", 0) == pytest.approx(0.9)
    # In train and validation five users rated item 4 once, 5 twice, 3 three times: 4, 5 and 3, 5 are listed.
    bits = [log2(5 / 1), log2(5 / 2), log2(5 / 3), log2(5 / 2)]
    assert value("als", "test", "all", "novelty", 2) == pytest.approx(sum(bits) / 4)
    row = table["als", "test", "all", "recall", 2]
    half = 1.959964 * np.std([1 / 3, 0, 0], ddof=1) / 3**0.5
    assert (row.ci_low, row.ci_high) == pytest.approx((1 / 9 - half, 1 / 9 + half))
    segments = {segment for _, _, segment, _, _ in table}
    assert segments == {"all", "sparse", "cold", "bucket:1-5", "age:30-39"}
    # Of that age one user, 1, has a test item, whose 9 ALS does not list.
    assert table["als", "test", "age:30-39", "recall", 2].n_users == 1
    assert value("als", "test", "age:30-39", "recall", 2) == 0
    assert {recommender for recommender, *_ in table} == {"blend", *LISTS}


def test_metrics_do_not_depend_on_the_order_of_users_to_the_last_bit(spark: SparkSession) -> None:
    # One list for all has a variance of 0, whose rounding errors a square root makes large.
    n_users, ks = 3000, (2, 5)
    rng = np.random.default_rng(0)
    lists_of = {"blend": [rng.permutation(40)[:5] for _ in range(n_users)], "popularity": [np.arange(5)] * n_users}
    rows = [
        (name, "none", ["all", "sparse"], items.tolist(), [user % 40])
        for name, per_user in lists_of.items()
        for user, items in enumerate(per_user)
    ]
    schema = "recommender string, fill string, segments array<string>, items array<int>, relevant array<int>"
    information = rng.uniform(0, 12, 40)
    facts = ship(
        spark, information=information, indptr=np.zeros(41, dtype=np.int64), indices=np.empty(0, dtype=np.int32)
    )

    def measured(n_partitions: int) -> dict[tuple[str, str, int], Row]:
        shuffled = [rows[row] for row in rng.permutation(len(rows))]
        frame = spark.createDataFrame(spark.sparkContext.parallelize(shuffled, n_partitions), schema)
        found = segment_means(metric_sums(frame, ks, facts), 0.95).where("segment = 'all'").collect()
        return {(row.recommender, row.metric, row.k): row for row in found}

    means = measured(1)
    assert all(measured(n) == means for n in (1, 2, 5, 9))
    for name, per_user in lists_of.items():
        novelty = [information[items].mean() for items in per_user]
        row = means[name, "novelty", 5]
        half = 1.959964 * np.std(novelty, ddof=1) / n_users**0.5
        assert (row.value, row.ci_low, row.ci_high) == pytest.approx(
            (np.mean(novelty), np.mean(novelty) - half, np.mean(novelty) + half), abs=1e-6
        )


def test_filters_hold_and_the_users_that_they_cut_short_get_a_code(
    world: Lake, written: Written, make_context: MakeContext, tmp_path: Path
) -> None:
    blocked, available = tmp_path / "blocked.csv", tmp_path / "available.csv"
    blocked.write_text("item_id\ni4\nunknown\n")
    available.write_text("item_id\ni4\ni5\ni6\n")
    recommend.run(make_context("recommend", f"rules.blocked_items={blocked}"))
    rows = listed(world)
    assert len(rows) == len(written.recommendations)
    assert "i4" not in {row.item_id for row in rows}
    recommend.run(make_context("recommend", f"rules.blocked_items={blocked}", f"rules.available_items={available}"))
    assert {row.item_id for row in listed(world)} == {"i5", "i6"}
    assert codes(world)["u0"] == ("blocked", 2)
    assert codes(world)["u3"] == ("too_few_items", 0)


def test_a_filter_file_without_item_ids_or_none_at_all_is_one_clear_error(
    world: Lake, make_context: MakeContext, tmp_path: Path
) -> None:
    source = tmp_path / "blocked.csv"
    source.write_text("movie\ni4\n")
    with pytest.raises(InputError, match=r"rules\.blocked_items: .*expected columns item_id, found first line 'movie'"):
        recommend.run(make_context("recommend", f"rules.blocked_items={source}"))
    with pytest.raises(InputError, match=r"rules\.available_items: .*missing\.csv"):
        recommend.run(make_context("recommend", f"rules.available_items={tmp_path / 'missing.csv'}"))


def test_ids_of_a_filter_are_read_as_the_ratings_are_and_must_be_known(
    world: Lake, written: Written, make_context: MakeContext, tmp_path: Path
) -> None:
    quoted, numbers, foreign = (tmp_path / name for name in ("quoted.csv", "numbers.parquet", "foreign.csv"))
    quoted.write_text('item_id\n i4\n"i5 "\n')
    context = make_context("recommend")

    def named_items(source: Path, key: str) -> list[int]:
        return sorted(row.item_idx for row in known_rows(context, str(source), key, ("item_id",)).collect())

    assert named_items(quoted, "blocked_items") == [4, 5]
    add_ids(world, "items", context.lake.frame("items", [("500", 12, RUN)]))
    pd.DataFrame({"item_id": [500.0, 501.0]}).to_parquet(numbers)
    assert named_items(numbers, "blocked_items") == [12]
    foreign.write_text("item_id\nI4\n007\n")
    with pytest.raises(InputError, match=r"found 2 ids and none of them among the items: '007', 'I4'"):
        recommend.run(make_context("recommend", f"rules.blocked_items={foreign}"))
    foreign.write_text("item_id\n")
    assert named_items(foreign, "blocked_items") == []
    with pytest.raises(InputError, match="found 0 ids"):
        named_items(foreign, "available_items")


def test_what_a_user_dislikes_is_never_listed_to_them_alone(
    world: Lake, written: Written, make_context: MakeContext
) -> None:
    first = written.recommendations[0]
    others = {row.user_id for row in written.recommendations if row.item_idx == first.item_idx} - {first.user_id}
    context = make_context("recommend")
    rows = [(first.user_idx, first.item_idx, None, DAY, "feedback"), (9, 1, -1.0, DAY, "source")]
    world.replace("disliked_ratings", context.lake.frame("disliked_ratings", rows), RUN)
    add_ids(world, "users", context.lake.frame("users", [("u9", 9, RUN)]))
    try:
        recommend.run(context)
        now = listed(world)
        assert (first.user_id, first.item_idx) not in {(row.user_id, row.item_idx) for row in now}
        assert others <= {row.user_id for row in now if row.item_idx == first.item_idx}
        mine = {row.item_idx for row in now if row.user_id == "u9"}
        assert mine, "who only dislikes gets what is trending"
        assert 1 not in mine
    finally:
        world.clear("disliked_ratings", RUN)


def test_the_last_places_are_for_items_that_nobody_has_rated(
    world: Lake, written: Written, make_context: MakeContext
) -> None:
    slots = "recommend.new_item_slots=1"
    frame = make_context("recommend").lake.frame
    for phase in ("choose", "final"):
        # 1 speaks for 10; 14 has an index above those of all ratings.
        weights = [(10, [8, 1], [0.5, 0.2]), (11, [4], [0.5]), (14, [9], [0.5])]
        world.replace("newcomers_weights", frame("newcomers_weights", weights), RUN, phase)
        lists = [(0, [11, 10], [0.9, 0.2]), (1, [14], [0.3])]
        world.replace("newcomers_candidates", frame("newcomers_candidates", lists), RUN, phase)
    add_ids(world, "items", frame("items", [("i14", 14, RUN)]))
    world.replace("disliked_ratings", frame("disliked_ratings", [(0, 11, None, DAY, "feedback")]), RUN)
    try:
        recommend.run(make_context("recommend", slots))
        now = listed(world)
        mine = {name: [row for row in now if row.user_id == name] for name in ("u0", "u1", "u2")}
        last = {name: rows[-1] for name, rows in mine.items()}
        assert (last["u0"].item_id, last["u0"].because_item_id) == ("i10", "i1"), "what is disliked is not listed"
        assert (last["u1"].item_id, last["u1"].because_item_id) == ("i14", None)
        assert {(tuple(last[name].members), last[name].reason) for name in ("u0", "u1")} == {
            (("newcomers",), "new_item")
        }
        before = [row for row in written.recommendations if row.user_id in ("u0", "u1")]
        assert [row.item_id for name in ("u0", "u1") for row in mine[name][:2]] == [
            row.item_id for row in before if row.rank < 3
        ]
        assert [row.item_id for row in mine["u2"]] == ["i7", "i8", "i4"], "who has no new items keeps the list"
        shown = exposure_rows(make_context("publish", slots)).collect()
        places = {(row.user_idx, row.item_idx): row.place for row in shown}
        assert {pair for pair, place in places.items() if place == "new_item"} == {(0, 10), (1, 14)}
        assert {*places.values()} == {"new_item", "ranked"}
        # Whole items held out: who lists them is measured, too. User 0's 3, 4 and 11 are held out.
        evaluate.run(make_context("evaluate", "split.protocol=cold_items"))
        metrics = world.read("metrics", RUN).where("split = 'test' AND metric = 'ndcg' AND k = 2 AND segment = 'all'")
        found = {row.recommender: row.value for row in metrics.collect()}
        assert found["newcomers"] == pytest.approx(1 / (1 + 1 / log2(3)) / 3)
        assert found.keys() == {"blend", "newcomers", *LISTS}
    finally:
        world.clear("disliked_ratings", RUN)
        for phase in ("choose", "final"):
            world.clear("newcomers_candidates", RUN, phase)


def test_who_is_known_by_attributes_alone_gets_the_list_by_attributes(
    world: Lake, written: Written, make_context: MakeContext
) -> None:
    context = make_context("recommend")
    frame = context.lake.frame
    world.replace("user_attributes", frame("user_attributes", [(11, "group", "a", None), (0, "group", "a", None)]), RUN)
    add_ids(world, "users", frame("users", [("u11", 11, RUN)]))
    for phase in ("choose", "final"):
        # User 4 has held-out ratings alone.
        rows = [(4, [3, 2, 9], [0.9, 0.5, 0.4]), (11, [7, 6], [0.9, 0.8])]
        world.replace("strangers_candidates", frame("strangers_candidates", rows), RUN, phase)
    try:
        recommend.run(context)
        now = {name: [row for row in listed(world) if row.user_id == name] for name in ("u0", "u4", "u11")}
        assert [row.item_id for row in now["u4"]] == ["i3", "i2", "i9"]
        # The trending ones fill it up.
        assert [row.item_id for row in now["u11"]] == ["i7", "i6", "i8"]
        told = {(tuple(row.members), row.reason, row.because_item_id) for row in (*now["u4"], *now["u11"])}
        assert told == {(("attributes",), "attributes", None)}
        assert all(row.reason != "attributes" for row in now["u0"])
        blends = world.read("blend_candidates", RUN, "final").where("user_idx = 11").collect()
        assert [list(row["items"])[:2] for row in blends] == [[7, 6]]
        # User 4 judges no weights any more: three of the four are left.
        assert world.read("blend_weights", RUN).first().member_ndcg == pytest.approx((1 / log2(3) + 1) / 3)
    finally:
        world.clear("user_attributes", RUN)
        for phase in ("choose", "final"):
            world.replace("strangers_candidates", frame("strangers_candidates", []), RUN, phase)


def test_why_an_item_is_listed_or_what_keeps_it_out(
    world: Lake, written: Written, make_context: MakeContext, tmp_path: Path
) -> None:
    frame, blocked = make_context("recommend").lake.frame, tmp_path / "blocked.csv"
    blocked.write_text("item_id\ni7\n")
    world.replace("disliked_ratings", frame("disliked_ratings", [(0, 6, None, DAY, "feedback")]), RUN)
    try:
        recommend.run(make_context("recommend", f"rules.blocked_items={blocked}"))
        listed_to = Listed(world, RUN, 0, [row for row in listed(world) if row.user_idx == 0])
        told = {item: why(listed_to, item) for item in (0, 5, 6, 7, 9)}
        rank = next(row.rank for row in listed_to.rows if row.item_idx == 5)
        assert told == {
            0: "is not listed: the user has rated it",
            5: f"is at rank {rank}: because of i1, which the user has rated (by als, item_item, trending)",
            6: "is not listed: the user dislikes it",
            7: "is not listed: it is blocked (rules.blocked_items)",
            9: "is not listed: others come first",
        }
        where = dict(line.split(": ") for line in places(listed_to, 5))
        assert [name.partition(",")[0] for name in where] == [*[*LISTS][:4], "blend"]
        assert where["blend"] == "place 1 of 8"
        assert list(where.values())[:4] == [
            "place 2 of 2",
            "place 1 of 2",
            "not among its first 1",
            "place 5 of 8",
        ]
        nobody = Listed(world, RUN, 4, [])
        assert dict(line.split(": ") for line in places(nobody, 5))["blend"] == "place 7 of 10"
    finally:
        world.clear("disliked_ratings", RUN)
        recommend.run(make_context("recommend"))


def test_an_item_that_was_first_rated_in_validation_is_on_every_axis(
    world: Lake, written: Written, make_context: MakeContext
) -> None:
    frame, new = make_context("evaluate").lake.frame, 13  # train's largest index is 9
    world.replace("validation_ratings", frame("validation_ratings", [(1, new, 5.0, DAY)]), RUN)
    ratings = [(u, i, 5.0, DAY, "source") for u, i in sorted({*VALIDATION, *TEST, (1, new)})]
    world.replace("ratings", frame("ratings", ratings), RUN)
    weights = [(5, [new], [0.9]), (new, [5], [0.9])]
    world.replace("item_item_weights", frame("item_item_weights", weights), RUN, "final")
    world.replace("als_candidates", frame("als_candidates", [("none", 0, [new], [1.0])]), RUN, "final")
    evaluate.run(make_context("evaluate"))
    rows = world.read("metrics", RUN).where("split = 'test' AND recommender = 'als' AND metric = 'novelty'")
    # One of the four users of train and validation rated it.
    assert rows.where("segment = 'all' AND k = 5").collect()[0].value == pytest.approx(log2(4))


def test_without_held_out_ratings_weights_are_equal_and_nothing_is_measured(
    world: Lake, written: Written, make_context: MakeContext
) -> None:
    context = make_context("recommend")
    for table in ("validation_ratings", "test_ratings"):
        world.replace(table, context.lake.frame(table, []), RUN)
    assert "no validation users" in recommend.run(context)
    assert [row.weight for row in world.read("blend_weights", RUN).collect()] == pytest.approx([1 / 4] * 4)
    assert "0 users in test" in evaluate.run(make_context("evaluate"))
    assert world.read("metrics", RUN).count() == 0
