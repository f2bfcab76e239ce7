"""A run that goes on from the published one: in a world that turns one item up, with a new item and new users."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.recommenders.als.factors import factors_of
from ganrec_spark.recommenders.als.setting import AlsSetting
from ganrec_spark.recommenders.als.warm_start import other_settings
from ganrec_spark.run.outside import outside
from ganrec_spark.run.runner import stage_context
from ganrec_spark.run.warm_start import Base, base_of, cannot_judge

START = datetime(2026, 1, 1)
BEFORE, NOW, ITEMS = "2026-11-01", "2026-11-02", 12
Rows = list[tuple[int, int, float, datetime]]
SETTINGS = (
    "transformer.max_length=8", "transformer.embedding_size=16", "transformer.max_epochs=30",
    "transformer.min_steps_per_epoch=1", "transformer.models=1", "transformer.learning_rate=0.01",
    "transformer.batch_size=32", "transformer.patience=20", "parquet.row_groups=2", "recommend.n_candidates=20",
    "als.embedding_size=[4]", "als.half_life_days=[null]", "als.rating_scale=[raw]", "als.regularisation=[0.1]",
    "als.alpha=[2.0, 20.0]", "als.dislike_weight=[0.0]",
)  # fmt: skip


def written(lake: Lake, run: str, users: int, more: int) -> None:
    """Write a run's ratings: user u begins at item u and takes 2 + u % 5 + `more` items, each one up from the last.

    Users from 60 on begin with item 12, which nobody else has.
    """
    schema = "user_idx int, item_idx int, rating double, ts timestamp"
    parts: dict[str, Rows] = {"train": [], "validation": []}
    for user in range(users):
        n = 2 + user % 5 + more
        items = [(user + step) % ITEMS for step in range(n + 1)]
        items[0] = ITEMS if user >= 60 else items[0]
        rows = [(user, item, 1.0, START + timedelta(days=day)) for day, item in enumerate(items)]
        parts["train"] += rows[:n]
        parts["validation"].append(rows[n])
    for name, rows in parts.items():
        lake.replace(f"{name}_ratings", lake.spark.createDataFrame(rows, schema), run)
    merged = [(user, item, rating, ts, True, "none") for rows in parts.values() for user, item, rating, ts in rows]
    columns = declared("merged_ratings").columns
    lake.replace("merged_ratings", local_frame(lake.spark, columns, merged), run, "final")
    columns = declared("user_sparsity").columns
    sparsity = [(user, 3, 0.5, 0.0, 0.5, "1-5", False) for user in range(users)]
    lake.replace("user_sparsity", local_frame(lake.spark, columns, sparsity), run)


def published(lake: Lake, run: str, *stages: str) -> None:
    """Log the stages as done, by an execution that is named after the run, and publish the run, without views."""
    rows = [(stage, "", "done", "", 1.0, START, f"x{run}", None) for stage in stages]
    lake.replace("stage_log", local_frame(lake.spark, declared("stage_log").columns, rows), run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganrec_spark.lake.store.create_views", lambda _: None)
        assert lake.point_to(run, "0123456789ab", lake.published())


def decided(lake: Lake, run: str, action: str) -> DataFrame:
    """Write what learn decided of a run; return table next_run."""
    rows = [(action, "because", run, 1, 1)]
    lake.replace("next_run", local_frame(lake.spark, declared("next_run").columns, rows), run)
    return lake.read_all("next_run")


@pytest.fixture
def go(lake: Lake, make_config: Callable[..., Config], run_alone: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Return a function that runs stages of a run with overrides."""

    def run(run_id: str, *stages: str, settings: tuple[str, ...] = ()) -> list[str]:
        return run_alone(make_config(*SETTINGS, *settings), *stages, run_id=run_id)

    return run


def cards(lake: Lake, run: str, phase: str) -> list[dict[str, object]]:
    rows = lake.read("transformer_checkpoints", run, phase).where("part = 0").select("version", "card").collect()
    return [json.loads(row.card) | {"version": row.version} for row in rows]


def test_the_transformer_goes_on_where_it_may_and_says_why_not(lake: Lake, go: Callable[..., list[str]]) -> None:
    always = ("warm_start.when=always",)
    written(lake, BEFORE, 60, 0)
    both = ("sequences_choose", "transformer_choose", "sequences_final", "transformer_final")
    told = go(BEFORE, *both, settings=always)
    assert told[1].endswith("trained anew: no earlier run is published")
    published(lake, BEFORE, *both)
    (last,) = cards(lake, BEFORE, "final")
    (first,) = cards(lake, BEFORE, "choose")
    assert first["reference"] > 0.9

    written(lake, NOW, 70, 1)
    told = go(NOW, *both, settings=always)
    assert all(f"went on from run {BEFORE}, " in told[stage] for stage in (1, 3)), told[1]
    (chosen,), (final,) = cards(lake, NOW, "choose"), cards(lake, NOW, "final")
    assert (chosen["base_run_id"], chosen["start"], chosen["reference"]) == (
        BEFORE,
        first["version"],
        first["reference"],
    )
    assert (final["base_run_id"], final["start"]) == (BEFORE, last["version"])
    assert chosen["epoch"] <= 3
    assert final["epoch"] == min(last["epoch"], 10)
    assert chosen["shape"]["n_items"] == first["shape"]["n_items"] + 1
    early = [first_validation(lake, run) for run in (BEFORE, NOW)]
    assert early[0] < 0.9 < early[1]  # random weights, after three epochs; those of the run before, after one

    (told,) = go(NOW, "transformer_choose", settings=(*always, "transformer.head_size=8", "transformer.max_epochs=1"))
    assert told.endswith(f"trained anew: run {BEFORE}'s network has other settings (heads 1, expected 2)"), told
    assert cards(lake, NOW, "choose")[0]["base_run_id"] is None


