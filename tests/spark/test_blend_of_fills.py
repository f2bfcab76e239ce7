"""Sixty users for whom ALS lists a wrong item first, and with a fill the right one: both blends must be told apart."""

from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from ganrec_spark.config import load_config
from ganrec_spark.context import Context
from ganrec_spark.lake import Lake, StageLake
from ganrec_spark.pipeline import MEMBERS, STAGE_BY_NAME
from ganrec_spark.stages import recommend

RUN, DAY, FILL = "2026-11-01", datetime(2026, 1, 1), "cgan_top1_p50"
USERS, ITEMS = range(60), 20
WRONG, RIGHT, OTHERS = 17, 18, [11, 12]


def test_each_fill_has_its_own_blend_in_both_phases_and_the_better_one_is_published(
    spark: SparkSession, lake_root: Path
) -> None:
    lake, stage = Lake(spark, "lake", "fills"), STAGE_BY_NAME["recommend"]
    staged = StageLake(lake, RUN, "recommend", None, stage.reads, stage.writes)
    overrides = [f"lake.root={lake_root}", "recommend.n=3", "recommend.weight_step=0.5", "recommend.reranker=none"]
    context = Context(spark, load_config(overrides=overrides, environ={}), staged, RUN, None, "")

    def put(table: str, rows: list[tuple[object, ...]], phase: str | None = None) -> None:
        lake.replace(table, staged.frame(table, rows), RUN, phase)

    lake.append("users", staged.frame("users", [(f"u{user}", user, RUN) for user in USERS]))
    lake.append("items", staged.frame("items", [(f"i{item}", item, RUN) for item in range(ITEMS)]))
    observed = [(user, item) for user in USERS for item in (user % 10, WRONG if user % 2 else RIGHT)]
    wanted = {user: RIGHT if user % 2 else WRONG for user in USERS}
    other = {user: 13 + user % 3 for user in USERS}
    put("ratings", [(user, item, 5.0, DAY, "source") for user, item in [*observed, *wanted.items()]])
    put("validation_ratings", [(user, item, 5.0, DAY) for user, item in wanted.items()])
    put("user_sparsity", [(user, 2, 0.1, 0.0, 0.5, "1-5", True) for user in USERS])
    for phase in ("choose", "final"):
        scores = [1.0, 0.6, 0.3, 0.1]
        plain = [("none", user, [*OTHERS, other[user], wanted[user]], scores) for user in USERS]
        filled = [(FILL, user, [wanted[user], *OTHERS, other[user]], scores) for user in USERS]
        for member in MEMBERS:
            put(f"{member}_candidates", [*plain, *filled] if member == "als" else [], phase)
        put("merged_ratings", [(user, item, 5.0, DAY, "observed", "none", 1.0) for user, item in observed], phase)
        put("item_item_weights", [], phase)
    recommend.run(context)
    for phase in ("choose", "final"):
        rows = lake.read("blend_candidates", RUN, phase).collect()
        firsts = {(row.fill, row.user_idx): row["items"][:2] for row in rows}
        assert len(rows) == len(firsts) == 2 * len(USERS)
        for user in USERS:
            assert firsts["none", user] == OTHERS
            assert firsts[FILL, user] == [wanted[user], OTHERS[0]]
    published = lake.read("blend_weights", RUN).where("published").select("fill").distinct().collect()
    assert [row.fill for row in published] == [FILL]
    tops = lake.read("recommendations", RUN).where("rank = 1").collect()
    assert {row.user_id: row.item_id for row in tops} == {f"u{user}": f"i{item}" for user, item in wanted.items()}
