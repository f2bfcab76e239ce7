"""What the driver makes of few rows is what Spark's tasks make of them."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.mapped import by_driver, by_tasks

SCHEMA = "user_idx int, sums array<double>, at timestamp"
ROWS = [(1, [1, 2], datetime(2026, 1, 1, 2, 3, 4, 567)), (2, [], None), (3, [5], datetime(1969, 12, 31))]


def sums(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        own = [[float(items.sum())] for items in lists(batch, "items")]
        values = [batch.column("user_idx"), pa.array(own, pa.list_(pa.float64())), batch.column("at")]
        yield pa.RecordBatch.from_arrays(values, names=["user_idx", "sums", "at"])


@pytest.mark.parametrize("n", [0, 3])
def test_the_driver_makes_what_tasks_make(spark: SparkSession, n: int) -> None:
    rows = spark.createDataFrame(ROWS[:n], "user_idx int, items array<int>, at timestamp").repartition(2)
    made = [run(rows, sums, SCHEMA) for run in (by_tasks, by_driver)]
    assert made[0].dtypes == made[1].dtypes
    assert sorted(made[0].collect()) == sorted(made[1].collect())
    assert made[1].count() == n
    assert made[1].isLocal()
