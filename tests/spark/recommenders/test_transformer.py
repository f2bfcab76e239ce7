"""The transformer stage on worlds whose next item is known, and on the smallest ones."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config, Split
from ganrec_spark.evaluation.split import PROTOCOLS
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.recommenders.transformer.candidates import candidates
from ganrec_spark.recommenders.transformer.plans import make_plans
from ganrec_spark.run.context import Context
from ganrec_spark.stages import sequences, transformer

START = datetime(2026, 1, 1)
ITEMS = 12
SETTINGS = (
    "transformer.max_length=8", "transformer.embedding_size=16", "transformer.max_epochs=30",
    "transformer.min_steps_per_epoch=1", "transformer.models=1",
    "transformer.learning_rate=0.01", "transformer.batch_size=32", "transformer.patience=20",
    "parquet.row_groups=2", "recommend.n_candidates=20",
)  # fmt: skip
SOURCES = (("user_sequences", "choose"), ("train_ratings",))
Rows = list[tuple[int, int, float, datetime]]


@pytest.fixture
def run_phase(spark, lake: Lake, make_config: Callable[..., Config], tmp_path) -> Callable[..., str]:
    def run(phase: str, *overrides: str) -> str:
        config = make_config(*SETTINGS, *overrides)
        for module in (sequences, transformer):
            stage = STAGE_BY_NAME[f"{module.__name__.rpartition('.')[2]}_{phase}"]
            staged = StageLake(lake, "2026-11-01", stage.name, phase, stage.reads, stage.writes)
            message = module.run(Context(spark, config, staged, "2026-11-01", phase, str(tmp_path / stage.name)))
        return message

    return run


def write(spark, lake: Lake, train: Rows, held_out: Rows) -> None:
    for table, rows in (("train_ratings", train), ("validation_ratings", held_out)):
        schema = "user_idx int, item_idx int, rating double, ts timestamp"
        lake.replace(table, spark.createDataFrame(rows, schema), "2026-11-01")


def cycle(users: int) -> tuple[Rows, Rows]:
    """User u starts at item u and takes 2 to 6 items, each one up from the last, modulo 12; the next is held out."""
    train: Rows = []
    held_out: Rows = []
    for user in range(users):
        n = 2 + user % 5
        rows = [(user, (user + step) % ITEMS, 1.0, START + timedelta(days=step)) for step in range(n + 1)]
        train += rows[:n]
        held_out.append(rows[n])
    return train, held_out


def test_noise_at_one_time_has_nothing_to_learn_in_it(spark, lake: Lake, run_phase) -> None:
    # 1,500 users with eight random items of 300, all at one time. When a tie was ordered by the item's index, the next
    # item was always the larger one, and the held-out one the largest: .0559 on test. A random list has .0155.
    rng = np.random.default_rng(0)
    rows = [(user, int(item), 1.0, START, "source") for user in range(1500) for item in rng.choice(300, 8, False)]
    schema = "user_idx int, item_idx int, rating double, ts timestamp, origin string"
    parts = PROTOCOLS["leave_last_out"](spark.createDataFrame(rows, schema), Split(), 42).cache()
    for part in ("train", "validation"):
        lake.replace(f"{part}_ratings", parts.where(F.col("part") == part).drop("part"), "2026-11-01")
    run_phase("choose", "transformer.max_epochs=12", "transformer.embedding_size=32", "transformer.min_gain=0")
    history = lake.read("transformer_history", "2026-11-01", "choose").where("name = 'validation_ndcg'").collect()
    assert len(history) == 4
    assert max(row.value for row in history) < 0.024


def test_the_next_item_comes_first_in_both_phases(spark, lake: Lake, run_phase, tmp_path) -> None:
    train, held_out = cycle(96)
    write(spark, lake, train, held_out)
    run_phase("choose")
    lists = {row.user_idx: row.items for row in lake.read("transformer_candidates", "2026-11-01", "choose").collect()}
    assert {user: lists[user][0] for user in lists} == {user: item for user, item, _, _ in held_out}
    seen = {(user, item) for user, item, _, _ in train}
    assert all((user, item) not in seen for user, items in lists.items() for item in items)
    assert all(len(items) == ITEMS - 2 - user % 5 for user, items in lists.items())
    history = lake.read("transformer_history", "2026-11-01", "choose").toPandas().set_index("name")
    assert history.value["validation_ndcg"].max() == pytest.approx(1.0)

    run_phase("final")
    lists = {row.user_idx: row.items for row in lake.read("transformer_candidates", "2026-11-01", "final").collect()}
    right = [lists[user][0] == (item + 1) % ITEMS for user, item, _, _ in held_out]
    assert sum(right) >= 0.9 * len(right)
    final = lake.read("transformer_history", "2026-11-01", "final").toPandas()
    assert final.epoch.max() == history.value["best_epoch"]
    assert not list(tmp_path.glob("*/checkpoints"))


def test_both_phases_have_the_size_of_phase_chooses_ratings(
    spark, lake: Lake, run_phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held_out = cycle(24)
    write(spark, lake, train, held_out)
    monkeypatch.setattr("ganrec_spark.config.models._AUTO_SIZES", (8, 16))
    for many, size in ((len(train) + 1, 8), (len(train), 16)):
        monkeypatch.setattr("ganrec_spark.config.models._MANY_RATINGS", many)
        for phase in ("choose", "final"):
            run_phase(phase, "transformer.embedding_size=auto", "transformer.max_epochs=1", "transformer.head_size=8")
            cards = lake.read("transformer_checkpoints", "2026-11-01", phase).select("card").distinct().collect()
            shapes = [json.loads(row.card)["shape"] for row in cards]
            assert [(shape["embedding_size"], shape["heads"]) for shape in shapes] == [(size, size // 8)]


def test_models_that_stay_below_popularity_are_given_up_and_rank_nothing(spark, lake: Lake, run_phase) -> None:
    # Half the users have item 0, the most popular one, and it is what the other half is judged by: popularity has
    # NDCG 1, a network that hardly moves has not.
    train = [(u, item, 1.0, START + timedelta(days=item)) for u in range(30) for item in (1 + u % 5, 6 + u % 5)]
    train += [(u, item, 1.0, START + timedelta(days=item)) for u in range(30, 60) for item in (0, 1 + u % 5)]
    write(spark, lake, train, [(u, 0, 1.0, START) for u in range(30)])
    slow = ("transformer.learning_rate=0.000000001", "transformer.patience=1", "transformer.validate_every=1")
    message = run_phase("choose", *slow, "transformer.models=2")
    assert message.startswith("lists for 0 users")
    assert "than popularity's 1.0000" in message
    assert run_phase("final", *slow, "transformer.models=2") == "no candidates; not trained: phase choose gave up"
    for phase in ("choose", "final"):
        assert lake.read("transformer_candidates", "2026-11-01", phase).count() == 0
    assert lake.read("transformer_history", "2026-11-01", "choose").where("name = 'validation_ndcg'").count() == 4


@pytest.mark.parametrize(("ratings", "users", "steps"), [(4096, 32, 3), (80, 20, 5), (8, 16, 6)])
def test_a_step_has_fewer_users_where_histories_are_long(
    spark, lake: Lake, make_config, ratings: int, users: int, steps: int
) -> None:
    # 95 users with 2 to 6 ratings, 4 on average.
    train, held_out = cycle(95)
    write(spark, lake, train, held_out)
    stage = STAGE_BY_NAME["sequences_choose"]
    config = make_config(*SETTINGS, f"transformer.batch_ratings={ratings}")
    staged = StageLake(lake, "2026-11-01", stage.name, "choose", stage.reads, stage.writes)
    sequences.run(Context(spark, config, staged, "2026-11-01", "choose", ""))
    stage = STAGE_BY_NAME["transformer_choose"]
    staged = StageLake(lake, "2026-11-01", stage.name, "choose", stage.reads, stage.writes)
    context = Context(spark, config, staged, "2026-11-01", "choose", "")
    histories, rows = (lake.read(name, "2026-11-01", *phase) for name, *phase in SOURCES)
    plan = make_plans(context, histories, rows)[0]
    assert (plan.batch_size, plan.steps) == (users, steps)


def test_several_models_keep_epochs_and_checkpoints_of_their_own_and_rank_by_their_mean(
    spark, lake: Lake, run_phase, make_config
) -> None:
    train, held_out = cycle(96)
    write(spark, lake, train, held_out)
    settings = ("transformer.models=2", "transformer.max_epochs=3", "transformer.validate_every=1")
    for phase in ("choose", "final"):
        run_phase(phase, *settings, "transformer.adversary_radius=[0.0]")
    found = lake.read("transformer_history", "2026-11-01", "choose").toPandas()
    best = found[found.name == "best_epoch"].set_index("model").value
    assert sorted(best.index) == ["sasrec_0", "sasrec_1"]
    final = lake.read("transformer_history", "2026-11-01", "final").toPandas()
    assert final.groupby("model").epoch.max().to_dict() == best.to_dict()
    versions = lake.read("transformer_checkpoints", "2026-11-01", "choose").toPandas().version
    assert versions.nunique() == 2

    stage = STAGE_BY_NAME["transformer_choose"]
    staged = StageLake(lake, "2026-11-01", stage.name, "choose", stage.reads, stage.writes)
    context = Context(spark, make_config(*SETTINGS), staged, "2026-11-01", "choose", "")
    histories, ratings = (lake.read(name, "2026-11-01", *phase) for name, *phase in SOURCES)
    plan = make_plans(context, histories, ratings)[0]
    chunks = lake.read("transformer_checkpoints", "2026-11-01", "choose").orderBy("version").collect()
    states = [bytes(row.content) for row in chunks]

    def scores(*models: bytes) -> dict[tuple[int, int], float]:
        rows = candidates(context, plan, list(models), histories, ratings).collect()
        return {
            (row.user_idx, item): score for row in rows for item, score in zip(row["items"], row.scores, strict=True)
        }

    first, second, both = scores(states[0]), scores(states[1]), scores(*states)
    assert both == pytest.approx({key: (first[key] + second[key]) / 2 for key in first}, abs=1e-5)
    assert first != pytest.approx(second, abs=1e-3)
    (user, item), late = sorted(first)[0], sorted(first)[-1]
    known = spark.createDataFrame(
        [(user, item, "train"), (*late, "validation")], "user_idx int, item_idx int, part string"
    )
    rows = known.selectExpr("*", "1D AS rating", "timestamp_seconds(0) AS ts")
    lake.replace("known_dislikes", rows, "2026-11-01")
    assert scores(states[0]).keys() == first.keys() - {(user, item)}, "what is known to be disliked is not listed"


def test_models_take_the_radii_in_turn_and_phase_final_one_of_them(spark, lake: Lake, run_phase) -> None:
    write(spark, lake, *cycle(64))
    radii = {}
    for phase in ("choose", "final"):
        run_phase(phase, "transformer.models=2", "transformer.max_epochs=1", "transformer.adversary_radius=[0.3, 0.2]")
        cards = lake.read("transformer_checkpoints", "2026-11-01", phase).toPandas().card
        radii[phase] = sorted(json.loads(card)["adversary_radius"] for card in cards)
    assert radii["choose"] == [0.2, 0.3]
    assert radii["final"] in ([0.2, 0.2], [0.3, 0.3])


@pytest.mark.parametrize(
    ("most", "overrides", "epochs"),
    [(0.2, (), 2), (0.19, (), 4), (1.0, (), 4), (0.2, ("transformer.blocks=2",), 4)],
    ids=["little", "much", "nothing", "another shape"],
)
def test_phase_final_goes_on_from_phase_choose_where_validation_adds_little(
    spark, lake: Lake, run_phase, most: float, overrides: tuple[str, ...], epochs: int
) -> None:
    train, held_out = cycle(60)  # 240 and 60 ratings: validation has a share of .2
    write(spark, lake, train, held_out if most < 1 else [])
    settings = ("models=2", "max_epochs=4", "validate_every=4", "adversary_radius=[0.0]", "continue_share=0.5")
    cards = {}
    for phase, others in (("choose", ()), ("final", (f"transformer.continue_up_to={most}", *overrides))):
        run_phase(phase, *(f"transformer.{setting}" for setting in settings), *others)
        rows = lake.read("transformer_checkpoints", "2026-11-01", phase).collect()
        cards[phase] = {json.loads(row.card)["model"]: (row.version, json.loads(row.card)) for row in rows}
    assert sorted(cards["final"]) == ["sasrec_0", "sasrec_1"]
    for model, (_, card) in cards["final"].items():
        version, first = cards["choose"][model]
        assert (first["start"], first["epoch"], card["epoch"]) == (None, 4, epochs)
        assert card["start"] == (version if epochs == 2 else None)


@pytest.mark.parametrize(("least", "steps"), [(1, 2), (7, 7)])
def test_few_users_are_gone_round_until_an_epoch_has_its_steps(
    spark, lake: Lake, run_phase, least: int, steps: int
) -> None:
    write(spark, lake, *cycle(64))  # one worker, 32 users a step
    run_phase("choose", f"transformer.min_steps_per_epoch={least}", "transformer.max_epochs=1")
    card = lake.read("transformer_checkpoints", "2026-11-01", "choose").first().card
    assert json.loads(card)["steps_per_epoch"] == steps


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(0, 3)], "no user has two items"),
        ([(0, 0), (1, 0), (1, 2)], "lists for 2 users"),
        ([(0, item) for item in range(30)], "lists for 1 users"),  # longer than the padded length
    ],
)
def test_small_worlds(spark, lake: Lake, run_phase, rows: list[tuple[int, int]], says: str) -> None:
    write(spark, lake, [(user, item, 1.0, START + timedelta(days=item)) for user, item in rows], [])
    nobody_judges = "lists for 0 users" if "lists" in says else says
    assert nobody_judges in run_phase("choose", "transformer.max_epochs=2")
    assert says in run_phase("final", "transformer.max_epochs=2")
    seen = set(rows)
    for row in lake.read("transformer_candidates", "2026-11-01", "final").collect():
        assert not seen & {(row.user_idx, item) for item in row["items"]}
