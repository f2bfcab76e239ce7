"""A few users' rows are found whoever they are, by code that was made for others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.frames.users import Users

N = 5_000


def classes_made(spark: SparkSession) -> int:
    jvm = spark._jvm
    assert jvm is not None
    return int(jvm.org.apache.spark.metrics.source.CodegenMetrics.METRIC_COMPILATION_TIME().getCount())


@pytest.fixture
def compiled(spark: SparkSession) -> Iterator[SparkSession]:
    """Return the session with classes for its plans, which tests do without."""
    values = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}
    before = {key: str(spark.conf.get(key)) for key in values}
    for key, value in values.items():
        spark.conf.set(key, value)
    yield spark
    for key, value in before.items():
        spark.conf.set(key, value)


def test_the_rows_of_others_need_no_class_of_their_own(compiled: SparkSession, tmp_path: Path) -> None:
    spark, path = compiled, str(tmp_path / "rows")
    spark.range(N).selectExpr("CAST(id AS int) AS user_idx", "id * 2.5 AS rating").write.parquet(path)
    made = {}
    for first, n in [(0, 2), (1, 2), (0, 7), (1, 7), (0, 450), (1, 450)]:
        users = Users.of(spark.range(first, N, N // n).limit(n).selectExpr("CAST(id AS int) AS user_idx"))
        before = classes_made(spark)
        rows = users.rows_of(spark.read.parquet(path)).toArrow().to_pylist()
        made[first, n] = classes_made(spark) - before
        assert {row["user_idx"]: row["rating"] for row in rows} == {index: index * 2.5 for index in users.few}
        assert len(rows) == users.n == n
    assert made.pop((0, 2)) > 0
    made.pop((0, 450))  # of more values than one IN has
    assert set(made.values()) == {0}
