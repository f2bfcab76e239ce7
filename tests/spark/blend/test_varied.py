"""Two hundred users who read as much of one genre as of another, and are listed one of them first."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.load import load_config
from ganrec_spark.errors import ConfigError
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.stages import evaluate, recommend

RUN, DAY = "2026-11-01", datetime(2026, 1, 1)
USERS, CRIME, POETRY = range(200), range(40), range(40, 80)
CALIBRATION = ("recommend.variety=calibration", "recommend.variety_by=genre")
MakeContext = Callable[..., Context]


@pytest.fixture(scope="module")
def make_context(spark: SparkSession, lake_root: Path) -> MakeContext:
    lake = Lake(spark, "lake", "varied")

    def make(stage_name: str, *overrides: str) -> Context:
        stage = STAGE_BY_NAME[stage_name]
        staged = StageLake(lake, RUN, stage_name, None, stage.reads, stage.writes)
        fixed = (f"lake.root={lake_root}", "evaluate.ks=[10]", "recommend.weight_step=0.5", "recommend.reranker=none")
        return Context(spark, load_config(overrides=[*fixed, *overrides], environ={}), staged, RUN, None, "")

    return make


def genre(item: int) -> str:
    return "crime" if item in CRIME else "poetry"


@pytest.fixture(scope="module")
def world(make_context: MakeContext) -> Lake:
    """Make lists of 15 crime stories and then 15 poems; three of four users go on to its ninth crime story."""
    context = make_context("recommend")
    lake, frame, rng = context.lake.lake, context.lake.frame, np.random.default_rng(0)

    def put(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, frame(table, rows), RUN, phase)

    observed = [(u, item) for u in USERS for item in (u % 40, (u + 1) % 40, 40 + u % 40, 40 + (u + 1) % 40)]
    listed = {
        u: [int(i) for of in (CRIME, POETRY) for i in rng.permutation(of) if (i - u) % 40 not in (0, 1)][:53]
        for u in USERS
    }
    lists = {u: [*items[:15], *items[38:53]] for u, items in listed.items()}
    validation = [(u, lists[u][8] if u % 4 else lists[u][15]) for u in USERS]
    add_ids(lake, "users", frame("users", [(f"u{u}", u, RUN) for u in USERS]))
    add_ids(lake, "items", frame("items", [(f"i{i}", i, RUN) for i in range(80)]))
    put("ratings", [(u, i, 5.0, DAY, "source") for u, i in [*observed, *validation]])
    put("train_ratings", [(u, i, 5.0, DAY) for u, i in observed])
    put("validation_ratings", [(u, i, 5.0, DAY) for u, i in validation])
    put("test_ratings", [])
    put("user_segments", [(u, name) for u in USERS for name in ("dense" if u % 2 else "sparse", "bucket:1-5")])
    kinds = [("genre", "category", False), ("mood", "category", True), ("pages", "number", False)]
    put("attribute_columns", [("item", name, kind, "", hidden, 80, 0) for name, kind, hidden in kinds])
    put("item_attributes", [(i, "genre", genre(i), None) for i in range(80)])
    for phase in ("choose", "final"):
        rows = [("none", u, lists[u], np.linspace(1, 0.1, 30).tolist()) for u in USERS]
        for member in (*MEMBER_NAMES, "popularity"):
            put(f"{member}_candidates", rows if member == "als" else [], phase)  # type: ignore[arg-type]
        put("merged_ratings", [(u, i, 5.0, DAY, True, "none") for u, i in observed], phase)
        put("item_item_weights", [], phase)
        put("als_quality", [("none", "rmse", 0.9)], phase)
    return lake


def poems(lake: Lake) -> float:
    """Return the mean number of poems among the ten items of a published list."""
    rows = lake.read("recommendations", RUN).select("user_idx", "item_idx", "rank", "score").toPandas()
    assert (rows.groupby("user_idx")["rank"].max() == 10).all()
    ordered = rows.sort_values(["user_idx", "rank"])
    assert (ordered.groupby("user_idx")["score"].diff().dropna() <= 0).all()
    return float(rows["item_idx"].isin(POETRY).groupby(rows["user_idx"]).sum().mean())


def test_as_far_as_the_loss_allows(world: Lake, make_context: MakeContext) -> None:
    said = recommend.run(make_context("recommend"))
    assert "calibration" not in said
    assert poems(world) == 0.0
    assert world.read("variety_choices", RUN).count() == 0
    found = {}
    for loss in ("1.0", "0.05", "0.0"):
        said = recommend.run(make_context("recommend", *CALIBRATION, f"recommend.max_ndcg_loss={loss}"))
        rows = world.read("variety_choices", RUN).orderBy("strength").collect()
        (chosen,) = [row for row in rows if row.chosen]
        found[loss] = chosen
        assert (rows[0].strength, rows[0].ndcg_change, rows[0].n_users) == (0.0, 0.0, 200)
        assert all(row.ndcg_change_low <= row.ndcg_change for row in rows)
        assert chosen.ndcg_change_low >= -float(loss)
        assert ("calibration by genre" in said) == (chosen.strength > 0)
        if loss == "1.0":
            assert chosen.strength == rows[-1].strength
            assert poems(world) == 5.0  # half of what they read
            assert chosen.measured < 0.01 < 1.0 < rows[0].measured
            # What was chosen is what is measured of the lists, users' own weights and all.
            evaluate.run(make_context("evaluate"))
            metrics = world.read("metrics", RUN).where("recommender = 'blend' AND metric = 'ndcg' AND segment = 'all'")
            assert metrics.collect()[0].value == pytest.approx(chosen.ndcg)
    assert found["1.0"].strength > found["0.05"].strength >= found["0.0"].strength


def test_fewer_of_a_kind(world: Lake, make_context: MakeContext) -> None:
    settings = ("recommend.variety=diversity", "recommend.variety_by=genre", "recommend.max_ndcg_loss=1")
    recommend.run(make_context("recommend", *settings))
    (chosen,) = world.read("variety_choices", RUN).where("chosen").collect()
    assert chosen.measured < 1.0
    assert poems(world) > 0


@pytest.mark.parametrize("column", ["mood", "pages", "colour"])
def test_a_column_that_cannot_be_used(world: Lake, make_context: MakeContext, column: str) -> None:
    with pytest.raises(ConfigError, match=rf"variety_by: expected .* found '{column}'; there are: genre"):
        recommend.run(make_context("recommend", CALIBRATION[0], f"recommend.variety_by={column}"))


def test_keys_that_go_together() -> None:
    for alone in (CALIBRATION[0], CALIBRATION[1]):
        with pytest.raises(ConfigError, match="variety and variety_by go together"):
            load_config(overrides=[alone], environ={})
