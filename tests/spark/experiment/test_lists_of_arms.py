"""Twenty-four users, twenty items: each has the list of their arm, drawn places are known, rules hold in every arm."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from spark.dictionaries import add_ids

from ganrec_spark.config.load import load_config
from ganrec_spark.errors import InputError
from ganrec_spark.experiment.arms import arm_column, arm_of
from ganrec_spark.experiment.exposures import exposure_rows
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.rules.proof import broken_lists
from ganrec_spark.rules.reading import rule_rows
from ganrec_spark.rules.shown import shown_in_vain
from ganrec_spark.run.context import Context
from ganrec_spark.stages import recommend

MakeContext = Callable[..., Context]
Lists = dict[str, list[str]]

RUN, DAY, N_USERS, N_ITEMS, N = "2026-11-01", datetime(2026, 1, 1), 24, 20, 5
# Item i is rated by the users u with u % (i + 1) == 0 and u > 0: 0 is the most popular, all are rated, by 24 - u users.
SEEN = {user: [item for item in range(N_ITEMS) if user > 0 and user % (item + 1) == 0] for user in range(N_USERS)}
ARMS = (
    "experiment.arms=[{name: blend, share: 0.4, lists: published}, {name: model, share: 0.3, lists: als}, "
    "{name: simple, share: 0.3, lists: popularity}]"
)


def member_list(member: int, user: int) -> list[int]:
    """Return ten items that the user has not seen, in an order of the member's own."""
    unseen = [item for item in range(N_ITEMS) if item not in SEEN[user]]
    return sorted(unseen, key=lambda item: ((item * (3 + member) + user) % 17, item))[:10]


@pytest.fixture(scope="module")
def make_context(spark: SparkSession, lake_root: Path) -> MakeContext:
    """Return a function from configuration to the context of stage recommend, or another, in the world's namespace."""
    lake = Lake(spark, "lake", "arms")

    def make(*overrides: str, stage: str = "recommend") -> Context:
        plan = STAGE_BY_NAME[stage]
        staged = StageLake(lake, RUN, stage, None, plan.reads, plan.writes)
        fixed = [f"lake.root={lake_root}", f"recommend.n={N}", "recommend.n_candidates=20", "evaluate.ks=[5]"]
        return Context(spark, load_config(overrides=[*fixed, *overrides], environ={}), staged, RUN, None, "")

    return make


@pytest.fixture(scope="module")
def world(make_context: MakeContext) -> Lake:
    context = make_context()
    lake, frame = context.lake.lake, context.lake.frame
    observed = [(user, item) for user, items in SEEN.items() for item in items]
    add_ids(lake, "users", frame("users", [(f"u{u}", u, RUN) for u in range(N_USERS)]))
    add_ids(lake, "items", frame("items", [(f"i{i}", i, RUN) for i in range(N_ITEMS)]))
    ratings = [(user, item, 5.0, DAY, "source") for user, item in [*observed, (0, 0)]]
    lake.replace("ratings", frame("ratings", ratings), RUN)
    for phase in ("choose", "final"):
        for number, member in enumerate(("als", "item_item", "transformer", "trending")):
            rows = [("none", u, member_list(number, u), np.linspace(1, 0.1, 10).tolist()) for u in range(N_USERS)]
            lake.replace(f"{member}_candidates", frame(f"{member}_candidates", rows), RUN, phase)
        merged = frame("merged_ratings", [(u, i, 5.0, DAY, True, "none") for u, i in observed])
        lake.replace("merged_ratings", merged, RUN, phase)
        lake.replace("item_item_weights", frame("item_item_weights", [(5, [0], [0.9])]), RUN, phase)
    return lake


def lists_of(lake: Lake) -> Lists:
    found: Lists = defaultdict(list)
    for row in lake.read("recommendations", RUN).orderBy("user_idx", "rank").collect():
        found[row.user_id].append(row.item_id)
    return dict(found)


@pytest.fixture(scope="module")
def default(world: Lake, make_context: MakeContext) -> Lists:
    recommend.run(make_context())
    for table in ("list_rules", "rule_effects", "explored_places"):
        assert world.read(table, RUN).count() == 0, table
    return lists_of(world)


