"""Rows that the driver wants in order."""

import pyarrow as pa
from pyspark.sql import DataFrame


def sorted_here(rows: DataFrame, key: str) -> pa.Table:
    """Return the rows by ascending `key`, which is unique, in one chunk a column. Driver memory: the rows, twice.

    Spark's own sort makes them twice, first to see how the keys are spread.
    """
    return rows.toArrow().sort_by(key).combine_chunks()
