"""A fill that is right by construction is accepted; random, popular and too little proof are not."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame

from ganrec_spark.config.sections import Config
from ganrec_spark.fills import gate
from ganrec_spark.fills.generate import FillPlan
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.stages import als, als_setting, merge
from ganrec_spark.stages import gate as gate_stage

DAY = datetime(2026, 1, 1)
GROUPS, PER_GROUP, COMMON = 4, 12, 12
N_ITEMS = GROUPS * PER_GROUP + COMMON
DENSE, SPARSE = range(80), range(80, 200)
WHO = ("train_ratings", "validation_ratings", "user_segments")
Rows = list[tuple[object, ...]]


def world() -> tuple[Rows, Rows, dict[str, Rows]]:
    """Return train rows, validation rows and fills by fill.

    Users have a taste group. Dense users show it; sparse users only rated two items that everybody rates, so nothing
    but a fill can tell ALS which group they belong to.
    """
    rng = np.random.default_rng(7)
    train: Rows = []
    held_out: Rows = []
    fills: dict[str, Rows] = {"oracle_top3": [], "random_top3": [], "popularity_top3": []}
    for user in (*DENSE, *SPARSE):
        own = (user % GROUPS) * PER_GROUP + rng.permutation(PER_GROUP)
        common = GROUPS * PER_GROUP + rng.permutation(COMMON)
        rated = [*own[:7], *common[:2]] if user in DENSE else common[:2]
        train += [(user, int(item), 5.0, DAY) for item in rated]
        held_out.append((user, int(own[7]), 5.0, DAY))
        if user in SPARSE:
            fills["oracle_top3"] += generated("oracle_top3", user, own[:3], "cgan")
            fills["random_top3"] += generated("random_top3", user, rng.permutation(GROUPS * PER_GROUP)[:3], "agn")
            fills["popularity_top3"] += generated("popularity_top3", user, common[2:5], "popularity")
    return train, held_out, fills


@pytest.fixture(autouse=True)
def of_all_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gate find the world's fills, which no generator makes, where it asks for those of all sparse users."""

    def made(context: Context, plans: list[FillPlan], users: DataFrame, phase: str) -> DataFrame:
        rows = [row for plan in plans for row in world()[2][plan.name]]
        return context.lake.frame("finalist_ratings", rows).join(users, "user_idx", "left_semi")

    plans = [FillPlan(name.partition("_")[0], "top", 3) for name in world()[2]]
    monkeypatch.setattr(gate_stage, "planned_fills", lambda context: plans)
    monkeypatch.setattr(gate_stage, "made_fills", made)


def generated(fill: str, user: int, items: np.ndarray, generator: str) -> Rows:
    rest = (generator, "top", "v1", 1)
    return [(fill, user, int(item), place, 1.0, *rest) for place, item in enumerate(items, 1)]


@pytest.fixture
def gate_context(lake: Lake, make_config: Callable[..., Config]) -> Callable[..., Context]:
    def make(*overrides: str, dense_bucket: str = "6-10", dislikes: Rows = ()) -> Context:
        als = (
            "als.embedding_size=[8]",
            "als.iterations=4",
            "als.regularisation=[0.05]",
            "als.alpha=[1.0]",
            "als.rating_scale=[raw]",
        )
        config = make_config(*als, "gate.bootstrap_samples=200", *overrides)
        stage = STAGE_BY_NAME["gate"]
        staged = StageLake(lake, "2026-11-01", "gate", None, stage.reads, stage.writes)
        train, held_out, fills = world()
        kinds = (("dense", f"bucket:{dense_bucket}", DENSE), ("sparse", "bucket:1-5", SPARSE))
        segments = [(user, name) for *names, users in kinds for user in users for name in names]
        tables = {"train_ratings": train, "validation_ratings": held_out, "user_segments": segments}
        sparsity = [(user, 2, 0.1, 0.0, 0.5, "1-5", True) for user in SPARSE]
        tables["user_sparsity"] = sparsity
        for table, rows in (tables | {"known_dislikes": dislikes}).items():
            lake.replace(table, staged.frame(table, rows), "2026-11-01")
        fill_rows = staged.frame("generated_ratings", [row for rows in fills.values() for row in rows])
        lake.replace("generated_ratings", fill_rows, "2026-11-01", "choose")
        before = STAGE_BY_NAME["als_setting"]
        of_als = StageLake(lake, "2026-11-01", "als_setting", "choose", before.reads, before.writes)
        als_setting.run(Context(lake.spark, config, of_als, "2026-11-01", "choose", ""))
        return Context(lake.spark, config, staged, "2026-11-01", None, "")

    return make


