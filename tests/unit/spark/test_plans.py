"""Plans for few rows are for as long as they are asked for, whatever happens meanwhile."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.spark.plans import planned_for_few_rows

PARTITIONS, ADAPTIVE = "spark.sql.shuffle.partitions", "spark.sql.adaptive.enabled"


@pytest.fixture
def values() -> dict[str, str]:
    return {PARTITIONS: "7", ADAPTIVE: "true"}


def session(values: dict[str, str]) -> SparkSession:
    conf: Any = SimpleNamespace(get=values.__getitem__, set=values.__setitem__)
    return cast(SparkSession, SimpleNamespace(conf=conf))


def test_few_rows_have_one_task_and_what_was_set_comes_back(values: dict[str, str]) -> None:
    spark = session(values)
    within: dict[str, str] = {}

    def fail() -> None:
        with planned_for_few_rows(spark):
            within.update(values)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert within == {PARTITIONS: "1", ADAPTIVE: "false"}
    assert values == {PARTITIONS: "7", ADAPTIVE: "true"}


def test_many_rows_are_planned_as_ever(values: dict[str, str]) -> None:
    with planned_for_few_rows(session(values), few=False):
        assert values == {PARTITIONS: "7", ADAPTIVE: "true"}
