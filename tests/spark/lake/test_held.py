"""Rows that are made once: few are part of the plan, many are Spark's to keep."""

from datetime import datetime

import pytest
from pyspark.sql import SparkSession

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
    kept = held.held(frame)
    assert (kept.isLocal(), kept.is_cached, kept.dtypes) == (local, not local, frame.dtypes)
    assert sorted(kept.collect()) == sorted(frame.collect())
    kept.unpersist()
    assert held.at_hand(frame).isLocal()
