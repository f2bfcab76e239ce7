"""How a rating becomes a confidence, and how a fit is judged: values worked by hand."""

import math
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.recommenders.als.factors import AlsFactors
from ganrec_spark.recommenders.als.search import AlsJudges
from ganrec_spark.recommenders.als.setting import AlsSetting, latest_time, weighted

NOW = datetime(2026, 11, 1)
ROWS = [
    (0, 1, 4.0, NOW),
    (1, 1, 4.0, NOW - timedelta(days=30)),
    (2, 1, -4.0, NOW - timedelta(days=60)),
    (3, 1, 4.0, None),
    (4, 1, 4.0, NOW - timedelta(days=30_000)),
    (5, 1, -4.0, NOW + timedelta(days=30)),  # a dislike: the newest rating is older
]


@pytest.mark.parametrize(
    ("scale", "half_life", "expected"),
    [
        ("raw", None, [4, 4, -4, 4, 4, -4]),
        ("log", None, [math.log(5), math.log(5), -math.log(5), math.log(5), math.log(5), -math.log(5)]),
        ("raw", 30.0, [4, 2, -1, 4, 4e-6, -4]),
        (
            "log",
            60.0,
            [math.log(5), math.log(5) / math.sqrt(2), -math.log(5) / 2, math.log(5), math.log(5) * 1e-6, -math.log(5)],
        ),
    ],
)
def test_ratings_are_scaled_and_decayed(
    spark: SparkSession, scale: str, half_life: float | None, expected: list[float]
) -> None:
    ratings = spark.createDataFrame(ROWS, "user_idx int, item_idx int, rating double, ts timestamp")
    latest = latest_time(ratings.where("rating > 0"))
    rows = weighted(ratings, AlsSetting(8, 0.1, 1.0, scale, half_life), latest).orderBy("user_idx").collect()
    assert [row.rating for row in rows] == pytest.approx(expected)
    assert AlsSetting.parsed(AlsSetting(8, 0.1, 1.0, scale, half_life).text()) == AlsSetting(
        8, 0.1, 1.0, scale, half_life
    )


@pytest.mark.parametrize("here", [False, True])
def test_judged_users_without_a_vector_are_listed_nothing(spark: SparkSession, here: bool) -> None:
    """User 2 has item 0 and is listed item 1, which is held out; user 1 has no vector and counts 0."""
    judge = object.__new__(AlsJudges)
    rows = {"user_idx": pa.array([1, 2], pa.int32()), "items": [[1], [0]], "relevant": [[0], [1]]}
    lists = {name: pa.array(rows[name], pa.list_(pa.int32())) for name in ("items", "relevant")}
    judge._judged = pa.table(rows | lists)
    judge._ids = spark.createDataFrame([(1,), (2,)], "user_idx int")
    vectors = spark.createDataFrame([(7, [0.0, 1.0]), (2, [1.0, 0.0])], "user_idx int, factors array<float>")
    items = np.array([[1.0, 0.0], [0.5, 0.0]], np.float32)
    for own, expected in ((vectors, [0, 1]), (vectors.where("user_idx = 7"), [0, 0])):
        given = own.toArrow() if here else own
        assert judge.ndcg(AlsFactors(given, np.array([0, 1], np.int32), items)).tolist() == expected
