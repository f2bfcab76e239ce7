"""What plans cost beside their rows: classes that Spark makes of them, and waiting for one small job after another."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

# A class that Spark made of a plan serves each plan that is alike.
KEPT_CLASSES = {
    "spark.sql.codegen.cache.maxEntries": "2000",  # its own 100 are fewer than a run or a refresh has
    # As sets, the values of IN are no part of a class. Else each list has its own, too long for the JVM to compile.
    "spark.sql.optimizer.inSetConversionThreshold": "0",
    "spark.sql.optimizer.inSetSwitchThreshold": "0",
}
# One task after a shuffle; and the whole plan at once, for there is nothing to learn from its first half.
_FEW_ROWS = {"spark.sql.shuffle.partitions": "1", "spark.sql.adaptive.enabled": "false"}


@contextmanager
def planned_for_few_rows(spark: SparkSession, few: bool = True) -> Iterator[None]:
    """Let the session plan for few rows meanwhile; without `few` as it does anyway.

    It holds for all threads of the session. What reads many rows to aggregate or join them would wait for one task.
    """
    if not few:
        yield
        return
    before = {key: str(spark.conf.get(key)) for key in _FEW_ROWS}
    _set(spark, _FEW_ROWS)
    try:
        yield
    finally:
        _set(spark, before)


def _set(spark: SparkSession, values: dict[str, str]) -> None:
    for key, value in values.items():
        spark.conf.set(key, value)
