"""Every split protocol against parts worked by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from global_time import by_global_time
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Split
from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.split import PROTOCOLS, dislike_parts, ignored_parts
from ganrec_spark.frames.padded import padded_histories

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = "user_idx int, item_idx int, rating double, ts timestamp, origin string"


def ratings(spark: SparkSession, rows: list[tuple], origin: str = "source") -> DataFrame:
    """Rows are (user, item, hour)."""
    values = [(user, item, 3.0, START + timedelta(hours=hour), origin) for user, item, hour in rows]
    return spark.createDataFrame(values, SCHEMA)


def parts(frame: DataFrame, protocol: str, seed: int = 1, **settings: float) -> dict[str, set[tuple[int, int]]]:
    found: dict[str, set[tuple[int, int]]] = {"train": set(), "validation": set(), "test": set()}
    rows = PROTOCOLS[protocol](frame, Split.model_validate(settings), seed).collect()
    for row in rows:
        found[row.part].add((row.user_idx, row.item_idx))
    assert sum(map(len, found.values())) == len(rows), "a pair twice"
    return found


# User 0 in order of time 5, 3, 9, 1, user 1 7, 4, 8; user 2 is below min_ratings.
HISTORY = [(0, 1, 40), (0, 9, 30), (0, 3, 20), (0, 5, 10), (1, 7, 5), (1, 4, 8), (1, 8, 9), (2, 1, 1), (2, 2, 2)]


def test_leave_last_out_takes_the_last_for_test_and_the_second_last_for_validation(spark: SparkSession):
    frame = ratings(spark, HISTORY)
    expected = {
        "test": {(0, 1), (1, 8)},
        "validation": {(0, 9), (1, 4)},
        "train": {(0, 3), (0, 5), (1, 7), (2, 1), (2, 2)},
    }
    assert parts(frame, "leave_last_out") == expected
    assert parts(frame.repartition(5), "leave_last_out") == expected


def test_ties_have_no_order_that_an_item_index_tells_and_sequences_share_the_splits(spark: SparkSession):
    rng = np.random.default_rng(0)
    rows = [(user, int(item), 0) for user in range(600) for item in rng.choice(300, 8, replace=False)]
    frame = ratings(spark, rows)
    found = parts(frame, "leave_last_out")
    test, validation = dict(found["test"]), dict(found["validation"])
    largest = {user: max(item for owner, item, _ in rows if owner == user) for user in test}
    # By descending index the largest of the eight was always the test item; now it is one time in eight.
    assert 0.07 < np.mean([test[user] == largest[user] for user in test]) < 0.18
    for row in padded_histories(frame, 8, seed=1).collect():
        assert row["items"][-2:] == [validation[row.user_idx], test[row.user_idx]]
    assert parts(frame, "leave_last_out", seed=2)["test"] != found["test"]


def test_none_takes_the_last_for_validation_and_nothing_for_test(spark: SparkSession):
    found = parts(ratings(spark, HISTORY), "none", min_ratings=4)
    assert found["validation"] == {(0, 1)}
    assert found["test"] == set()
    assert len(found["train"]) == 8


def test_temporal_cuts_all_users_at_the_same_time(spark: SparkSession):
    # Twenty ratings, ten days; the shares 0.2 and 0.1 are the last four and the two before.
    rows = [(number % 3, number, number * 12) for number in range(20)]
    found = parts(ratings(spark, rows), "temporal")
    assert {item for _, item in found["test"]} == {16, 17, 18, 19}
    assert {item for _, item in found["validation"]} == {14, 15}
    # Ratings of one second stay together: five at the end do not fit into a share of four.
    tied = [(number % 3, number, min(number, 15) * 12) for number in range(20)]
    with pytest.raises(InputError, match="too many of one second"):
        parts(ratings(spark, tied), "temporal")
    assert {item for _, item in parts(ratings(spark, tied), "temporal", test_share=0.25)["test"]} == set(range(15, 20))


def test_temporal_cuts_inside_a_day(spark: SparkSession):
    found = parts(ratings(spark, [(0, number, number) for number in range(20)]), "temporal")
    assert {item for _, item in found["test"]} == {16, 17, 18, 19}
    assert {item for _, item in found["validation"]} == {14, 15}


def test_temporal_cuts_where_the_benchmark_by_global_time_says(spark: SparkSession):
    """A share that is a number of ratings and a half takes exactly so many, whatever its last binary digit."""
    for n in (20, 23, 27):
        rows = [(number % 3, number, number * 7) for number in range(n)]
        table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        kept, settings = by_global_time(table, 0.7)
        shares = {key.removeprefix("split."): float(value) for key, value in (one.split("=") for one in settings[1:])}
        found = parts(ratings(spark, list(kept.itertuples(index=False, name=None))), "temporal", **shares)
        cut = table["timestamp"].quantile(0.7)
        before = table[table["timestamp"] <= cut]
        chosen_after = before["timestamp"].quantile(0.7)
        assert {item for _, item in found["train"]} == set(before.loc[before["timestamp"] <= chosen_after, "item_id"])
        assert {item for _, item in found["validation"]} == set(
            before.loc[before["timestamp"] > chosen_after, "item_id"]
        )
        assert {item for _, item in found["test"]} == set(table.loc[table["timestamp"] > cut, "item_id"][:3])


def test_ratio_draws_rounded_shares_of_each_user(spark: SparkSession):
    rows = [(user, item, item) for user, count in {0: 20, 1: 5, 2: 3, 3: 2}.items() for item in range(count)]
    frame = ratings(spark, rows)
    found = parts(frame, "ratio")
    sizes = {
        user: tuple(sum(u == user for u, _ in found[part]) for part in ("train", "validation", "test"))
        for user in range(4)
    }
    assert sizes == {0: (14, 2, 4), 1: (3, 1, 1), 2: (2, 0, 1), 3: (2, 0, 0)}
    assert parts(frame.repartition(7), "ratio") == found
    assert parts(frame, "ratio", seed=2) != found
    greedy = parts(frame, "ratio", test_share=0.9, validation_share=0.09)
    assert {user for user, _ in greedy["train"]} == {0, 1, 2, 3}


def test_given_takes_the_delivered_test_less_what_is_in_train(spark: SparkSession):
    own = [(0, item, item) for item in range(10)] + [(1, 0, 0), (1, 1, 1)]
    frame = ratings(spark, own).unionByName(ratings(spark, [(0, 3, 50), (0, 20, 50), (5, 1, 50)], "test_source"))
    found = parts(frame, "given")
    assert found["test"] == {(0, 20), (5, 1)}
    assert len(found["validation"]) == 1
    assert {user for user, _ in found["validation"]} == {0}
    assert found["train"] | found["validation"] == {(user, item) for user, item, _ in own}


@pytest.mark.parametrize(("protocol", "place"), [("cold_users", 0), ("cold_items", 1)])
def test_whole_users_or_items_are_hidden_and_all_that_is_known_of_them(
    spark: SparkSession, protocol: str, place: int
) -> None:
    pairs = [(user, item, user + item) for user in range(50) for item in range(50) if (user + item) % 3]
    frame = ratings(spark, pairs)
    found = parts(frame, protocol)
    hidden = {name: {pair[place] for pair in rows} for name, rows in found.items()}
    assert {name: len(hidden[name]) for name in hidden} == {"train": 35, "validation": 5, "test": 10}
    assert len(set().union(*hidden.values())) == 50, "one is in two parts"
    assert parts(frame.repartition(7), protocol) == found
    assert parts(frame, protocol, seed=2) != found
    missing = [(user, item, 0) for user in range(51) for item in range(51) if not (user + item) % 3]
    kept = parts_of_dislikes(frame, ratings(spark, missing), protocol)
    of = {key: name for name, keys in hidden.items() for key in keys}
    assert kept == {(user, item): of.get((user, item)[place], "train") for user, item, _ in missing}
    shown = times_by_part(frame, ratings(spark, missing), protocol)
    assert shown == {(*pair, part): 1 for pair, part in kept.items()}


def parts_of_dislikes(likes: DataFrame, disliked: DataFrame, protocol: str, **settings: float) -> dict[tuple, str]:
    split = Split.model_validate({"protocol": protocol, **settings})
    rows = dislike_parts(disliked, PROTOCOLS[protocol](likes, split, 1), split, 1).collect()
    found = {(row.user_idx, row.item_idx): row.part for row in rows}
    assert len(found) == len(rows), "a pair twice"
    return found


def test_a_dislike_is_known_to_a_phase_that_comes_after_it(spark: SparkSession):
    """User 0's validation is of hour 30 and test of hour 40, user 1's of 8 and 9; user 2 has nothing held out."""
    disliked = ratings(spark, [(0, 6, 29), (0, 7, 31), (0, 8, 41), (1, 1, 6), (1, 2, 30), (2, 7, 99), (3, 7, 99)])
    elsewhere = ratings(spark, [(0, 20, 1)], "test_source")
    expected = {(0, 6): "train", (0, 7): "validation", (0, 8): "test", (1, 1): "train", (1, 2): "test"}
    expected |= {(2, 7): "train", (3, 7): "train"}
    likes = ratings(spark, HISTORY)
    assert parts_of_dislikes(likes, disliked.unionByName(elsewhere), "leave_last_out") == expected
    in_production = parts_of_dislikes(likes, disliked, "none")
    # Validation is of hour 40 and 9: what is later is known in phase final.
    assert in_production == expected | {(0, 7): "train", (0, 8): "validation", (1, 2): "validation"}


def test_a_dislike_of_the_held_out_second_comes_before_it_by_chance(spark: SparkSession):
    likes = ratings(spark, [(user, item, 0) for user in range(300) for item in range(3)])
    found = parts_of_dislikes(likes, ratings(spark, [(user, 9, 0) for user in range(300)]), "leave_last_out")
    shares = [sum(part == name for part in found.values()) / 300 for name in ("train", "validation", "test")]
    # Of four in random order: before the second last of the three, between them, behind the last.
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


def test_temporal_knows_dislikes_up_to_the_cut(spark: SparkSession):
    likes = ratings(spark, [(number % 3, number, number * 12) for number in range(20)])
    disliked = ratings(
        spark, [(0, 30, 13 * 12), (1, 30, 14 * 12), (2, 30, 15 * 12 + 1), (0, 31, 16 * 12), (7, 31, 999)]
    )
    expected = {(0, 30): "train", (1, 30): "validation", (2, 30): "validation", (0, 31): "test", (7, 31): "test"}
    assert parts_of_dislikes(likes, disliked, "temporal") == expected


def test_without_an_order_dislikes_are_drawn_like_ratings_and_none_is_held_out(spark: SparkSession):
    likes = ratings(spark, [(0, item, item) for item in range(10)])
    disliked = ratings(spark, [(0, 100 + item, item) for item in range(20)])
    found = parts_of_dislikes(likes, disliked, "ratio")
    assert [list(found.values()).count(name) for name in ("train", "validation", "test")] == [14, 2, 4]
    delivered = likes.unionByName(ratings(spark, [(0, 103, 50), (0, 200, 50)], "test_source"))
    found = parts_of_dislikes(delivered, disliked, "given")
    assert (0, 103) not in found, "the test source says that it is liked"
    assert [list(found.values()).count(name) for name in ("validation", "test")] in ([2, 0], [1, 0])


def times_by_part(likes: DataFrame, shown: DataFrame, protocol: str, **settings: float) -> dict[tuple, int]:
    split = Split.model_validate({"protocol": protocol, **settings})
    impressions = shown.select("user_idx", "item_idx", "ts")
    rows = ignored_parts(impressions, PROTOCOLS[protocol](likes, split, 1), split, 1).collect()
    return {(row.user_idx, row.item_idx, row.part): row.times for row in rows}


def test_what_was_shown_is_known_a_day_later(spark: SparkSession):
    """User 0's validation is of hour 30 and test of hour 40, of items 9 and 1; user 2 has nothing held out."""
    hours = [(0, 6, 1), (0, 6, 2), (0, 6, 5), (0, 6, 7), (0, 6, 15), (0, 6, 17), (0, 9, 3), (0, 1, 4), (2, 7, 99)]
    shown = ratings(spark, hours)
    expected = {(0, 6, "train"): 3, (0, 6, "validation"): 2, (0, 6, "test"): 1}
    # That a pair is held out changes nothing: nobody could know it when it was shown.
    expected |= {(0, 9, "train"): 1, (0, 1, "train"): 1, (2, 7, "train"): 1}
    assert times_by_part(ratings(spark, HISTORY), shown, "leave_last_out") == expected
    likes = ratings(spark, [(number % 3, number, number * 12) for number in range(20)])
    late = ratings(spark, [(0, 30, 14 * 12 - 25), (0, 30, 14 * 12 - 24), (7, 31, 0), (7, 31, 999)])
    cut = {(0, 30, "train"): 1, (0, 30, "validation"): 1, (7, 31, "train"): 1, (7, 31, "test"): 1}
    assert times_by_part(likes, late, "temporal") == cut
    assert times_by_part(likes, late, "ratio") == {}


def test_the_stage_counts_every_rating(make_config, run_stages, lake, tmp_path):
    header = "user_id,item_id,rating,timestamp\n"
    (tmp_path / "train.csv").write_text(header + "".join(f"u,i{n},3,{n}\n" for n in range(10)))
    (tmp_path / "test.csv").write_text(header + "u,i3,3,50\nu,i99,3,50\n")
    sources = (f"ingest.source={tmp_path / 'train.csv'}", f"ingest.test_source={tmp_path / 'test.csv'}")
    _, given = run_stages(make_config(*sources, "split.protocol=given"), "ingest", "split")
    assert given.message == "given: 9 train, 1 validation, 1 test; 1 test ratings dropped, also in the source"
    (last,) = run_stages(make_config(*sources), "split")
    assert last.message.startswith("leave_last_out: 8 train, 1 validation, 1 test; 2 test ratings dropped, from")
    assert lake.read("train_ratings", "2026-11-01").count() == 8