def first_validation(lake: Lake, run: str) -> float:
    rows = lake.read("transformer_history", run, "choose").where("name = 'validation_ndcg'").orderBy("epoch")
    return float(rows.first().value)


def test_als_goes_on_from_the_chosen_setting_and_the_vectors(
    lake: Lake, go: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    always = ("warm_start.when=always",)
    for run, users, more in ((BEFORE, 60, 0), (NOW, 70, 1)):
        written(lake, run, users, more)
    told = go(BEFORE, "als_setting", "als_final", settings=always)
    assert told[0].endswith("; trained anew: no earlier run is published")
    published(lake, BEFORE, "als_setting", "als_final")

    (told,) = go(NOW, "als_setting", settings=(*always, "als.alpha=[5.0]"))
    assert "trained anew: run 2026-11-01 has other settings (alpha" in told
    assert lake.read("als_choices", NOW, "choose").where("base_run_id IS NOT NULL").isEmpty()
    (told,) = go(NOW, "als_setting", settings=always)  # the world has grown, and answers are harder to find
    assert "less than 98% of its" in told, told
    monkeypatch.setattr("ganrec_spark.recommenders.als.warm_start.LEAST_SHARE", 0.5)
    told = go(NOW, "als_setting", "als_final", settings=always)
    assert f"went on from run {BEFORE}" in told[0], told
    (row,) = lake.read("als_choices", NOW, "choose").collect()
    assert (row.chosen, row.base_run_id) == (True, BEFORE)
    assert "from the published run's vectors" in told[1]
    warm = {phase: factors_of(lake.read(table, NOW, phase)) for phase, table in TABLES.items()}
    for fitted in warm.values():
        assert fitted.item_idx.tolist() == list(range(ITEMS + 1))
    (told,) = go(NOW, "als_setting", settings=(*always, "als.solver=mllib"))
    assert "MLlib cannot go on from vectors" in told


TABLES = {"choose": "als_unfilled_factors", "final": "als_factors"}


def test_the_run_that_is_gone_on_from_stays_the_same_when_this_one_is_published(
    lake: Lake, make_config: Callable[..., Config]
) -> None:
    stage, config = "transformer_choose", make_config("warm_start.when=decided")
    empty = lake.read_all("next_run")
    assert base_of(lake, empty, "never", stage, NOW) == base_of(lake, empty, "decided", stage, NOW) == Base()
    assert base_of(lake, empty, "always", stage, NOW) == Base(why="no earlier run is published")
    published(lake, BEFORE, stage)
    base = Base(BEFORE, f"x{BEFORE}")
    assert base_of(lake, empty, "decided", stage, NOW) == Base()
    assert base_of(lake, empty, "always", stage, NOW) == base
    assert (
        base_of(lake, empty, "always", "als_setting", NOW).why == f"stage als_setting of run {BEFORE} is not finished"
    )
    assert base_of(lake, decided(lake, BEFORE, "retrain"), "decided", stage, NOW) == Base()
    before = outside(lake, config, STAGE_BY_NAME[stage], NOW)
    decisions = decided(lake, BEFORE, "fine_tune")
    assert base_of(lake, decisions, "decided", stage, NOW) == base
    assert outside(lake, config, STAGE_BY_NAME[stage], NOW) != before  # what it begins from is in the fingerprint
    published(lake, NOW, stage)
    assert base_of(lake, decisions, "decided", stage, NOW) == base
    assert base_of(lake, decisions, "decided", stage, BEFORE) == Base()


def test_answers_that_the_earlier_run_knows_judge_nothing(lake: Lake, config: Config) -> None:
    written(lake, BEFORE, 60, 0)
    written(lake, NOW, 60, 1)
    context = stage_context(lake, config, STAGE_BY_NAME["transformer_choose"], NOW)
    assert cannot_judge(context, BEFORE) == ""
    lake.replace("validation_ratings", lake.read("train_ratings", BEFORE).limit(10), NOW)
    assert cannot_judge(context, BEFORE) == f"run {BEFORE} was trained on 10 of the 10 validation ratings"
    lake.clear("validation_ratings", NOW)
    assert cannot_judge(context, BEFORE) == "no validation rating says what helps"


def test_a_setting_stands_while_nothing_else_is_fixed(make_config: Callable[..., Config]) -> None:
    setting = AlsSetting(128, 0.2, 60.0)  # found beyond the values that are listed
    assert other_settings(setting, make_config().als) == ""
    assert other_settings(setting, make_config("als.alpha=[1.0]").als) == "alpha 60.0, expected 1.0"
    assert other_settings(setting, make_config("als.implicit=false").als).endswith("implicit True, expected False")
    assert "at most 64" in other_settings(
        setting, make_config("als.max_embedding_size=64", "als.embedding_size=[32, 64]").als
    )
