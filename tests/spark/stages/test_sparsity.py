"""How sparse users and the matrix are, against values worked by hand and NumPy."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Sparsity
from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.groups import with_groups
from ganrec_spark.evaluation.segments import user_segments, with_segments
from ganrec_spark.evaluation.sparsity import bucket_label, decide, rated_items, user_sparsity

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = "user_idx int, item_idx int, rating double, ts timestamp"


def test_users_by_hand(spark: SparkSession):
    # Users 0 to 3 have 1, 2, 2 and 4 ratings; the last of all is on day 10.
    rows = [(0, 0, 0), (1, 0, 1), (1, 2, 4), (2, 0, 10), (2, 1, 2), *[(3, item, item) for item in (0, 1, 2, 5)]]
    train = spark.createDataFrame([(u, i, 1.0, START + timedelta(days=day)) for u, i, day in rows], SCHEMA)
    n_items = rated_items(train).n_items
    assert n_items == 4
    settings = Sparsity(max_ratings=2, bucket_edges=(1, 3))
    found = {row.user_idx: row for row in user_sparsity(train, settings, n_items).collect()}
    assert {user: row.n_ratings for user, row in found.items()} == {0: 1, 1: 2, 2: 2, 3: 4}
    assert {user: row.percentile for user, row in found.items()} == {0: 0.25, 1: 0.75, 2: 0.75, 3: 1.0}
    assert {user: row.density for user, row in found.items()} == {0: 0.25, 1: 0.5, 2: 0.5, 3: 1.0}
    assert {user: row.days_since_last for user, row in found.items()} == {0: 10.0, 1: 6.0, 2: 0.0, 3: 5.0}
    assert {user: row.bucket for user, row in found.items()} == {0: "1-1", 1: "2-3", 2: "2-3", 3: "4+"}
    assert {user: row.is_sparse for user, row in found.items()} == {0: True, 1: True, 2: True, 3: False}


def test_gini_agrees_with_its_definition(spark: SparkSession):
    counts = np.random.default_rng(3).zipf(1.6, 60).clip(max=90)
    pairs = [(user, item, 1.0, START) for item, count in enumerate(counts) for user in range(count)]
    # Half the mean absolute difference of all pairs of items, relative to the mean.
    expected = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
    assert rated_items(spark.createDataFrame(pairs, SCHEMA)).gini == pytest.approx(expected, abs=1e-12)


def test_bucket_labels(spark: SparkSession):
    n = spark.range(1, 53).select(bucket_label(F.col("id"), (5, 10, 20, 50)).alias("label"))
    labels = [row.label for row in n.collect()]
    expected = {
        1: "1-5",
        5: "1-5",
        6: "6-10",
        10: "6-10",
        11: "11-20",
        20: "11-20",
        21: "21-50",
        50: "21-50",
        51: "51+",
    }
    assert {number: labels[number - 1] for number in expected} == expected


@pytest.mark.parametrize(
    ("n_users", "n_sparse", "n_items", "wanted", "reason"),
    [
        (100, 0, 50, False, "0 of 100 users"),
        (100, 9, 50, False, "fewer than sparsity.min_sparse_users = 10"),
        (100, 10, 50, True, "10 of 100 users have at most 10 ratings"),
        (100, 100, 50, True, "no dense users, generators learn from all"),
        (100, 100, 1, False, "only 1 item"),
    ],
)
def test_decision(n_users: int, n_sparse: int, n_items: int, wanted: bool, reason: str):
    found = decide(n_users, n_sparse, n_items, Sparsity())
    assert found[0] is wanted
    assert reason in found[1]


def test_users_count_in_all_and_in_what_the_table_says_or_are_cold(spark: SparkSession):
    rows = [(0, "1-5", True), (1, "6-10", False)]
    table = user_segments(spark.createDataFrame(rows, "user_idx int, bucket string, is_sparse boolean"))
    assert {tuple(row) for row in table.collect()} == {
        (0, "sparse"),
        (0, "bucket:1-5"),
        (1, "dense"),
        (1, "bucket:6-10"),
    }
    wider = table.unionByName(spark.createDataFrame([(1, "age:30-39")], table.schema))
    found = {
        row.user_idx: row.segments
        for row in with_segments(spark.range(3).selectExpr("int(id) user_idx"), wider).collect()
    }
    assert found == {
        0: ["all", "bucket:1-5", "sparse"],
        1: ["all", "age:30-39", "bucket:6-10", "dense"],
        2: ["all", "cold"],
    }


def test_groups_by_an_attribute_are_segments_and_cold_users_stay_cold(spark: SparkSession):
    known = spark.createDataFrame([(0, "sparse"), (1, "dense"), (2, "dense")], "user_idx int, segment string")
    values = [
        (0, "gender", "F", None),
        (1, "gender", "M", None),
        (9, "gender", "F", None),
        (0, "tags", "a", None),
        (0, "tags", "b", None),
        (1, "age", None, 30.0),
        *((100 + value, "city", f"c{value % 25:02}", None) for value in range(45)),
    ]
    attributes = spark.createDataFrame(values, "user_idx int, name string, value string, number double")
    rows = {tuple(row) for row in with_groups(known, attributes, ("gender", "tags")).collect()}
    assert rows - {tuple(row) for row in known.collect()} == {
        (0, "gender:F"),
        (1, "gender:M"),
        (9, "gender:F"),
        (9, "cold"),
        (0, "tags:a"),
        (0, "tags:b"),
    }
    cities = {row.segment for row in with_groups(known, attributes, ("city",)).collect()} - {"cold", "sparse", "dense"}
    assert cities == {f"city:c{value:02}" for value in range(20)}, "those that most users have, in order"
    with pytest.raises(InputError, match=r"sparsity\.group_by: .*found none of the name 'age', 'salary'"):
        with_groups(known, attributes, ("salary", "gender", "age"))


def test_the_stage_reads_groups_where_they_are_asked_for(make_config, run_stages, lake, tmp_path):
    users, ratings = tmp_path / "users.csv", tmp_path / "ratings.csv"
    users.write_text("user_id,plan\nu1,free\nu2,paid\nu3,free\n")
    rows = [f"u{user},i{item},3,{user + item}\n" for user in (1, 2) for item in range(4)]
    ratings.write_text("user_id,item_id,rating,timestamp\n" + "".join(rows))
    config = make_config(f"ingest.source={ratings}", f"ingest.users_source={users}", "sparsity.group_by=plan")
    run_stages(config, "ingest", "attributes", "split", "sparsity")
    found = lake.read("user_segments", "2026-11-01").where("segment LIKE 'plan:%' OR segment = 'cold'").collect()
    names = {row.user_idx: row.user_id for row in lake.read_all("users").collect()}
    expected = {("u1", "plan:free"), ("u2", "plan:paid"), ("u3", "plan:free"), ("u3", "cold")}
    assert {(names[row.user_idx], row.segment) for row in found} == expected
