"""Users for whom ALS lists wrong items first, and with a fill the right one: what is published is proven."""

from datetime import datetime
from math import log2
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.load import load_config
from ganrec_spark.experiment.arms import arm_of
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.stages import recommend

RUN, DAY, FILL = "2026-11-01", datetime(2026, 1, 1), "cgan_top1"
USERS, ITEMS, N_SPARSE = range(90), 20, 60
READER = 90  # has rated everything: what nobody rated is not listed
WRONG, RIGHT, OTHERS = 17, 18, [11, 12]
ARMS = "experiment.arms=[{name: filled, share: 0.5, lists: published}, {name: plain, share: 0.5, lists: no_fill}]"
EXPERIMENT = load_config(overrides=[ARMS], environ={}).experiment


def test_a_fill_reaches_the_lists_of_sparse_users_alone_where_it_provably_helps_them(
    spark: SparkSession, lake_root: Path
) -> None:
    lake = blended(spark, lake_root, "fills", range(N_SPARSE), ARMS)
    for phase in ("choose", "final"):
        rows = lake.read("blend_candidates", RUN, phase).where(f"user_idx != {READER}").collect()
        firsts = {(row.fill, row.user_idx): row["items"][:2] for row in rows}
        assert len(rows) == len(firsts) == 2 * len(USERS)
        for user in USERS:
            assert firsts["none", user] == OTHERS
            assert firsts[FILL, user] == ([WANTED[user], OTHERS[0]] if user < N_SPARSE else OTHERS)
    assert published(lake) == FILL
    tops = {row.user_id: row.item_id for row in lake.read("recommendations", RUN).where("rank = 1").collect()}
    filled = {user: user < N_SPARSE and arm_of(f"u{user}", EXPERIMENT) == "filled" for user in USERS}
    assert sum(filled.values()) == pytest.approx(N_SPARSE / 2, abs=15)
    assert tops == {f"u{user}": f"i{WANTED[user] if filled[user] else OTHERS[0]}" for user in USERS}
    segments = {row.segment: row for row in lake.read("published_fill_segments", RUN).collect()}
    assert (segments["dense"].lift, segments["dense"].ci_low) == (0.0, 0.0)
    # The held-out item moves from the fourth place to the first.
    assert segments["sparse"].lift == pytest.approx(log2(5) - 1)


def test_a_fill_that_helps_on_average_but_not_provably_is_not_published(spark: SparkSession, lake_root: Path) -> None:
    # 32 of the 60 gain .57 each, 28 lose .43.
    lake = blended(spark, lake_root, "unproven_fills", helps=range(32))
    segments = {row.segment: row for row in lake.read("published_fill_segments", RUN).collect()}
    assert segments["sparse"].lift > 0 > segments["sparse"].ci_low
    assert published(lake) == "none"
    tops = lake.read("recommendations", RUN).where("rank = 1").collect()
    assert {row.item_id for row in tops} == {f"i{OTHERS[0]}"}


def published(lake: Lake) -> str:
    (row,) = lake.read("blend_weights", RUN).where("published").select("fill").distinct().collect()
    return str(row.fill)


WANTED = {user: RIGHT if user % 2 else WRONG for user in USERS}


def blended(spark: SparkSession, lake_root: Path, namespace: str, helps: range, *more: str) -> Lake:
    """Run recommend on ALS's lists without fill, the held-out item fourth, and with one: first, or for others gone."""
    lake, stage = Lake(spark, "lake", namespace), STAGE_BY_NAME["recommend"]
    staged = StageLake(lake, RUN, "recommend", None, stage.reads, stage.writes)
    overrides = [f"lake.root={lake_root}", "recommend.n=3", "recommend.weight_step=0.5", "recommend.reranker=none"]
    context = Context(spark, load_config(overrides=[*overrides, *more], environ={}), staged, RUN, None, "")

    def put(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, staged.frame(table, rows), RUN, phase)

    add_ids(lake, "users", staged.frame("users", [(f"u{user}", user, RUN) for user in USERS]))
    add_ids(lake, "items", staged.frame("items", [(f"i{item}", item, RUN) for item in range(ITEMS)]))
    observed = [(user, item) for user in USERS for item in (user % 10, WRONG if user % 2 else RIGHT)]
    observed += [(READER, item) for item in range(ITEMS)]
    other = {user: 13 + user % 3 for user in USERS}
    put("ratings", [(user, item, 5.0, DAY, "source") for user, item in [*observed, *WANTED.items()]])
    put("validation_ratings", [(user, item, 5.0, DAY) for user, item in WANTED.items()])
    few, many = ("sparse", "bucket:1-5"), ("dense", "bucket:6-10")
    put("user_segments", [(u, name) for u in USERS for name in (few if u < N_SPARSE else many)])
    for phase in ("choose", "final"):
        scores = [1.0, 0.6, 0.3, 0.1]
        plain = [("none", user, [*OTHERS, other[user], WANTED[user]], scores) for user in USERS]
        filled = [(FILL, *row[1:]) for row in plain[N_SPARSE:]]
        for user in range(N_SPARSE):
            first = WANTED[user] if user in helps else 19
            filled.append((FILL, user, [first, *OTHERS, other[user]], scores))
        for member in MEMBER_NAMES:
            put(f"{member}_candidates", [*plain, *filled] if member == "als" else [], phase)
        put("merged_ratings", [(user, item, 5.0, DAY, True, "none") for user, item in observed], phase)
        put("item_item_weights", [], phase)
    recommend.run(context)
    return lake
