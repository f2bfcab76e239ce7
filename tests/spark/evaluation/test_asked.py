"""Phase choose makes lists of those who judge them, and chooses what it would choose with lists of all users."""

from collections.abc import Callable

import numpy as np
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from spark.dictionaries import add_ids

from ganrec_spark.config.sections import Config
from ganrec_spark.evaluation import asked
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.run.runner import stage_context

RUN, USERS, ITEMS = "2026-11-01", 120, 24
FEW = ("recommend.weight_users=15", "recommend.rerank_users=25")
SMALL = (
    *FEW,
    "als.embedding_size=[4]",
    "als.alpha=[5.0]",
    "als.regularisation=[0.1]",
    "als.rating_scale=[raw]",
    "item_item.method=ease",
    "item_item.ease_regularisation=[10.0]",
    "recommend.rerank_min_hits=2",
    "recommend.rerank_trees=5",
    "recommend.weight_step=0.25",
    "gate.bootstrap_samples=100",
)
MEMBER_STAGES = ("popularity_choose", "als_choose", "item_item_choose")
CHOICES = ("als_choices", "trending_choices", "item_item_choices")
LISTS = ("als_candidates", "item_item_candidates", "popularity_candidates", "trending_candidates", "blend_candidates")
MakeConfig = Callable[..., Config]


def put(lake: Lake, table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
    lake.replace(table, local_frame(lake.spark, declared(table).columns, rows), RUN, phase)


@pytest.fixture
def world(lake: Lake) -> Lake:
    """Even users like even items, odd users odd ones; one item of each user is held out; every third user is sparse."""
    rng = np.random.default_rng(3)
    train, held_out, filled = [], [], []
    for user in range(USERS):
        first, *own = (2 * rng.permutation(ITEMS // 2) + user % 2).tolist()
        train += [(user, item) for item in own[: 2 if user % 3 == 0 else 6]]
        held_out.append((user, first))
        filled += [(user, own[7])] if user % 3 == 0 else []
    spark = lake.spark

    def rated(pairs: list[tuple[int, int]], rating: float) -> DataFrame:
        frame = spark.createDataFrame(pairs, "user_idx int, item_idx int")
        return frame.select("*", F.lit(rating).alias("rating"), F.timestamp_seconds(F.lit(0)).alias("ts"))

    lake.replace("train_ratings", rated(train, 1.0), RUN)
    lake.replace("validation_ratings", rated(held_out, 1.0), RUN)
    everything = rated([*train, *held_out], 1.0)
    lake.replace("ratings", everything.withColumn("origin", F.lit("source")), RUN)
    merged = rated(train, 1.0).selectExpr("*", "true AS observed", "'none' AS fill")
    generated = rated(filled, 0.3).selectExpr("*", "false AS observed", "'vae_top1' AS fill")
    for phase in ("choose", "final"):
        lake.replace("merged_ratings", merged.unionByName(generated), RUN, phase)
    put(lake, "user_sparsity", [(u, 6, 0.1, 0.0, 0.5, "1-5", u % 3 == 0) for u in range(USERS)])
    put(lake, "user_segments", [(u, "dense" if u % 3 else "sparse") for u in range(USERS)])
    users, items = ([(f"{kind}{i}", i, RUN) for i in range(n)] for kind, n in (("u", USERS), ("i", ITEMS)))
    add_ids(lake, "users", local_frame(spark, declared("users").columns, users))
    add_ids(lake, "items", local_frame(spark, declared("items").columns, items))
    return lake


def rows_of(lake: Lake, table: str, phase: str | None = None) -> set[tuple[object, ...]]:
    def plain(value: object) -> object:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    return {tuple(map(plain, row)) for row in lake.read(table, RUN, phase).collect()}


def in_stage(lake: Lake, config: Config, name: str) -> Context:
    return stage_context(lake, config, STAGE_BY_NAME[name], RUN)


def asked_ids(lake: Lake, config: Config) -> set[int]:
    return {row.user_idx for row in asked.asked_users(in_stage(lake, config, "als_choose")).collect()}


def test_those_are_asked_who_judge_and_all_where_they_are_few(world: Lake, make_config: MakeConfig) -> None:
    few = asked_ids(world, make_config(*FEW))
    # Draws of 15 and 25 of 120, which share users only where too few belong to one.
    assert 25 < len(few) <= 40
    assert asked_ids(world, make_config("recommend.weight_users=120", "recommend.rerank_users=1")) == {*range(USERS)}
    world.clear("validation_ratings", RUN)
    assert asked_ids(world, make_config()) == set()


@pytest.mark.parametrize("wanted", [True, False])
def test_lists_that_may_be_fills_are_made_of_sparse_users_too_where_filling_is_called_for(
    world: Lake, make_config: MakeConfig, wanted: bool
) -> None:
    config = make_config(*FEW)
    put(world, "matrix_profile", [(USERS, ITEMS, 500, 0.1, 0.1, 40, wanted, "")])
    few, train = asked_ids(world, config), world.read("train_ratings", RUN)

    def kept(stage: str, may_fill: bool) -> set[int]:
        rows = asked.of_listed(in_stage(world, config, stage), train, may_fill)
        return {row.user_idx for row in rows.collect()}

    sparse = {*range(0, USERS, 3)} if wanted else set()
    assert kept("transformer_choose", may_fill=True) == few | sparse
    assert kept("transformer_choose", may_fill=False) == few
    assert kept("transformer_final", may_fill=True) == {*range(USERS)}


def test_choices_are_those_that_lists_of_all_users_lead_to(
    world: Lake, make_config: MakeConfig, run_alone: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(*SMALL)

    def found() -> tuple[dict[str, object], dict[str, set[tuple[object, ...]]], str]:
        *_, told = run_alone(config, "als_setting", *MEMBER_STAGES, "recommend", "evaluate")
        chosen = {table: rows_of(world, table, "choose") for table in CHOICES}
        chosen |= {table: rows_of(world, table) for table in ("blend_weights", "rerank_choices", "recommendations")}
        return chosen, {table: rows_of(world, table, "choose") for table in LISTS}, told

    few = asked_ids(world, config)
    now, lists, told = found()
    for table, rows in lists.items():
        # And the list for anyone, of what ranks alike for all.
        anyone = {-1} if table in ("popularity_candidates", "trending_candidates") else set()
        assert {row[1] for row in rows} == few | anyone, table
    vectors = world.read("als_factors", RUN, "choose").where("side = 'user'")
    assert {row.idx for row in vectors.collect()} == few
    assert f"{len(few)} users in validation, drawn from {USERS}" in told
    measured = world.read("metrics", RUN).where("split = 'validation' AND segment = 'all' AND k = 10")
    assert {row.n_users for row in measured.where("metric = 'ndcg'").collect()} == {len(few)}
    fills = {row.fill for row in measured.collect()}
    assert fills == {"none", "vae_top1"}

    everyone = world.read("validation_ratings", RUN).select("user_idx").distinct()
    for module in ("evaluation.asked", "stages.recommend", "stages.evaluate", "blend.choosing"):
        monkeypatch.setattr(f"ganrec_spark.{module}.asked_users", lambda context: everyone)
    before, of_all, told = found()
    assert f"{USERS} users in validation, 0 users in test" in told
    assert now == before
    for table, rows in lists.items():
        assert rows == {row for row in of_all[table] if row[1] in few or row[1] < 0}, table
        assert len(of_all[table]) > len(rows)