def test_the_right_fill_is_accepted_and_the_others_are_not(gate_context: Callable[..., Context]) -> None:
    context = gate_context("merge.fill_weight=1.0", "als.alpha=[1.0,5.0]")
    message = gate_stage.run(context)
    rows = {row.fill: row for row in context.lake.read("gate_decisions").collect()}
    assert {name: row.accepted for name, row in rows.items()} == {
        "oracle_top3": True,
        "random_top3": False,
        "popularity_top3": False,
        "none": False,
    }
    oracle = rows["oracle_top3"]
    assert oracle.level == "confirm"
    assert oracle.sparse_ci_low > 1
    assert oracle.sparse_ci_low <= oracle.sparse_lift <= oracle.sparse_ci_high
    assert oracle.sparse_ndcg_after > 2 * oracle.sparse_ndcg_before
    users = gate.judged_users(*(context.lake.read(f"{name}") for name in WHO))
    screening, proving = ({row.user_idx for row in part.collect()} for part in gate.screening_and_proving(users, 42))
    # Who screened does not confirm.
    assert not screening & proving
    assert screening | proving == {*DENSE, *SPARSE}
    assert 1 / 4 < len(screening) / 200 < 0.42
    assert (oracle.n_sparse_users, oracle.n_users) == (len(proving & {*SPARSE}), len(proving))
    segments = {row.segment: row for row in context.lake.read("gate_segments").where("fill = 'oracle_top3'").collect()}
    assert set(segments) == {"all", "sparse", "dense", "bucket:1-5", "bucket:6-10"}
    # Dense users' lists come from the fit without fill: they change by nothing, provably.
    dense = segments["dense"]
    assert (dense.n_users, dense.lift, dense.ci_low, dense.ci_high) == (len(proving & {*DENSE}), 0.0, 0.0, 0.0)
    assert segments["sparse"].lift == segments["bucket:1-5"].lift == oracle.sparse_lift
    assert rows["popularity_top3"].verdict == "no_better_than_popularity"
    assert rows["random_top3"].verdict in (
        "interval_includes_zero",
        "no_better_than_popularity",
        "no_better_than_shuffled",
        "no_better_than_self_training",
    )
    assert rows["none"].verdict == "beaten"
    assert "oracle_top3" in message


DISLIKES: Rows = [(user, (user + 1) % GROUPS * PER_GROUP + user % 5, 1.0, DAY, "train") for user in SPARSE]


