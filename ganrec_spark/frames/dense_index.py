"""Dense positions 0, 1, 2, ... for keys, without sorting everything in one task."""

from itertools import accumulate

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_BUCKETS = 64  # part of the order: another number would number the keys anew


def with_positions(keys: DataFrame, key: str, name: str, hashed: Column, first: int = 0) -> tuple[DataFrame, int]:
    """Return `keys` with column `name` counting from `first`, and the number of keys.

    In and out: one row per distinct `key`. The order is that of `hashed`'s buckets, then of hash and key, so it is
    the same whatever the partitions, and shuffled with respect to `key`. Only the 64 bucket sizes are collected.
    """
    bucketed = keys.withColumn("_hash", hashed).withColumn("_bucket", F.pmod("_hash", F.lit(_BUCKETS)).cast("int"))
    counts = {row["_bucket"]: row["count"] for row in bucketed.groupBy("_bucket").count().collect()}
    sizes = [counts.get(bucket, 0) for bucket in range(_BUCKETS)]
    offsets = F.array(*[F.lit(first + start).cast("long") for start in accumulate(sizes[:-1], initial=0)])
    inside = F.row_number().over(Window.partitionBy("_bucket").orderBy("_hash", key))
    numbered = bucketed.withColumn(name, (offsets[F.col("_bucket")] + inside - 1).cast("int"))
    return numbered.drop("_hash", "_bucket"), sum(sizes)
