"""Rows that the driver wants in order."""

import pyarrow as pa
from pyspark.sql import DataFrame


def sorted_here(rows: DataFrame, *keys: str) -> pa.Table:
    """Return the rows by ascending `keys`, unique together, in one chunk a column. Driver memory: the rows, twice.

    Spark's own sort makes them twice, first to see how the keys are spread.
    """
    return rows.toArrow().sort_by([(key, "ascending") for key in keys]).combine_chunks()