@pytest.mark.parametrize("dislikes", [[], DISLIKES], ids=["likes alone", "dislikes"])
def test_the_recommender_takes_over_the_accepted_fit_and_would_fit_the_same(
    gate_context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch, dislikes: Rows
) -> None:
    settings = ("merge.fill_weight=1.0", "als.alpha=[1.0,5.0]", "als.dislike_weight=[1.0]")
    context = gate_context(*settings, dislikes=dislikes)
    gate_stage.run(context)

    def staged(name: str) -> Context:
        stage, lake = STAGE_BY_NAME[name], context.lake.lake
        own = StageLake(lake, context.run_id, name, stage.phase, stage.reads, stage.writes)
        return Context(lake.spark, context.config, own, context.run_id, stage.phase, "")

    merge.run(staged("merge_choose"))
    merged, of_als = staged("als_choose").lake.read("merged_ratings"), staged("als_choose")
    with monkeypatch.context() as patched:
        patched.delattr(als, "fit_setting")  # it is taken over, not fitted
        taken = als.fit(of_als, merged, "oracle_top3")
    users = taken.users.orderBy("user_idx").collect()  # now: it is read from what is deleted next
    context.lake.lake.clear("als_filled_factors", context.run_id)
    fitted = als.fit(of_als, merged, "oracle_top3")
    assert taken.item_idx.tolist() == fitted.item_idx.tolist()
    assert np.array_equal(taken.items, fitted.items)
    assert users == fitted.users.orderBy("user_idx").collect()
    plain = als.fit(of_als, merged, "none")
    assert not np.allclose(plain.items, taken.items)


def test_nothing_is_accepted_without_enough_users(gate_context: Callable[..., Context]) -> None:
    context = gate_context("gate.min_validation_users=1000")
    gate_stage.run(context)
    rows = {row.fill: row for row in context.lake.read("gate_decisions").collect()}
    assert [name for name, row in rows.items() if row.accepted] == ["none"]
    assert rows["oracle_top3"].verdict == "too_few_users"
    assert "sparse validation users to confirm by, 1000 are needed" in rows["none"].reason


def test_nothing_is_accepted_where_all_users_are_in_one_bucket(gate_context: Callable[..., Context]) -> None:
    context = gate_context(dense_bucket="1-5")
    gate_stage.run(context)
    rows = {row.fill: row for row in context.lake.read("gate_decisions").collect()}
    assert [name for name, row in rows.items() if row.accepted] == ["none"]
    assert {row.verdict for name, row in rows.items() if name != "none"} == {"single_bucket"}
    assert "all validation users are in bucket:1-5" in rows["none"].reason


def test_self_training_gives_as_many_of_alss_own_best_items(gate_context: Callable[..., Context]) -> None:
    context = gate_context()
    read = context.lake.read
    train = read("train_ratings")
    users = gate.judged_users(train, read("validation_ratings"), read("user_segments")).where("is_sparse")
    model = gate.plain_als(context).model
    fills = context.lake.read("generated_ratings", "choose").where("fill = 'oracle_top3' OR position = 1")
    rows = gate.self_training(context, model, users, fills.where("fill != 'popularity_top3'")).collect()
    found: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        assert row.confidence == 1.0
        found.setdefault((row.fill, row.user_idx), set()).add(row.item_idx)
    assert {(name, len(items)) for (name, _), items in found.items()} == {
        ("self_training:oracle_top3", 3),
        ("self_training:random_top3", 1),
    }
    table, _ = model.item_slots()
    seen = {row.user_idx: row["items"] for row in users.collect()}
    assert set(seen) == {user for _, user in found}
    for row in model.users.where("user_idx >= 80").collect():
        scores = table @ np.array(row.factors)
        scores[seen[row.user_idx]] = -np.inf
        assert found["self_training:oracle_top3", row.user_idx] == set(np.argsort(-scores)[:3])


def test_shuffling_hands_every_fill_to_another_user(gate_context: Callable[..., Context]) -> None:
    fills = gate_context().lake.read("generated_ratings", "choose").where("fill = 'oracle_top3'")
    shuffled = gate.shuffled_users(fills, 1)
    before = {(row.user_idx, row.item_idx) for row in fills.collect()}
    rows = shuffled.collect()
    assert len(rows) == len(before)
    assert {row.fill for row in rows} == {"shuffled:oracle_top3"}
    assert {row.user_idx for row in rows} == set(SPARSE)
    givers = {row.user_idx: row.item_idx for row in rows}
    assert sum((user, item) in before for user, item in givers.items()) < len(givers) / 4
