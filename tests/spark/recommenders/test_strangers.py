"""People of whom attributes are known and no rating: what people with the same attributes rate, where that helps."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ganrec_spark.attributes.features import features_of
from ganrec_spark.config.sections import Config
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake

RUN = "2026-11-01"
STAGES = ("popularity_choose", "strangers_choose", "popularity_final", "strangers_final")
RunAlone = Callable[..., list[str]]
# Users 0 to 59 have a group; of group a, the even ones, each rates seven of items 0 to 9, of group b of 10 to 19; all
# rate item 20. Nobody rated anything among 100 to 103.
GROUPS = {user: "ab"[user % 2] for user in range(60)}
STRANGERS = {100: "a", 101: "b", 102: "seen once"}


def ratings(rng: np.random.Generator, groups: dict[int, str]) -> tuple[list[tuple], list[tuple]]:
    """Return observed and held-out pairs: of each user one more item of the group is held out."""
    observed, held_out = [], []
    for user, group in groups.items():
        first, *rest = rng.permutation(10) + 10 * (group == "b")
        held_out.append((user, int(first)))
        observed += [(user, int(item)) for item in (*rest[:7], 20)]
    return observed, held_out


@pytest.fixture
def write(lake: Lake) -> Callable[..., None]:
    """Return a function that writes what stages popularity and strangers read."""

    def put(observed: list[tuple], held_out: list[tuple], attributes: list[tuple], *columns: tuple) -> None:
        def pairs(rows: list[tuple], more: str = "") -> Any:
            frame = lake.spark.createDataFrame(rows, "user_idx int, item_idx int")
            return frame.selectExpr("*", "1D AS rating", "timestamp_seconds(0) AS ts", *filter(None, more.split(";")))

        for phase in ("choose", "final"):
            lake.replace("merged_ratings", pairs(observed, "true AS observed;'none' AS fill"), RUN, phase)
        lake.replace("validation_ratings", pairs(held_out), RUN)
        values = "user_idx int, name string, value string, number double"
        lake.replace("user_attributes", lake.spark.createDataFrame(attributes, values), RUN)
        known = [(role, name, kind, "", sensitive, 1, 0) for role, name, kind, sensitive in columns]
        schema = (
            "role string, name string, kind string, guessed_by string, sensitive boolean, n_given long, n_unusable long"
        )
        lake.replace("attribute_columns", lake.spark.createDataFrame(known, schema), RUN)

    return put


def lists(lake: Lake, phase: str) -> dict[int, list[int]]:
    return {row.user_idx: list(row["items"]) for row in lake.read("strangers_candidates", RUN, phase).collect()}


def chosen(lake: Lake) -> float | None:
    (row,) = lake.read("strangers_choices", RUN, "choose").where("chosen").collect()
    return json.loads(row.parameters)["shrinkage"]


def of_groups(groups: dict[int, str]) -> list[tuple]:
    return [(user, "group", group, None) for user, group in groups.items()]


def test_a_stranger_gets_what_the_own_group_rates(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    write(
        *ratings(np.random.default_rng(0), GROUPS), of_groups(GROUPS | STRANGERS), ("user", "group", "category", False)
    )
    told = run_alone(make_config("strangers.shrinkage=[1, 1000]"), *STAGES)
    assert chosen(lake) == 1
    # Strangers have nothing to judge their lists by.
    assert lists(lake, "choose") == {}
    found = lists(lake, "final")
    # 102 is alone with what is known of it, and of 103 nothing is.
    assert found.keys() == {100, 101}
    assert [found[user][0] for user in (100, 101)] == [20, 20]
    assert [{*found[user][1:11]} for user in (100, 101)] == [{*range(10)}, {*range(10, 20)}]
    assert told[3] == "2 lists for people without a rating; 2 features: shrinkage 1"
    rows = {
        json.loads(row.parameters)["shrinkage"]: row.ndcg
        for row in lake.read("strangers_choices", RUN, "choose").collect()
    }
    assert rows.keys() == {None, 1, 1000}
    assert rows[1] > rows[None]


def test_attributes_that_say_nothing_or_must_not_be_used_are_not(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    rng = np.random.default_rng(1)
    shuffled = dict(zip(GROUPS, map(str, rng.permutation(list(GROUPS.values()))), strict=True))
    config = make_config("strangers.shrinkage=[1, 1000]")
    write(*ratings(rng, GROUPS), of_groups({**shuffled, **STRANGERS}), ("user", "group", "category", False))
    told = run_alone(config, *STAGES)
    assert told[1] == "0 lists for people without a rating; 2 features: they help by no more than chance"
    assert (chosen(lake), lists(lake, "choose"), lists(lake, "final")) == (None, {}, {})
    write(*ratings(rng, GROUPS), of_groups(GROUPS | STRANGERS), ("user", "group", "category", True))
    told = run_alone(config, *STAGES)
    assert told[1] == "no attributes of users that may be used"
    assert (chosen(lake), lists(lake, "final")) == (None, {})


def test_nobody_to_judge_by(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    observed, _ = ratings(np.random.default_rng(2), GROUPS)
    write(observed, [], of_groups(GROUPS | STRANGERS), ("user", "group", "category", False))
    run_alone(make_config(), *STAGES)
    assert (chosen(lake), lists(lake, "final")) == (None, {})


def test_features_by_hand(lake: Lake, write: Callable[..., None]) -> None:
    """Two tags of one row count by their rarity, a text by its words, a number by its tenth; one row's own do not."""
    rows = [
        *((user, "tags", tag, None) for user, tags in {0: "xy", 1: "x", 2: "y", 3: "xz"}.items() for tag in tags),
        *((user, "about", text, None) for user, text in {0: "Red, red fox", 1: "a RED hat"}.items()),
        *((user, "age", None, float(age)) for user, age in {0: 1, 1: 2, 2: 2, 3: 40}.items()),
        (0, "secret", "s", None),
        (1, "secret", "s", None),
    ]
    kinds = {"tags": "values", "about": "text", "age": "number"}
    columns = [*(("user", name, kind, False) for name, kind in kinds.items()), ("user", "secret", "category", True)]
    write([(0, 0)], [], rows, *columns)
    reads = ("user_attributes", "attribute_columns")
    found = features_of(StageLake(lake, RUN, "strangers_choose", "choose", reads, ()), "user", 100)
    names = {name: place for place, name in enumerate(found.names)}
    assert names.keys() == {("tags", "x"), ("tags", "y"), ("about", "red"), ("age", "from 2.0")}
    own = {row.idx: dict(zip(row.places, row.weights, strict=True)) for row in found.rows.collect()}
    # Of four rows three have x and two y.
    rarity = np.log([4 / 3, 4 / 2])
    assert own[0] == pytest.approx(
        {
            names["tags", "x"]: rarity[0] / np.linalg.norm(rarity),
            names["tags", "y"]: rarity[1] / np.linalg.norm(rarity),
            names["about", "red"]: 1.0,
        }
    )
    assert own[2] == pytest.approx({names["tags", "y"]: 1.0, names["age", "from 2.0"]: 1.0})
    # z is nobody else's, and 40 is among the upper tenths, whose lower end is its own.
    assert own[3] == pytest.approx({names["tags", "x"]: 1.0})
    limited = features_of(StageLake(lake, RUN, "strangers_choose", "choose", reads, ()), "user", 1)
    assert limited.names == [("tags", "x")]
