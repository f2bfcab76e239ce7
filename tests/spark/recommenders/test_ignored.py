"""What was shown and ignored counts against what is alike where validation says so, and else not at all."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.frames import ignored
from ganrec_spark.lake.store import Lake

RUN = "2026-11-01"
ALS = (
    "als.embedding_size=[8]", "als.regularisation=[0.1]", "als.alpha=[5.0]", "als.iterations=5", "recommend.n=5",
)  # fmt: skip
Rows = list[tuple[int, int, float]]


def world(lake: Lake, shown_other: bool | None) -> Rows:
    """Write the tables of phase choose; return (user, item, 1.0) of what was ignored.

    Items 0 to 9 and 10 to 19 are two tastes, 20 to 29 are liked by all. Users below 60 show their taste. The others
    liked a common item alone, and five items were shown to each of them three times: of the other taste, or
    (`shown_other` False: nobody looks at lists) of the own. Held out is an item of the own taste.
    """
    rng = np.random.default_rng(6)
    likes: Rows = []
    shown: Rows = []
    held_out: Rows = []
    for user in range(200):
        own, other = (10 * ((user + side) % 2) + rng.permutation(10) for side in (0, 1))
        likes += [(user, int(item), 1.0) for item in [20 + rng.integers(10), *(own[:7] if user < 60 else [])]]
        listed = {True: other[:5], False: own[:5], None: []}[shown_other] if user >= 60 else []
        shown += [(user, int(item), 1.0) for item in listed]
        held_out.append((user, int(own[9]), 1.0))

    def rated(rows: Rows) -> DataFrame:
        frame = lake.spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
        return frame.selectExpr("*", "timestamp_seconds(0) AS ts")

    train = rated(likes)
    lake.replace("train_ratings", train, RUN)
    lake.replace("validation_ratings", rated(held_out), RUN)
    counted = rated(shown).selectExpr("user_idx", "item_idx", "3L AS times", "'train' AS part")
    lake.replace("known_ignored", counted, RUN)
    for phase in ("choose", "final"):
        lake.replace("merged_ratings", train.selectExpr("*", "true AS observed", "'none' AS fill"), RUN, phase)
    counts = "1 AS n_ratings, 0D AS density, 0D AS days_since_last, 0D AS percentile, '' AS bucket, false AS is_sparse"
    lake.replace("user_sparsity", train.selectExpr("user_idx", *counts.split(", ")).distinct(), RUN)
    return shown


def lists(lake: Lake, phase: str = "choose") -> dict[int, list[int]]:
    return {row.user_idx: list(row["items"]) for row in lake.read("als_candidates", RUN, phase).collect()}


def chosen(lake: Lake) -> dict[str, float]:
    (row,) = lake.read("als_choices", RUN, "choose").where("chosen").collect()
    return json.loads(row.parameters)


Alone = Callable[..., list[str]]
MakeConfig = Callable[..., Config]


def test_who_ignores_one_taste_is_listed_less_of_it_and_validation_sees_that(
    lake: Lake, make_config: MakeConfig, run_alone: Alone
) -> None:
    shown = world(lake, shown_other=True)
    found = {}
    for weights in ("[0.0]", "[0.0,0.3]"):
        run_alone(make_config(*ALS, f"als.ignored_weight={weights}"), "als_setting", "als_choose")
        listed = lists(lake)
        other = [item // 10 == (user + 1) % 2 for user in range(60, 200) for item in listed[user][:8]]
        places = [listed[user].index(item) for user, item, _ in shown if item in listed[user]]
        found[weights] = float(np.mean(other)), float(np.mean(places))
    assert chosen(lake)["ignored_weight"] == 0.3
    assert found["[0.0,0.3]"][0] < 0.6 * found["[0.0]"][0], found
    assert found["[0.0,0.3]"][1] > found["[0.0]"][1] + 1, found
    # The same rows give phase final the fit that als_setting made.
    run_alone(make_config(*ALS, "als.ignored_weight=[0.0,0.3]"), "als_final")
    assert lists(lake, "final") == lists(lake)


@pytest.mark.parametrize("shown_other", [False, None])
def test_where_nobody_looks_or_nothing_was_shown_nothing_counts(
    lake: Lake, make_config: MakeConfig, run_alone: Alone, shown_other: bool | None
) -> None:
    world(lake, shown_other)
    found = []
    for weights in ("[0.0]", "[0.0,0.3]"):
        run_alone(make_config(*ALS, f"als.ignored_weight={weights}"), "als_setting", "als_choose")
        assert "ignored_weight" not in chosen(lake)
        found.append(lists(lake))
    assert found[0] == found[1]
    assert lake.read("als_choices", RUN, "choose").count() == (1 if shown_other is None else 2)


def test_a_phase_knows_what_is_not_rated_of_users_and_items_with_vectors(spark: SparkSession) -> None:
    rows = [(0, 0, 4.0), (0, 1, 2.0), (1, 1, 0.0), (2, 1, 1.0)]
    observed = spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
    parts = [(0, 0, 9, "train"), (2, 0, 2, "train"), (2, 0, 1, "validation"), (2, 7, 1, "train"), (1, 0, 1, "train")]
    known = spark.createDataFrame(parts, "user_idx int, item_idx int, times long, part string")

    def times(phase: str) -> list[tuple[int, ...]]:
        found = ignored.of_phase(known, observed, phase)
        assert found is not None
        return [tuple(row) for row in found.collect()]

    # Item 0 is rated by user 0; item 7 has no rating, user 1 one of 0, which says nothing.
    assert (times("choose"), times("final")) == ([(2, 0, 2)], [(2, 0, 3)])
    assert ignored.of_phase(known.where("part = 'validation'"), observed, "choose") is None
