"""Dictionaries as a test wants them, whatever ingest would number."""

from pyspark.sql import DataFrame

from ganrec_spark.lake.store import Lake


def add_ids(lake: Lake, table: str, frame: DataFrame) -> None:
    """Add rows to users or items."""
    frame.writeTo(lake.ensure(table)).append()
