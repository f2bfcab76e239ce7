"""Fills in a world of two taste groups: even users like items 0-19, odd users items 20-39."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.models import Generator as Settings
from ganrec_spark.config.sections import Config
from ganrec_spark.fills.generate import FillPlan, Source, generate
from ganrec_spark.fills.generators.by_name import new_generator
from ganrec_spark.fills.sources import ship_sources
from ganrec_spark.frames.ship import ship
from ganrec_spark.lake.schema import declared
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.recommenders.als.setting import AlsSetting
from ganrec_spark.run.context import Context
from ganrec_spark.stages import augment, train_generator

InStage = Callable[..., Context]
RUN = "2026-11-01"
USERS, ITEMS, NEVER_RATED = 120, 40, 40
SETTINGS = {name: float(value) for name, value in Settings().model_dump().items() if isinstance(value, int | float)}


def ratings(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        (user, int(item) + 20 * (user % 2), float(rng.integers(1, 6)))
        for user in range(USERS)
        for item in rng.permutation(20)[: 3 if user % 4 < 2 else 12]
    ]
    frame = spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
    return frame.withColumn("ts", F.timestamp_seconds(F.lit(1_700_000_000) + F.col("item_idx")))


def sparse_users(spark: SparkSession) -> DataFrame:
    return spark.range(USERS).where("id % 4 < 2").select(F.col("id").cast("int").alias("user_idx"))


def untrained(kind: str) -> tuple[dict[str, object], bytes]:
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(new_generator(kind, ITEMS + 1, SETTINGS).state_dict(), buffer)
    return {
        "version": f"untrained-{kind}",
        "n_items": ITEMS + 1,
        "settings": SETTINGS,
        "history_half_life_visits": None,
    }, buffer.getvalue()


def filled(spark: SparkSession, partitions: int, users: DataFrame | None = None) -> DataFrame:
    observed = ratings(spark).repartition(partitions)
    checkpoints = {kind: untrained(kind) for kind in ("agn", "vae", "cgan")}
    plans = [
        FillPlan(name, how, n)
        for name in (*checkpoints, "popularity", "item_item")
        for how, n in (("top", 1), ("top", 3), ("sample", 5))
    ]
    plans += [FillPlan("transformer", "top", n) for n in (1, 3)]
    sources = ship_sources(spark, observed, checkpoints, {*checkpoints, "popularity", "item_item"})
    sources["transformer"] = Source("transformer", "listed", {}, ship(spark))
    listed = {"transformer": transformer_lists(spark)}
    users = sparse_users(spark) if users is None else users
    return generate(spark, observed, users, sources, plans, 1.0, seed=42, listed=listed)


def transformer_lists(spark: SparkSession) -> DataFrame:
    """Lists of all users but the first: six items of the own group downwards from its last, each half as likely."""
    rows = [
        (user, [19 + 20 * (user % 2) - place for place in range(6)], [float(-place * np.log(2)) for place in range(6)])
        for user in range(1, USERS)
    ]
    return spark.createDataFrame(rows, "user_idx int, items array<int>, scores array<float>")


def test_fills_keep_their_promises(spark: SparkSession) -> None:
    table = filled(spark, 3).toPandas()
    observed = set(map(tuple, ratings(spark).select("user_idx", "item_idx").toPandas().to_numpy()))
    assert not any(pair in observed for pair in zip(table.user_idx, table.item_idx, strict=True))
    assert set(table.item_idx) <= set(range(ITEMS)), "only items with an observed rating"
    assert set(table.user_idx % 4) == {0, 1}, "only sparse users"
    assert table.confidence.between(0, 1, inclusive="right").all()
    for (fill, _), rows in table.groupby(["fill", "user_idx"]):
        n = int(fill[-1])
        assert sorted(rows.position) == list(range(1, len(rows) + 1))
        assert rows.item_idx.is_unique
        assert rows.sort_values("position").confidence.is_monotonic_decreasing
        assert len(rows) == n or rows.generator.iloc[0] in ("item_item", "transformer")
        if "_top" in fill:
            assert rows.confidence.max() == 1.0
    group = (table.item_idx >= 20) == (table.user_idx % 2 == 1)
    assert group[table.fill == "item_item_top3"].mean() == 1.0
    # Of the Transformer's lists what the user lacks, in the lists' order, half as sure with each place.
    listed = transformer_lists(spark).toPandas().set_index("user_idx")["items"]
    own = table[table.fill == "transformer_top3"].sort_values("position").groupby("user_idx")
    assert set(own.groups) == set(table.user_idx) - {0}
    for user, rows in own:
        unseen = [(place, item) for place, item in enumerate(listed[user]) if (user, item) not in observed][:3]
        assert rows.item_idx.tolist() == [item for _, item in unseen]
        assert rows.confidence.tolist() == pytest.approx([0.5 ** (place - unseen[0][0]) for place, _ in unseen])
    # The best three of one user are the same three whichever way they were asked for.
    first = table[table.position == 1].pivot_table(index="user_idx", columns="fill", values="item_idx")
    assert (first.vae_top1 == first.vae_top3).all()


def test_the_same_rows_whatever_the_partitions(spark: SparkSession) -> None:
    rows = []
    before = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        for partitions in (1, 5):
            spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
            table = filled(spark, partitions).toPandas()
            rows.append(sorted(map(tuple, table.to_numpy().tolist())))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))
    assert rows[0] == rows[1]


def test_a_users_rows_do_not_hang_on_who_else_is_filled(spark: SparkSession) -> None:
    # 60 users, then 15 of them and one alone: to the last bit of each confidence.
    everyone = set(map(tuple, filled(spark, 3).toPandas().to_numpy().tolist()))
    for some in ("user_idx % 8 = 0", "user_idx = 40"):
        own = sparse_users(spark).where(some)
        ids = {row.user_idx for row in own.collect()}
        found = set(map(tuple, filled(spark, 3, own).toPandas().to_numpy().tolist()))
        assert found == {row for row in everyone if row[1] in ids}
        assert {row[1] for row in found} == ids


@pytest.fixture
def in_stage(spark: SparkSession, lake: Lake, make_config: Callable[..., Config]) -> InStage:
    def context(name: str, tmp: str, *overrides: str) -> Context:
        stage = STAGE_BY_NAME[name]
        view = StageLake(lake, RUN, name, stage.phase, stage.reads, stage.writes)
        return Context(spark, make_config(*overrides), view, RUN, stage.phase, tmp)

    return context


def prepare(spark: SparkSession, lake: Lake, accepted: str) -> None:
    """Write what train_generator and augment read, with one more rating a user to validate on."""
    train = ratings(spark)
    lake.replace("train_ratings", train, RUN)
    held_out = train.groupBy("user_idx").agg(F.max("item_idx").alias("item_idx"))
    taken = train.join(held_out.withColumn("other", F.col("item_idx")), ["user_idx", "item_idx"], "left_semi")
    lake.replace("validation_ratings", taken.withColumn("item_idx", F.lit(NEVER_RATED)), RUN)
    view = StageLake(lake, RUN, "test", None, (), ())
    chosen = view.frame("als_choices", [(AlsSetting(8, 0.1, 1.0).text(), None, True, None)])
    lake.replace("als_choices", chosen, RUN, "choose")
    lists = transformer_lists(spark).withColumn("fill", F.lit("none"))
    schema = "version string, card string, part int, content binary"
    chunks = spark.createDataFrame([("v1", "{}", 0, bytearray())], schema)
    for phase in ("choose", "final"):
        lake.replace("transformer_candidates", lists, RUN, phase)
        lake.replace("transformer_checkpoints", chunks, RUN, phase)
    sparsity = [
        (user, n, n / ITEMS, 0.0, 0.5, "", n <= 5) for user in range(USERS) for n in [3 if user % 4 < 2 else 12]
    ]
    lake.replace("user_sparsity", view.frame("user_sparsity", sparsity), RUN)
    profile = [(USERS, ITEMS, 900, 0.1, 0.1, USERS // 2, True, "")]
    lake.replace("matrix_profile", view.frame("matrix_profile", profile), RUN)
    histories = dict(list(train.toPandas().groupby("user_idx")))
    rows = []
    for user, history in histories.items():
        padding = 12 - len(history)
        items = [*history.item_idx.tolist(), *[-1] * padding]
        weights = [*history.rating.tolist(), *[0.0] * padding]
        rows.append((user % 2, user, int(len(history) <= 5), len(history), len(history), items, weights, [0] * 12))
    lake.replace("user_rows", view.frame("user_rows", rows), RUN)
    decision = {"fill": accepted, "accepted": True}
    decisions = [tuple(decision.get(column.name) for column in declared("gate_decisions").columns)]
    lake.replace("gate_decisions", view.frame("gate_decisions", decisions), RUN)


def test_train_and_fill_in_both_phases(spark: SparkSession, lake: Lake, in_stage: InStage, tmp_path: Path) -> None:
    prepare(spark, lake, "vae_top3")
    small = (
        "generator.kinds=[vae, agn, cgan]",
        "generator.epochs=25",
        "generator.patience=25",
        "generator.agn_epochs=25",
        "generator.batch_size=24",
        "generator.min_steps_per_epoch=6",
        "generator.learning_rate=0.01",
        "generator.cgan_embedding_size=8",
        "generator.vae_latent_size=8",
        "generator.vae_hidden_size=32",
        "distributed.workers=1",
    )
    message = train_generator.run(in_stage("train_generator", str(tmp_path), *small))
    assert "agn " in message
    cards = {row.generator: json.loads(row.card) for row in lake.read("generator_checkpoints", RUN).collect()}
    assert set(cards) == {"vae", "agn", "cgan"}
    n_items = 1 + max(row.item_idx for row in lake.read("train_ratings", RUN).collect())
    assert all(card["epochs"] == 25 and card["n_items"] == n_items for card in cards.values())
    # 120 users in batches of 24; all but agn go on to the least number of steps.
    steps = {kind: card["steps_per_epoch"] for kind, card in cards.items()}
    assert steps == {"agn": 5, "vae": 6, "cgan": 6}
    names = {row.name for row in lake.read("generator_history", RUN).collect()}
    assert {"loss", "distinct_items", "gini_generated", "gini_observed"} <= names
    assert list((tmp_path / "tensorboard" / "cgan").iterdir())
    assert not (tmp_path / "checkpoints").exists(), "what is in the lake needs no file"

    augment.run(in_stage("augment_choose", str(tmp_path)))
    table = lake.read("generated_ratings", RUN, "choose").toPandas()
    assert len(set(table.fill)) == 3 * 4 + 3 * 3
    # In phase choose those who screen: sparse ones of a third of the users with held-out ratings.
    sparse = {row.user_idx for row in sparse_users(spark).collect()}
    assert set(table.user_idx) < sparse
    assert 10 < len(set(table.user_idx)) < 30
    own = (table.item_idx >= 20) == (table.user_idx % 2 == 1)
    for fill in ("vae_top3", "cgan_top3", "item_item_top3", "transformer_top3"):
        assert own[table.fill == fill].mean() > 0.9, fill
    assert NEVER_RATED not in set(table.item_idx), "not rated in this phase"

    augment.run(in_stage("augment_final", str(tmp_path)))
    final = lake.read("generated_ratings", RUN, "final").toPandas()
    assert set(final.fill) == {"vae_top3"}
    assert set(final.user_idx) == sparse
    assert NEVER_RATED not in set(final.item_idx), "every user has it since validation was added"


def test_no_fill_holds_what_its_user_is_known_to_dislike(
    spark: SparkSession, lake: Lake, in_stage: InStage, tmp_path: Path
) -> None:
    prepare(spark, lake, "none")
    context = in_stage("augment_choose", str(tmp_path), "augment.rules=[popularity, transformer]")

    def pairs() -> set[tuple[str, int, int]]:
        augment.run(context)
        rows = lake.read("generated_ratings", RUN, "choose").collect()
        return {(row.fill, row.user_idx, row.item_idx) for row in rows}

    before = pairs()
    (_, user, item), (_, other, late) = sorted(before)[0], sorted(before)[-1]
    dislikes = [(user, item, "train"), (other, late, "validation")]
    known = spark.createDataFrame(dislikes, "user_idx int, item_idx int, part string")
    lake.replace("known_dislikes", known.selectExpr("*", "1D AS rating", "timestamp_seconds(0) AS ts"), RUN)
    after = pairs()
    assert {pair for pair in after if pair[1] != user} == {pair for pair in before if pair[1] != user}
    assert not any(pair[1:] == (user, item) for pair in after)
    # The next best take its place.
    assert Counter(pair[:2] for pair in after) == Counter(pair[:2] for pair in before)


def test_nothing_is_generated_where_the_gate_accepted_none(
    spark: SparkSession, lake: Lake, in_stage: InStage, tmp_path: Path
) -> None:
    prepare(spark, lake, "none")
    assert "nothing" in augment.run(in_stage("augment_final", str(tmp_path)))
    assert lake.read("generated_ratings", RUN, "final").count() == 0
