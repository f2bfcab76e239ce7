"""Map Arrow batches to others: in Spark's tasks, or in the driver, where few rows would wait for Python workers."""

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

Batches = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
# Rows, what maps their batches, and the columns of the result in SQL's words.
Mapper = Callable[[DataFrame, Batches, str], DataFrame]


def by_tasks(rows: DataFrame, function: Batches, schema: str) -> DataFrame:
    """Return what the function makes of the rows, each task's by itself."""
    return rows.mapInArrow(function, schema)


def by_driver(rows: DataFrame, function: Batches, schema: str) -> DataFrame:
    """Return what the function makes of the rows, at once, held by the driver. Driver memory: both."""
    arrow = to_arrow_schema(cast(StructType, StructType.fromDDL(schema)))
    made = list(function(rows.toArrow().combine_chunks().to_batches()))
    table = pa.Table.from_batches(made).cast(arrow) if made else arrow.empty_table()
    return rows.sparkSession.createDataFrame(table)
