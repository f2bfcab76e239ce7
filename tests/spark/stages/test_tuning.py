"""`ganrec tune` on a small world: the configured settings first, every trial a row, a stopped search goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import write_world
from ganrec_spark.recommenders.searched import best
from ganrec_spark.run.runner import Outcome
from ganrec_spark.tuning import as_config, tune

RUN = "2026-11-01"
MakeConfig = Callable[..., Config]
RunStages = Callable[..., list[Outcome]]
BEFORE = ("ingest", "attributes", "split", "sparsity", "als_setting", "sequences_choose", "user_rows", "merge_choose")
BEFORE += ("als_choose", "newcomers_choose")
SMALL = (
    "sparsity.min_sparse_users=100000",  # no fill: generators play no part here
    "als.embedding_size=[16]",
    "als.iterations=3",
    "als.alpha=[1.0, 20.0]",
    "als.regularisation=[0.2]",
    "als.rating_scale=[raw]",
    "als.half_life_days=[null]",
    "item_item.ease_regularisation=[100.0]",
    "item_item.rp3_beta=[0.3]",
    "item_item.gfcf_rank=8",
    "item_item.gfcf_weight=[0.3]",
    "item_item.history_half_life_visits=[null]",
    "item_item.pair_half_life_visits=[null]",
    "item_item.rating_slope=[0.0]",
    "item_item.ease_damping=[0.0]",
    "transformer.max_epochs=3",
    "transformer.min_steps_per_epoch=2",
    "transformer.embedding_size=32",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "ratings.parquet"
    write_world(path, users=150, items=50)
    return path


def test_a_search_tries_what_is_configured_first_and_goes_on_where_it_stopped(
    spark: SparkSession, make_config: MakeConfig, run_stages: RunStages, world: Path, tmp_path: Path
) -> None:
    config = make_config(*SMALL, f"ingest.source={world}")
    with pytest.raises(LakeError, match="run stage"):
        tune(spark, config, RUN, ["als"], 1, trials=1)
    run_stages(config, *BEFORE)
    lake, chosen = Lake(spark, config.lake.catalog, config.lake.namespace), 60.0
    rows = lake.read("als_choices", RUN, "choose").collect()
    searched = {json.loads(row.parameters)["alpha"]: row for row in rows}
    # As if the run had gone on beyond the configured alphas and chosen what it found there.
    beyond = json.dumps(json.loads(rows[0].parameters) | {"alpha": chosen}, sort_keys=True)
    choices = [(row.parameters, row.ndcg, False, None) for row in rows] + [(beyond, 0.5, True, None)]
    view = StageLake(lake, RUN, "test", None, (), ())
    lake.replace("als_choices", view.frame("als_choices", choices), RUN, "choose")
    first = tune(spark, config, RUN, ["als", "item_item", "transformer"], 1, trials=1)
    # Two alphas (and the one that the run chose), three item-item models and two Transformers are configured, and are
    # tried whatever the budget.
    assert {member: len(trials) for member, trials in first.items()} == {"als": 3, "item_item": 3, "transformer": 2}
    assert [trial.values["als.alpha"] for trial in first["als"]] == [1.0, 20.0, chosen]
    methods = [trial.values["item_item.method"] for trial in first["item_item"]]
    assert methods == ["ease", "rp3beta", "gfcf"]
    assert [trial.ndcg for trial in first["als"][:2]] == pytest.approx([searched[a].ndcg for a in (1.0, 20.0)])

    second = tune(spark, config, RUN, ["als", "item_item"], 1, trials=1)
    assert second["als"][:3] == first["als"]
    assert [trial.number for trial in second["als"]] == [0, 1, 2, 3]
    assert len({str(trial.values) for trial in second["als"]}) == 4
    assert lake.read("tuning_trials", RUN).count() == 4 + 4 + 2
    assert best(second["als"]).ndcg == max(trial.ndcg for trial in second["als"])

    found = tmp_path / "tuned.yaml"
    found.write_text(as_config(second, config, RUN))
    tuned = load_config(found, environ={})
    assert tuned.als.alpha == (best(second["als"]).values["als.alpha"],)
    assert tuned.als.embedding_size == (best(second["als"]).values["als.embedding_size"],)
    # Every method keeps its own best values, since the run may mix two of them.
    assert tuned.item_item.method == "auto"
    ease = [trial for trial in second["item_item"] if trial.values["item_item.method"] == "ease"]
    assert tuned.item_item.ease_regularisation == (best(ease).values["item_item.ease_regularisation"],)
    assert tuned.item_item.ease_damping == (best(ease).values["item_item.ease_damping"],)
    assert tuned.item_item.rating_slope == (best(second["item_item"]).values["item_item.rating_slope"],)

    # Other settings that are not searched make other trials: nothing of the first search counts.
    other = make_config(*SMALL, f"ingest.source={world}", "als.iterations=2")
    assert len(tune(spark, other, RUN, ["als"], 1, trials=1)["als"]) == 3


def test_without_held_out_ratings_there_is_nothing_to_judge_by(
    spark: SparkSession, make_config: MakeConfig, run_stages: RunStages, world: Path
) -> None:
    config = make_config(*SMALL, f"ingest.source={world}", "split.min_ratings=1000")
    run_stages(config, *BEFORE)
    with pytest.raises(InputError, match="expected held-out ratings to judge by, found none"):
        tune(spark, config, RUN, ["als"], 1, trials=1)
