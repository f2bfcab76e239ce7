"""Four hundred users; three of four have the only popular item of their list held out. Trees must find that."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.load import load_config
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.stages import evaluate, recommend

RUN, DAY = "2026-11-01", datetime(2026, 1, 1)
USERS = range(400)
UNPOPULAR, POPULAR = 80, 20
MakeContext = Callable[..., Context]


@pytest.fixture(scope="module")
def make_context(spark: SparkSession, lake_root: Path) -> MakeContext:
    lake = Lake(spark, "lake", "rerank")

    def make(stage_name: str, *overrides: str) -> Context:
        stage = STAGE_BY_NAME[stage_name]
        staged = StageLake(lake, RUN, stage_name, None, stage.reads, stage.writes)
        fixed = [f"lake.root={lake_root}", "recommend.n=3", "evaluate.ks=[10]", "recommend.weight_step=0.5"]
        return Context(spark, load_config(overrides=[*fixed, *overrides], environ={}), staged, RUN, None, "")

    return make


def popular(user: int, phase: str) -> int:
    """Return the popular item of the user's list."""
    return UNPOPULAR + (user + (7 if phase == "choose" else 3)) % POPULAR


@pytest.fixture(scope="module")
def world(make_context: MakeContext) -> Lake:
    context = make_context("recommend")
    lake, frame, rng = context.lake.lake, context.lake.frame, np.random.default_rng(0)

    def put(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, frame(table, rows), RUN, phase)

    observed = [(user, item) for user in USERS for item in (user % UNPOPULAR, UNPOPULAR + user % POPULAR)]
    # Popular items have 20 ratings each, the others 5. Every fourth user's held-out item is an unpopular one.
    validation = [(user, popular(user, "choose") if user % 4 else (user + 1) % UNPOPULAR) for user in USERS]
    add_ids(lake, "users", frame("users", [(f"u{u}", u, RUN) for u in USERS]))
    add_ids(lake, "items", frame("items", [(f"i{i}", i, RUN) for i in range(UNPOPULAR + POPULAR)]))
    put("ratings", [(u, i, 5.0, DAY, "source") for u, i in [*observed, *validation]])
    put("train_ratings", [(u, i, 5.0, DAY) for u, i in observed])
    put("validation_ratings", [(u, i, 5.0, DAY) for u, i in validation])
    put("test_ratings", [])
    put("user_segments", [(u, name) for u in USERS for name in ("dense" if u % 2 else "sparse", "bucket:1-5")])
    for phase in ("choose", "final"):
        rows: list[tuple[object, ...]] = []
        for user in USERS:
            held_out = (user + 1) % UNPOPULAR
            others = [int(i) for i in rng.permutation(UNPOPULAR)[:11] if i not in (user % UNPOPULAR, held_out)]
            others.insert(int(rng.integers(1, 8)), held_out)
            others.insert(int(rng.integers(1, 8)), popular(user, phase))
            rows.append(("none", user, others, np.linspace(1, 0.1, len(others)).tolist()))
        for member in (*MEMBER_NAMES, "popularity"):
            put(f"{member}_candidates", rows if member == "als" else [], phase)
        put("merged_ratings", [(u, i, 5.0, DAY, True, "none") for u, i in observed], phase)
        put("item_item_weights", [], phase)
        put("als_quality", [("none", "rmse", 0.9)], phase)
    return lake


def firsts(lake: Lake, phase: str) -> dict[int, int]:
    return {row.user_idx: row["items"][0] for row in lake.read("blend_candidates", RUN, phase).collect()}


def test_what_tells_on_validation_reorders_the_published_lists(world: Lake, make_context: MakeContext) -> None:
    said = recommend.run(make_context("recommend", "recommend.rerank_min_hits=100", "recommend.rerank_trees=30"))
    assert "reordered by trees" in said
    (choice,) = world.read("rerank_choices", RUN).collect()
    assert (choice.fill, choice.n_users, choice.n_hits, choice.accepted) == ("none", 400, 400, True)
    assert choice.ndcg_change_low > 0
    for phase in ("choose", "final"):
        assert np.mean([first == popular(user, phase) for user, first in firsts(world, phase).items()]) > 0.9
    rows = world.read("recommendations", RUN).where("user_idx = 17").orderBy("rank").collect()
    assert rows[0].item_idx == firsts(world, "final")[17]
    assert rows[0].members == ["als"]
    assert rows[0].score > rows[1].score > rows[2].score
    # What the choice was made by is what evaluate measures of the lists, which no user's own held-out item made.
    evaluate.run(make_context("evaluate"))
    measured = world.read("metrics", RUN).where("recommender = 'blend' AND metric = 'ndcg' AND segment = 'all'").first()
    weights = world.read("blend_weights", RUN).first()
    assert measured is not None
    assert weights is not None
    assert 0.75 < weights.validation_ndcg < 0.99
    assert measured.value == pytest.approx(weights.validation_ndcg)


def test_without_trees_or_with_too_few_hits_the_fusion_stands(world: Lake, make_context: MakeContext) -> None:
    fewer_judges = "recommend.weight_users=150"
    for setting in ("recommend.reranker=none", "recommend.rerank_min_hits=300"):
        said = recommend.run(make_context("recommend", setting, fewer_judges))
        assert "reordered" not in said
        assert "on 150 validation users" in said
        assert world.read("rerank_choices", RUN).count() == 0
        assert np.mean([first == popular(user, "final") for user, first in firsts(world, "final").items()]) < 0.1
