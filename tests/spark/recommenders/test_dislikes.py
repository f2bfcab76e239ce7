"""Dislikes count against what is alike, where validation says so, and never before they were given."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories
from ganrec_spark.lake.store import Lake
from ganrec_spark.recommenders.als.fold_in import fixed_side, fold_in
from ganrec_spark.recommenders.als.setting import AlsSetting, weighted
from ganrec_spark.recommenders.als.solver import Objective, fit_als

RUN = "2026-11-01"
SCHEMA = "user_idx int, item_idx int, rating double"
ALS = ("als.embedding_size=[8]", "als.regularisation=[0.1]", "als.alpha=[1.0]", "als.iterations=5")
Rows = list[tuple[int, int, float]]
RunAlone = Callable[..., list[str]]
MakeConfig = Callable[..., Config]


def rated(spark: SparkSession, rows: Rows) -> DataFrame:
    return spark.createDataFrame(rows, SCHEMA).selectExpr("*", "timestamp_seconds(0) AS ts")


def triples(frame: DataFrame) -> set[tuple[int, int, float]]:
    return {(row.user_idx, row.item_idx, row.rating) for row in frame.collect()}


def write(lake: Lake, likes: Rows, disliked: Rows, held_out: Rows) -> None:
    """Write the tables of phase choose that members read."""
    train = rated(lake.spark, likes)
    lake.replace("train_ratings", train, RUN)
    lake.replace("validation_ratings", rated(lake.spark, held_out), RUN)
    lake.replace("known_dislikes", rated(lake.spark, disliked).selectExpr("*", "'train' AS part"), RUN)
    merged = train.selectExpr("*", "true AS observed", "'none' AS fill")
    for phase in ("choose", "final"):
        lake.replace("merged_ratings", merged, RUN, phase)
    sparsity = train.selectExpr(
        "user_idx", "1 AS n_ratings", "0D AS density", "0D AS days_since_last", "0D AS percentile", "'' AS bucket"
    )
    lake.replace("user_sparsity", sparsity.distinct().selectExpr("*", "false AS is_sparse"), RUN)


def lists(lake: Lake, member: str, phase: str = "choose") -> dict[int, list[int]]:
    return {row.user_idx: list(row["items"]) for row in lake.read(f"{member}_candidates", RUN, phase).collect()}


def test_a_phase_knows_its_dislikes_of_users_and_items_that_have_ratings(spark: SparkSession) -> None:
    observed = rated(spark, [(0, 0, 4.0), (0, 1, 2.0), (1, 1, 0.0)])
    known = rated(spark, [(0, 2, 1.0), (9, 1, 1.0), (1, 0, 1.0)]).selectExpr("*", "'train' AS part")
    late = rated(spark, [(0, 1, 1.0)]).selectExpr("*", "'validation' AS part")
    rows = known.unionByName(late)
    # Item 2 and user 9 have no rating, user 1 one of 0, which says nothing.
    assert triples(dislikes.of_phase(rows, observed, "choose")) == set()
    assert triples(dislikes.of_phase(rows, observed, "final")) == {(0, 1, 1.0)}
    assert dislikes.of_phase(rows.limit(0), observed, "final") is None
    assert dislikes.of_phase(late, observed, "choose") is None


def test_what_is_learned_and_what_is_not_listed(spark: SparkSession) -> None:
    observed, disliked = rated(spark, [(0, 0, 4.0), (1, 1, 2.0)]), rated(spark, [(0, 1, -7.0)])
    filled = observed.selectExpr("*", "'none' AS fill")
    found = dislikes.learned(filled, observed, disliked, 0.5, implicit=True)
    assert triples(found) == {(0, 0, 4.0), (1, 1, 2.0), (0, 1, -1.5)}
    assert triples(dislikes.learned(filled, observed, disliked, 0.5, implicit=False)) >= {(0, 1, -7.0)}
    assert dislikes.learned(filled, observed, disliked, 0.0, implicit=True) is filled
    assert dislikes.learned(filled, observed, None, 1.0, implicit=True) is filled
    users = histories(observed)
    assert dislikes.never_listed(users, None) is users
    seen = {row.user_idx: row["items"] for row in dislikes.never_listed(users, disliked).collect()}
    assert seen == {0: [0, 1], 1: [1]}


def test_one_user_and_two_items_by_hand() -> None:
    """Y = 1, alpha 2, r = 3 and -3: (1 + 6 e0 e0' + 6 e1 e1' + .5) x = 7 e0; without the dislike x1 is 0, too."""
    found = fold_in(fixed_side(np.eye(2), True), [np.array([0, 1])], [np.array([3.0, -3.0])], 0.5, 2.0, True)
    assert found[0] == pytest.approx([7 / 7.5, 0])
    # Items alike, y = 1 each: 2 of Y'Y, 6 for each rating, .5 of the ridge, which a dislike does not add to.
    alike = np.full((2, 1), 1.0)
    found = fold_in(
        fixed_side(alike, True), [np.array([0, 1])] * 2, [np.array([3.0, -3.0]), np.array([3.0, 0.0])], 0.5, 2.0, True
    )
    assert found[:, 0] == pytest.approx([7 / (2 + 12 + 0.5), 7 / (2 + 6 + 0.5)])


def test_the_fit_is_that_of_dense_matrices_and_folding_in_gives_it_back(lake: Lake) -> None:
    rng = np.random.default_rng(4)
    kind = rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15], size=(30, 12))  # not rated, liked, disliked
    kind[:, 0], kind[0] = 1, 1
    pairs = [[(int(u), int(i), 4.0) for u, i in zip(*(kind == of).nonzero(), strict=True)] for of in (1, 2)]
    write(lake, *pairs, held_out=[])
    train = lake.read("train_ratings", RUN)
    disliked = dislikes.of_phase(lake.read("known_dislikes", RUN), train, "choose")
    rows = weighted(dislikes.learned(train, train, disliked, 0.5, True), AlsSetting(4, 0.1, 2.0), 0.0)
    fitted = fit_als(rows, Objective(4, 3, 0.1, 2.0, True, 5))
    users = np.array([row.factors for row in fitted.users.orderBy("user_idx").collect()])
    confidence = 1 + 2.0 * np.choose(kind, [0.0, 4.0, 2.0])
    items = fitted.items.astype(float)
    for user in range(30):
        c, likes = np.diag(confidence[user]), (kind[user] == 1).astype(float)
        system = items.T @ c @ items + 0.1 * likes.sum() * np.eye(4)
        assert users[user] == pytest.approx(np.linalg.solve(system, items.T @ c @ likes), abs=1e-4)
    own = histories(rows).orderBy("user_idx").collect()
    values = [[np.array(row[name]) for row in own] for name in ("items", "ratings")]
    assert fold_in(fixed_side(fitted.items, True), *values, 0.1, 2.0, True) == pytest.approx(users, abs=1e-4)


def two_tastes() -> tuple[Rows, Rows, Rows]:
    """Items 0 to 9 and 10 to 19 are two tastes, 20 to 29 are liked by all.

    Users below 60 show their taste. The others liked a common item alone and dislike five of the other taste; held out
    is an item of theirs.
    """
    rng = np.random.default_rng(6)
    likes: Rows = []
    disliked: Rows = []
    held_out: Rows = []
    for user in range(200):
        own, other = (10 * ((user + side) % 2) + rng.permutation(10) for side in (0, 1))
        likes += [(user, int(item), 1.0) for item in [20 + rng.integers(10), *(own[:7] if user < 60 else [])]]
        disliked += [(user, int(item), -1.0) for item in other[: 5 if user >= 60 else 0]]
        held_out.append((user, int(own[9]), 1.0))
    return likes, disliked, held_out


def test_who_dislikes_one_taste_is_listed_less_of_it_and_validation_sees_that(
    lake: Lake, make_config: MakeConfig, run_alone: RunAlone
) -> None:
    likes, disliked, held_out = two_tastes()
    write(lake, likes, disliked, held_out)
    shares = {}
    for weights in ("[0.0]", "[0.0, 1.0]"):
        config = make_config(*ALS, "als.alpha=[5.0]", f"als.dislike_weight={weights}")
        run_alone(config, "als_setting", "als_choose")
        listed = lists(lake, "als")
        assert not any((user, item) in {pair[:2] for pair in disliked} for user in listed for item in listed[user])
        other = [item // 10 == (user + 1) % 2 for user in range(60, 200) for item in listed[user][:8]]
        shares[weights] = float(np.mean(other))
    rows = {row.parameters: row for row in lake.read("als_choices", RUN, "choose").collect()}
    (chosen,) = (json.loads(text) for text, row in rows.items() if row.chosen)
    assert chosen["dislike_weight"] == 1.0
    assert shares["[0.0, 1.0]"] < 0.6 * shares["[0.0]"], shares
    # The same ratings and dislikes give phase final the fit that als_setting made.
    run_alone(config, "als_final")
    assert lists(lake, "als", "final") == lists(lake, "als")


@pytest.mark.parametrize("member", ["popularity", "als", "item_item"])
def test_no_member_lists_what_is_known_to_be_disliked(
    lake: Lake, make_config: MakeConfig, run_alone: RunAlone, member: str
) -> None:
    likes = [(u, i, 1.0) for u in range(24) for i in range(24) if u != i and (u - i) % 2 == 0]
    write(lake, likes, [(0, 0, 1.0), (1, 2, 1.0)], [(u, u, 1.0) for u in range(24)])
    config = make_config(*ALS, "item_item.method=ease", "item_item.ease_regularisation=[10.0]")
    run_alone(config, *(["als_setting"] if member == "als" else []), f"{member}_choose")
    found = lists(lake, member)
    assert 0 not in found[0]
    assert 2 not in found[1]
    assert {user: user in found[user] for user in range(1, 24)} == dict.fromkeys(range(1, 24), True)


def source(path: Path, late: str = "", early: str = "") -> Path:
    """Users rate two items a day; user u0's last two ratings are of days 8 and 9."""
    rows = [f"u{u},i{(u * 3 + day) % 13},5,{86_400 * (day + 1)}" for u in range(12) for day in range(10)]
    text = "\n".join(["user_id,item_id,rating,timestamp", *rows, *filter(None, (late, early))])
    path.write_text(text + "\n")
    return path


