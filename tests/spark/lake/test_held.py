"""Rows that are made once: few are part of the plan, many are Spark's to keep."""

from datetime import datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.lake import held


@pytest.mark.parametrize(("most", "local"), [(3, True), (2, False)])
def test_rows_are_made_once_and_stay_what_they_were(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, most: int, local: bool
) -> None:
    monkeypatch.setattr(held, "_FEW", most)
    rows = [
        (1, "a", [1.5], datetime(2026, 1, 1, 2, 3, 4, 567)),
        (2, None, None, None),
        (3, "c", [], datetime(1960, 1, 1)),
    ]
    frame = spark.createDataFrame(rows, "id int, name string, list array<double>, at timestamp").repartition(2)
    drawn = frame.withColumn("draw", F.rand())  # another one each time that it is made
    kept = held.held(drawn)
    assert (kept.isLocal(), kept.dtypes) == (local, drawn.dtypes)
    assert sorted(kept.collect()) == sorted(kept.collect())
    assert sorted(kept.drop("draw").collect()) == sorted(frame.collect())
    kept.unpersist()
    assert held.at_hand(frame).isLocal()