def test_spark_and_python_put_a_user_into_the_same_arm(spark: SparkSession, make_context: MakeContext) -> None:
    experiment = make_context(ARMS).config.experiment
    users = [f"u{number}" for number in range(500)] + ["é", "", "漢字", "a:b"]
    rows = spark.createDataFrame([(user,) for user in users], "user_id string")
    found = {row.user_id: row.arm for row in rows.withColumn("arm", arm_column(rows.user_id, experiment)).collect()}
    assert found == {user: arm_of(user, experiment) for user in users}
    assert set(found.values()) == {"blend", "model", "simple"}


def test_every_user_has_the_list_of_their_arm(world: Lake, default: Lists, make_context: MakeContext) -> None:
    context = make_context(ARMS)
    recommend.run(context)
    arms = {user: arm_of(user, context.config.experiment) for user in default}
    by_popularity = sorted(range(N_ITEMS), key=lambda item: (-sum(item in seen for seen in SEEN.values()), item))
    for user, items in lists_of(world).items():
        number = int(user[1:])
        expected = {
            "blend": default[user],
            "model": [f"i{item}" for item in member_list(0, number)][:N],
            "simple": [f"i{item}" for item in by_popularity if item not in SEEN[number]][:N],
        }
        assert items == expected[arms[user]], (user, arms[user])
    rows = world.read("recommendations", RUN).collect()
    assert {(name, row.reason) for row in rows if arms[row.user_id] == "simple" for name in row.members} == {
        ("popularity", "popular")
    }
    assert {name for row in rows if arms[row.user_id] == "model" for name in row.members} == {"als"}
    told = exposure_rows(make_context(ARMS, stage="publish")).collect()
    assert len(told) == len(rows)
    assert {(f"u{row.user_idx}", row.arm) for row in told} == set(arms.items())
    assert {row.propensity for row in told} == {1.0}


def test_drawn_places_are_known_and_do_not_depend_on_partitions(
    world: Lake, default: Lists, make_context: MakeContext, spark: SparkSession
) -> None:
    explore = (ARMS, "explore.slots=2", "explore.temperature=1.0", "explore.min_propensity=0.01")
    recommend.run(make_context(*explore))
    first, places = lists_of(world), world.read("explored_places", RUN).collect()
    experiment = make_context(ARMS).config.experiment
    blended = {user for user in default if arm_of(user, experiment) == "blend"}
    assert {f"u{row.user_idx}" for row in places} == blended, "what an arm is compared with stays as it is"
    assert {row.rank for row in places} == {4, 5}
    assert all(0.01 <= row.propensity < 1 for row in places)
    assert all(first[user][:3] == default[user][:3] and len(set(first[user])) == N for user in blended)
    assert any(first[user] != default[user] for user in blended)
    seen = {(f"u{user}", f"i{item}") for user, items in SEEN.items() for item in items}
    assert not seen & {(user, item) for user, items in first.items() for item in items}
    told = exposure_rows(make_context(*explore, stage="publish"))
    assert {
        (row.user_idx, row.rank, row.item_idx, row.propensity) for row in told.where("propensity < 1").collect()
    } == {(row.user_idx, row.rank, row.item_idx, row.propensity) for row in places}
    parts = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        recommend.run(make_context(*explore))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(parts))
    assert lists_of(world) == first
    assert sorted(world.read("explored_places", RUN).collect()) == sorted(places)