def test_a_dislike_later_than_what_is_held_out_does_not_change_the_model_of_phase_choose(
    lake: Lake, make_config: MakeConfig, run_stages: Callable[..., object], tmp_path: Path
) -> None:
    def fitted(**dislike: str) -> tuple[list[tuple[object, ...]], int, list[str]]:
        path = source(tmp_path / "ratings.csv", **dislike)
        shared = (*ALS, "als.dislike_weight=[1.0]", "ingest.liked_from=3", f"ingest.source={path}")
        run_stages(make_config(*shared), "ingest", "split", "als_setting")
        factors = lake.read("als_unfilled_factors", RUN).orderBy("side", "idx").collect()
        settings = lake.read("als_choices", RUN, "choose").collect()
        parts = [row.part for row in lake.read("known_dislikes", RUN).collect()]
        return [tuple(row) for row in factors], len(settings), parts

    none = fitted()
    # u0's validation rating is of day 9, the test rating of day 10.
    between, after, before = (f"u0,i11,1,{86_400 * day + 3600}" for day in (9, 10, 8))
    assert fitted(late=between) == (none[0], none[1], ["validation"])
    assert fitted(late=after) == (none[0], none[1], [])
    changed = fitted(early=before)
    assert changed[2] == ["train"]
    assert changed[0] != none[0]


def test_without_dislikes_the_search_is_no_longer_and_its_settings_say_nothing_of_them(
    lake: Lake, make_config: MakeConfig, run_alone: RunAlone
) -> None:
    likes, _, held_out = two_tastes()
    write(lake, likes, [], held_out)
    found = []
    for weights in ("[0.0]", "[0.0, 1.0]"):
        run_alone(make_config(*ALS, f"als.dislike_weight={weights}"), "als_setting", "als_choose")
        rows = lake.read("als_choices", RUN, "choose").collect()
        found.append((sorted(map(tuple, rows)), lists(lake, "als")))
    assert found[0] == found[1]
    assert not any("dislike" in row[0] for row in found[0][0])
