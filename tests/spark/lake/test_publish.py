"""Readers see all of a published run or none; a refused run and a re-run change nothing for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark.dictionaries import add_ids

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError, QualityError
from ganrec_spark.evaluation import publish_checks
from ganrec_spark.lake.pointer import show
from ganrec_spark.lake.publication import (
    content_hash,
    prune_editions,
    prune_exposures,
    published_before,
    roll_back,
    stored_editions,
)
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.plan.tables import EDITED
from ganrec_spark.run import invariants
from ganrec_spark.run.context import Context
from ganrec_spark.stages import publish

DAY = datetime(2026, 1, 1)
N_USERS = 4


@pytest.fixture
def world(lake: Lake, config: Config) -> Context:
    """Return the context of publishing run 2026-11-01: four users, twelve items, a complete and valid run."""
    context = make_context(lake, config, "2026-11-01")
    add_ids(lake, "users", context.lake.frame("users", [(f"u{u}", u, "2026-11-01") for u in range(N_USERS)]))
    add_ids(lake, "items", context.lake.frame("items", [(f"i{i}", i, "2026-11-01") for i in range(12)]))
    fill_run(context)
    return context


def make_context(lake: Lake, config: Config, run_id: str) -> Context:
    stage = STAGE_BY_NAME["publish"]
    return Context(
        lake.spark, config, StageLake(lake, run_id, stage.name, None, stage.reads, stage.writes), run_id, None, ""
    )


def fill_run(context: Context, ndcg: float = 0.3, n: int = 10, item_shift: int = 0, score: float = 1.0) -> None:
    lake, run_id, frame = context.lake.lake, context.run_id, context.lake.frame
    rows = [
        (f"u{u}", r, f"i{(r + item_shift) % 12}", score / r, ["als"], "similar_users", None, u, (r + item_shift) % 12)
        for u in range(N_USERS)
        for r in range(1, n + 1)
    ]
    metrics = [
        (name, "none", "test", "all", "ndcg", 10, value, value, value, N_USERS)
        for name, value in (("blend", ndcg), ("popularity", 0.1))
    ]
    ratings = [(u, i, 5.0, DAY, "source") for u in range(N_USERS) for i in range(12)]
    for name, content in (("recommendations", rows), ("metrics", metrics), ("ratings", ratings)):
        lake.replace(name, frame(name, content), run_id)
    for name in ("unserved_users", "gate_decisions", "rejected_ratings"):
        lake.replace(name, frame(name, []), run_id)


def seen(spark: SparkSession, lake: Lake) -> list[tuple[object, ...]]:
    rows = spark.table(lake.name("published_recommendations")).select("run_id", "user_id", "rank", "item_id")
    return sorted(tuple(row) for row in rows.collect())


def test_publish_rerun_refuse_and_roll_back(world: Context, spark: SparkSession, lake: Lake, config: Config) -> None:
    assert "published edition" in publish.run(world)
    first = seen(spark, lake)
    assert len(first) == N_USERS * 10
    assert {row[0] for row in first} == {"2026-11-01"}

    # The same again: no commit at all.
    assert "already published" in publish.run(world)
    assert len(lake.publications()) == 1

    # The published date runs again with worse rows: readers see the old ones until the checks pass, which they do not.
    fill_run(world, item_shift=5, n=9)
    assert seen(spark, lake) == first
    with pytest.raises(QualityError, match="short_lists"):
        publish.run(world)
    assert seen(spark, lake) == first

    # The next date passes, and then the way back.
    second = make_context(lake, config, "2026-11-02")
    fill_run(second, item_shift=2)
    publish.run(second)
    assert {row[0] for row in seen(spark, lake)} == {"2026-11-02"}
    assert roll_back(lake) == "2026-11-01"
    assert seen(spark, lake) == first
    assert roll_back(lake, "2026-11-02") == "2026-11-02"
    with pytest.raises(LakeError, match="these runs: 2026-11-01, 2026-11-02"):
        roll_back(lake, "2026-10-01")

    # An older date never replaces a newer one.
    older = make_context(lake, config, "2026-10-31")
    fill_run(older)
    assert "2026-11-02 is newer" in publish.run(older)
    assert {row[0] for row in seen(spark, lake)} == {"2026-11-02"}


DAMAGES = [
    ("user_id", "'u0'", "true", "duplicate_ranks"),
    ("item_id", "'i1'", "true", "duplicate_items"),
    ("rank", "rank + 1", "true", "ranks_out_of_range"),
    ("score", "CAST('NaN' AS DOUBLE)", "true", "scores_not_finite"),
    ("user_id", "'stranger'", "true", "unknown_users"),
    ("item_id", "'nothing'", "true", "unknown_items"),
    ("rank", "rank", "rank < 9", "short_lists"),
]


def test_every_row_check_can_fail(world: Context, lake: Lake) -> None:
    good = lake.read("recommendations", world.run_id)
    unserved, ratings = lake.read("unserved_users", world.run_id), lake.read("ratings", world.run_id)
    for column, expression, kept, expected in DAMAGES:
        bad = good.withColumn(column, F.expr(expression)).where(kept)
        checks = [
            *publish_checks.row_checks(bad, lake.read_all("users"), lake.read_all("items"), 10),
            *publish_checks.coverage_checks(bad, unserved, ratings, world),
        ]
        assert expected in {check.name for check in checks if not check.passed}


def test_metric_floors_against_popularity_and_the_last_run(world: Context, lake: Lake, config: Config) -> None:
    publish.run(world)
    worse = make_context(lake, config, "2026-11-02")
    fill_run(worse, ndcg=0.2)
    with pytest.raises(QualityError, match=r"metric_ratio: expected at least 0.8, found 0.6667"):
        publish.run(worse)
    fill_run(worse, ndcg=0.05)
    with pytest.raises(QualityError, match="lift_over_popularity"):
        publish.run(worse)
    assert lake.published().run_id == "2026-11-01"


def test_old_editions_are_pruned_and_say_so(world: Context, lake: Lake, config: Config) -> None:
    for day in range(1, 5):
        context = make_context(lake, replace_keep(config), f"2026-11-0{day}")
        fill_run(context, item_shift=day)
        publish.run(context)
    assert prune_editions(lake, 2) == 0
    assert roll_back(lake, "2026-11-03") == "2026-11-03"
    with pytest.raises(LakeError, match="were pruned"):
        roll_back(lake, "2026-11-01")


def replace_keep(config: Config) -> Config:
    return config.model_copy(update={"publish": config.publish.model_copy(update={"keep_editions": 2})})


def test_rollback_goes_back_step_by_step_and_to_what_was_run_late(world: Context, lake: Lake, config: Config) -> None:
    for run_id in ("2026-11-01", "2026-11-03", "2026-11-04", "2026-11-02"):
        context = make_context(lake, config, run_id)
        fill_run(context, item_shift=int(run_id[-1]))
        told = publish.run(context)
    assert "`ganrec rollback --to 2026-11-02` points back" in told
    assert [roll_back(lake) for _ in range(2)] == ["2026-11-03", "2026-11-01"]
    with pytest.raises(LakeError, match="expected an edition of what was published before"):
        roll_back(lake)
    assert roll_back(lake, "2026-11-02") == "2026-11-02"
    assert roll_back(lake) == "2026-11-01"
    # What the date that was run late has in too many editions goes, what readers could go back to stays.
    late = make_context(lake, replace_keep(config), "2026-10-30")
    for shift in range(4):
        fill_run(late, item_shift=shift)
        publish.run(late)
    kept = stored_editions(lake)
    assert [run_id for run_id, _ in kept].count("2026-10-30") == 2
    assert {"2026-11-01", "2026-11-02"} <= {run_id for run_id, _ in kept}


def test_the_pointer_never_goes_backwards_whoever_moves_it_meanwhile(
    world: Context, lake: Lake, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.run(world)
    newer = make_context(lake, config, "2026-11-03")
    fill_run(newer, item_shift=2)
    point_to = Lake.point_to

    def late(self: Lake, *rest: object, **named: object) -> bool:
        monkeypatch.setattr(Lake, "point_to", point_to)
        publish.run(newer)  # another process, between this one's look at the pointer and its commit
        return point_to(self, *rest, **named)

    older = make_context(lake, config, "2026-11-02")
    fill_run(older, item_shift=1)
    monkeypatch.setattr(Lake, "point_to", late)
    assert "run 2026-11-03 is newer and stays published" in publish.run(older)
    assert lake.published().run_id == "2026-11-03"
    monkeypatch.setattr(Lake, "point_to", late)
    fill_run(newer, item_shift=4)
    with pytest.raises(LakeError, match="found that another process moved it"):
        roll_back(lake)


def test_views_get_the_columns_of_a_later_version(
    world: Context, lake: Lake, config: Config, spark: SparkSession
) -> None:
    publish.run(world)
    spark.sql(
        f"CREATE OR REPLACE VIEW {lake.name('published_metrics')} AS SELECT run_id, value "
        f"FROM {lake.name('metrics_editions')}"
    )
    later = make_context(Lake(spark, config.lake.catalog, config.lake.namespace), config, "2026-11-01")
    fill_run(later, item_shift=3)
    publish.run(later)
    assert "ci_low" in spark.table(lake.name("published_metrics")).columns


def test_a_short_delivery_is_refused_and_odd_ones_are_told(world: Context, lake: Lake, config: Config) -> None:
    publish.run(world)
    short = make_context(lake, config, "2026-11-02")
    fill_run(short)
    few = lake.read("ratings", "2026-11-02").where("user_idx = 0").withColumn("ts", F.lit(datetime(2025, 12, 30)))
    lake.replace("ratings", few.localCheckpoint(), "2026-11-02")
    rejects = [("bad_time", "f", "{}")] * 5
    lake.replace("rejected_ratings", short.lake.frame("rejected_ratings", rejects), "2026-11-02")
    with pytest.raises(QualityError, match=r"volume_users: expected at least 0.5, found 0.2500 \(1 users, 4 in run"):
        publish.run(short)
    found = {row.name: (row.passed, row.severity) for row in lake.read("publish_checks", "2026-11-02").collect()}
    assert found["volume_ratings"] == (False, "refuse")
    assert found["volume_items"] == found["volume_lists"] == (True, "refuse")
    assert found["newest_rating"] == found["reject_share"] == (False, "warn")
    # A user of the site may want it so.
    loose = config.model_copy(update={"publish": config.publish.model_copy(update={"min_volume_ratio": 0.0})})
    assert "2 warnings" in publish.run(make_context(lake, loose, "2026-11-02"))


def test_one_index_for_two_ids_is_refused(world: Context, lake: Lake) -> None:
    add_ids(lake, "users", world.lake.frame("users", [("stranger", 0, "2026-11-01")]))
    with pytest.raises(QualityError, match=r"shared_user_indices.*1 rows too many.*ganrec doctor"):
        publish.run(world)


ARMS = "experiment.arms=[{name: blend, share: 0.9, lists: published}, {name: simple, share: 0.1, lists: popularity}]"


def test_exposures_are_written_with_the_edition_once_and_go_by_age(
    world: Context, lake: Lake, spark: SparkSession, make_config: Callable[..., Config]
) -> None:
    drawn = world.lake.frame("explored_places", [(0, 10, 10, 0.25), (3, 10, 10, 0.5)])
    lake.replace("explored_places", drawn, "2026-11-01")
    publish.run(world)
    publish.run(world)
    plain = lake.published().edition
    view = spark.table(lake.name("published_exposures"))
    assert view.columns == ["run_id", "edition", "user_idx", "rank", "item_idx", "arm", "propensity", "place"]
    rows = view.collect()
    assert len(rows) == N_USERS * 10, "published twice, written once"
    assert {(row.user_idx, row.rank, row.propensity) for row in rows if row.propensity < 1} == {
        (0, 10, 0.25),
        (3, 10, 0.5),
    }
    assert {(row.edition, row.arm) for row in rows} == {(plain, "published")}
    assert [finding.level for finding in invariants.exposures(lake)[0]] == ["ok"]

    # Who is in which arm counts in the name of an edition: what was shown under a name never changes.
    armed = make_context(lake, make_config(ARMS), "2026-11-01")
    publish.run(armed)
    assert lake.published().edition != plain
    assert {row.edition for row in lake.read_all("exposures").collect()} == {plain, lake.published().edition}

    # Neither age alone nor pruned editions alone take exposures away; both do, but never what readers see.
    later = datetime.now(UTC) + timedelta(days=40)
    assert prune_exposures(lake, 30, later) == 0
    for name in EDITED:
        spark.sql(f"DELETE FROM {lake.name(f'{name}_editions')} WHERE edition = '{plain}'")
    assert prune_exposures(lake, 30, datetime.now(UTC)) == 0
    assert prune_exposures(lake, 30, later) == 1
    assert {row.edition for row in lake.read_all("exposures").collect()} == {lake.published().edition}

    spark.sql(f"DELETE FROM {lake.name('exposures')} WHERE user_idx = 1")
    (finding,), _ = invariants.exposures(lake)
    assert finding.level == "fail"
    assert "30 for 40 listed items" in finding.found
    drawn = world.lake.frame("explored_places", [(0, 10, 11, 0.25)])
    lake.replace("explored_places", drawn, "2026-11-01")
    with pytest.raises(LakeError, match="found 1 places with others; run stage recommend again"):
        publish.run(world)


def test_lists_that_break_a_rule_are_refused(world: Context, lake: Lake, make_config: Callable[..., Config]) -> None:
    rules = make_config("rules.blocked_items=b", "rules.item_categories=c", "rules.max_per_category=9")
    context = make_context(lake, rules, "2026-11-01")
    blocked = ("blocked", None, 11, None, None, None)
    lake.replace("list_rules", world.lake.frame("list_rules", [blocked]), "2026-11-01")
    lake.replace("rule_effects", world.lake.frame("rule_effects", [("blocked", 3)]), "2026-11-01")
    assert "published edition" in publish.run(context)
    assert {tuple(row) for row in lake.read("rule_checks", "2026-11-01").collect()} == {
        ("blocked", 3, 0),
        ("category", 0, 0),
    }
    shown = lake.published()
    # One user's list gets the blocked item, for real; and all ten items of a list are of one category.
    listed = lake.read("recommendations", "2026-11-01")
    broken = listed.withColumn("item_idx", F.expr("IF(user_idx = 2 AND rank = 1, 11, item_idx)"))
    broken = broken.withColumn("item_id", F.concat(F.lit("i"), "item_idx"))
    lake.replace("recommendations", broken.localCheckpoint(), "2026-11-01")
    with pytest.raises(QualityError, match="rule_blocked: expected no list that breaks the rule, found 1"):
        publish.run(context)
    assert {row.n_broken for row in lake.read("rule_checks", "2026-11-01").where("rule = 'blocked'").collect()} == {1}
    same = [("category", None, item, "film", None, None) for item in range(1, 11)]
    lake.replace("list_rules", world.lake.frame("list_rules", same), "2026-11-01")
    with pytest.raises(QualityError, match="rule_category: expected no list that breaks the rule, found 3"):
        publish.run(context)
    assert lake.published() == shown


def test_content_hash_sees_rows_not_order(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(i, str(i)) for i in range(50)], "a int, b string")
    shuffled = frame.orderBy("b").repartition(7)
    assert content_hash({"t": frame}) == content_hash({"t": shuffled})
    assert content_hash({"t": frame}) != content_hash({"t": frame.where("a < 49")})


def test_of_two_runs_of_a_date_the_one_with_the_greater_number_is_newer(lake: Lake) -> None:
    assert show(lake, "2026-11-01.9", "a") == "published edition a"
    assert show(lake, "2026-11-01.10", "b") == "published edition b"
    assert "run 2026-11-01.10 is newer and stays published" in show(lake, "2026-11-01.9", "c")
    before = published_before(lake, "2026-11-01.10")
    assert before is not None
    assert (before.run_id, before.edition) == ("2026-11-01.9", "a")
