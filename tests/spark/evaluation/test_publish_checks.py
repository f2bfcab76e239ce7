"""A run that serves one group provably worse than another is refused where a limit says so."""

from types import SimpleNamespace
from typing import cast

from pyspark.sql import DataFrame, SparkSession
from spark.fixtures import MakeConfig

from ganrec_spark.evaluation.publish_checks import Check, metric_checks
from ganrec_spark.run.context import Context


def metrics(spark: SparkSession) -> DataFrame:
    """Return NDCG@10 of both splits: on test women have .2 more than men, with standard errors of .01 each."""
    rows = [
        ("blend", "none", split, segment, "ndcg", 10, value, value - 0.0196, value + 0.0196, 100)
        for split, of in (
            ("validation", {"all": 0.5, "gender:F": 0.9, "gender:M": 0.1}),
            ("test", {"all": 0.5, "bucket:1-5": 0.1, "gender:F": 0.6, "gender:M": 0.4}),
        )
        for segment, value in of.items()
    ]
    schema = "recommender string, fill string, split string, segment string, metric string, k int, value double"
    return spark.createDataFrame(rows, f"{schema}, ci_low double, ci_high double, n_users long")


def found(spark: SparkSession, make_config: MakeConfig, *settings: str) -> list[Check]:
    context = cast(Context, SimpleNamespace(config=make_config(*settings)))
    return metric_checks(metrics(spark), None, context)


def test_a_gap_is_refused_where_it_is_provably_above_the_limit(spark: SparkSession, make_config: MakeConfig) -> None:
    assert found(spark, make_config) == []
    (within,) = found(spark, make_config, "publish.max_group_gap=0.19")
    assert within.passed, "less than .2, and more than the interval's lower end"
    (broken,) = found(spark, make_config, "publish.max_group_gap=0.1")
    assert not broken.passed
    assert broken.message == (
        "group_gap_gender: expected no provable gap above 0.1 NDCG@10, found 0.2000 [0.1723, 0.2277] between gender:F "
        "and gender:M"
    )