def test_rules_hold_in_every_arm_and_a_broken_list_is_found(
    world: Lake, default: Lists, make_context: MakeContext, tmp_path: Path
) -> None:
    sources = {
        "blocked_items": "item_id,until\ni7,\ni8,2026-11-01\ni9,2026-12-24T18:00:00Z\nunknown,\n",
        "excluded_pairs": "user_id,item_id\n" + "".join(f"{user},{default[user][0]}\n" for user in ("u3", "u5")),
        "boosted_items": "item_id,factor\ni19,1000\ni18,0.001\n",
        "item_categories": "item_id,category\n"
        + "".join(f"i{i},{'even' if i % 2 == 0 else 'odd'}\n" for i in range(20)),
    }
    overrides = [ARMS, "explore.slots=2", "explore.temperature=1.0", "rules.max_per_category=3"]
    for key, text in sources.items():
        (tmp_path / f"{key}.csv").write_text(text)
        overrides.append(f"rules.{key}={tmp_path / key}.csv")
    context = make_context(*overrides)
    recommend.run(context)
    rules, listed = world.read("list_rules", RUN), lists_of(world)
    blocked = {(row.item_idx, row.until) for row in rules.where("rule = 'blocked'").collect()}
    assert blocked == {(7, None), (9, datetime(2026, 12, 24, 18))}, "what has expired is left out"
    everything = {item for items in listed.values() for item in items}
    assert not {"i7", "i9"} & everything
    for user, items in listed.items():
        assert len(items) == N or user not in default or len(default[user]) < N
        assert sum(int(item[1:]) % 2 for item in items) in (2, 3)
    assert default["u3"][0] not in listed["u3"]
    assert default["u5"][0] not in listed["u5"]
    assert all(items[0] == "i19" for user, items in listed.items() if 19 in member_list(0, int(user[1:])))
    effects = {row.rule: row.n_changed for row in world.read("rule_effects", RUN).collect()}
    assert set(effects) == {"blocked", "excluded", "boosted", "category"}
    assert effects["excluded"] in (1, 2)
    assert 0 < effects["blocked"] <= N_USERS
    rows = world.read("recommendations", RUN)
    kept = {"excluded": 0, "blocked": 0, "boosted": 0, "category": 0}
    assert broken_lists(rows, rules, context.config.rules) == kept
    # One row written otherwise: an item that is blocked, of the category of which the list is full.
    odd = next(user for user, items in listed.items() if sum(int(item[1:]) % 2 for item in items) == 3)
    even = next(place for place, item in enumerate(listed[odd], 1) if int(item[1:]) % 2 == 0)
    mark = f"CASE WHEN user_id = '{odd}' AND rank = {even} THEN 7 ELSE item_idx END"
    broken = rows.selectExpr(*(f"{mark} AS item_idx" if name == "item_idx" else name for name in rows.columns))
    assert broken_lists(broken, rules, context.config.rules) == {**kept, "blocked": 1, "category": 1}


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("blocked_items", "item_id,until\ni1,soon\n", r"rules.blocked_items: expected in column until.*'soon'"),
        (
            "boosted_items",
            "item_id,factor\ni1,-2\n",
            r"rules.boosted_items .*factor above 0 for each item, found 1 items",
        ),
        ("boosted_items", "item_id,factor\ni1,2\ni1,3\n", r"found 1 items with another"),
        ("boosted_items", "item_id,weight\ni1,2\n", r"rules.boosted_items: .*expected columns item_id, factor"),
        ("excluded_pairs", "user_id,item_id\nsomebody,i1\n", r"rules.excluded_pairs .*found 1 ids and none of them"),
    ],
)
def test_a_source_that_says_no_rule_is_one_clear_error(
    world: Lake, make_context: MakeContext, tmp_path: Path, key: str, text: str, words: str
) -> None:
    (tmp_path / "rules.csv").write_text(text)
    with pytest.raises(InputError, match=words) as error:
        rule_rows(make_context(f"rules.{key}={tmp_path / 'rules.csv'}"))
    assert "somebody" not in str(error.value)


def test_what_was_shown_in_vain(spark: SparkSession) -> None:
    exposures = [("a", 1, 10), ("b", 1, 10), ("a", 1, 11), ("a", 2, 10), ("b", 2, 10), ("b", 2, 12), ("b", 2, 12)]
    exposures += [("a", 3, 10), ("b", 3, 10)]
    feedback = [(2, 10, "click"), (3, 10, "impression"), (3, 11, "impression"), (3, 11, "impression"), (1, 10, "hide")]
    shown = shown_in_vain(
        spark.createDataFrame(exposures, "run_id string, user_idx int, item_idx int"),
        spark.createDataFrame(feedback, "user_idx int, item_idx int, kind string"),
        2,
    )
    # User 1 was listed 10 twice; 2 clicked it, and 12 stood twice in one run; of 3 impressions count alone.
    assert {tuple(row) for row in shown.collect()} == {(1, 10), (3, 11)}
