"""How a rating becomes a confidence: values worked by hand."""

import math
from datetime import datetime, timedelta

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.distributed.als_setting import Setting, latest_time, weighted

NOW = datetime(2026, 11, 1)
ROWS = [
    (0, 1, 4.0, NOW),
    (1, 1, 4.0, NOW - timedelta(days=30)),
    (2, 1, -4.0, NOW - timedelta(days=60)),
    (3, 1, 4.0, None),
    (4, 1, 4.0, NOW - timedelta(days=30_000)),
]


@pytest.mark.parametrize(
    ("scale", "half_life", "expected"),
    [
        ("raw", None, [4, 4, -4, 4, 4]),
        ("log", None, [math.log(5), math.log(5), -math.log(5), math.log(5), math.log(5)]),
        ("raw", 30.0, [4, 2, -1, 4, 4e-6]),
        ("log", 60.0, [math.log(5), math.log(5) / math.sqrt(2), -math.log(5) / 2, math.log(5), math.log(5) * 1e-6]),
    ],
)
def test_ratings_are_scaled_and_decayed(
    spark: SparkSession, scale: str, half_life: float | None, expected: list[float]
) -> None:
    ratings = spark.createDataFrame(ROWS, "user_idx int, item_idx int, rating double, ts timestamp")
    latest = latest_time(ratings)
    rows = weighted(ratings, Setting(8, 0.1, 1.0, scale, half_life), latest).orderBy("user_idx").collect()
    assert [row.rating for row in rows] == pytest.approx(expected)
    assert Setting.parsed(Setting(8, 0.1, 1.0, scale, half_life).text()) == Setting(8, 0.1, 1.0, scale, half_life)
