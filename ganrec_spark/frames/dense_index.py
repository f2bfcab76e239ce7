"""Dense positions 0, 1, 2, ... for keys, without sorting everything in one task; the dictionaries of ids by them."""

from collections.abc import Callable
from itertools import accumulate

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Addition

_MAX_INDEX = 2**31 - 1
_BUCKETS = 64  # part of the order: another number would number the keys anew


def with_positions(keys: DataFrame, key: str, name: str, hashed: Column, first: int = 0) -> tuple[DataFrame, int]:
    """Return `keys` with column `name` counting from `first`, and the number of keys.

    In and out: one row per distinct `key`. The order is that of `hashed`'s buckets, then of hash and key, so it is
    the same whatever the partitions, and shuffled with respect to `key`. Only the 64 bucket sizes are collected.
    """
    bucketed = keys.withColumn("_hash", hashed).withColumn("_bucket", F.pmod("_hash", F.lit(_BUCKETS)).cast("int"))
    counts = {row["_bucket"]: row["count"] for row in bucketed.groupBy("_bucket").count().collect()}
    sizes = [counts.get(bucket, 0) for bucket in range(_BUCKETS)]
    starts = ", ".join(f"{first + start}L" for start in accumulate(sizes[:-1], initial=0))
    offsets = F.expr(f"array({starts})")
    inside = F.row_number().over(Window.partitionBy("_bucket").orderBy("_hash", key))
    numbered = bucketed.withColumn(name, (offsets[F.col("_bucket")] + inside - 1).cast("int"))
    return numbered.drop("_hash", "_bucket"), sum(sizes)


def extend_dictionary(lake: StageLake, valid: DataFrame, table: str, kind: str) -> int:
    """Append the ids that the dictionary does not have yet; return their number.

    Ids that a killed attempt appended are there already, so a second attempt adds only the rest.
    """
    return lake.extend(table, missing_ids(valid, table, kind, lake.run_id))


def missing_ids(valid: DataFrame, table: str, kind: str, seen_by: str) -> Callable[[DataFrame], Addition]:
    """Return what Lake.extend asks: which ids of column `kind`_id a dictionary lacks, numbered from its end on.

    `seen_by` becomes their first_run_id. `valid` must be the same rows however often it is read.
    """

    def missing(known: DataFrame) -> Addition:
        fresh = valid.select(f"{kind}_id").distinct().join(known.select(f"{kind}_id"), f"{kind}_id", "left_anti")
        top = known.agg(F.max(f"{kind}_idx")).first()
        first = 0 if top is None or top[0] is None else int(top[0]) + 1
        numbered, count = with_positions(fresh, f"{kind}_id", f"{kind}_idx", F.xxhash64(f"{kind}_id"), first)
        if first + count > _MAX_INDEX:
            raise InputError(
                f"table '{table}': expected at most {_MAX_INDEX} ids, found {first + count}; start a new lake"
            )
        return Addition(numbered.withColumn("first_run_id", F.lit(seen_by)), count, f"{kind}_idx", first)

    return missing


def with_indices(lake: StageLake, valid: DataFrame) -> DataFrame:
    """Return the rows of table ratings: ids replaced by their dense indices."""
    users = lake.read("users").select("user_id", "user_idx")
    items = lake.read("items").select("item_id", "item_idx")
    return valid.join(users, "user_id").join(items, "item_id").select("user_idx", "item_idx", "rating", "ts", "origin")


def require_as_many(expected: int, found: int) -> None:
    """Raise LakeError where ratings are more or fewer once they have indices: an id has several, or none."""
    if found != expected:
        raise LakeError(
            f"tables 'users' and 'items': expected one row for each id, so that {expected} ratings stay as many, "
            f"found {found} after the join; the dictionaries are damaged, `ganrec doctor` says how"
        )
