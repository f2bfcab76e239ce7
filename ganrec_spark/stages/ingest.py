"""Validate the raw ratings, quarantine bad rows with a reason, give every id its dense index."""

from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config import Ingest
from ganrec_spark.context import Context
from ganrec_spark.dense_index import with_positions
from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.lake import Addition
from ganrec_spark.rules import judge, mark_duplicates, row_as_json
from ganrec_spark.sources import explained, read_source

_MAX_INDEX = 2**31 - 1


def run(context: Context) -> str:
    """Write ratings, rejected_ratings and the new ids of users and items.

    Raises InputError where a source cannot be read, has no valid row, or too many rows were rejected;
    rejected_ratings then says which, and the run's ratings stay as they were. Raises LakeError where the dictionaries
    do not give every id one index.
    """
    ingest = context.config.ingest
    judged = judge_sources(context).persist()
    try:
        with explained(str(ingest.source)):
            counts = count_rules(judged)
        context.lake.write("rejected_ratings", rejected_rows(judged))
        check_counts(counts, ingest, context.run_id)
        valid = merge_events(judged, ingest)
        new_users = extend_dictionary(context, valid, "users", "user")
        new_items = extend_dictionary(context, valid, "items", "item")
        n_ratings = context.lake.write("ratings", with_indices(context, valid))
        n_valid = valid.count()
        if n_ratings != n_valid:
            raise LakeError(
                f"tables 'users' and 'items': expected one row for each id, so that {n_valid} ratings stay as many, "
                f"found {n_ratings} after the join; the dictionaries are damaged, `ganrec doctor` says how"
            )
    finally:
        judged.unpersist()
    return _message(counts, n_ratings, new_users, new_items)


def judge_sources(context: Context) -> DataFrame:
    """Return every row of all sources with origin (source, test_source) and the rule it broke, or NULL."""
    ingest = context.config.ingest
    if not ingest.source:
        raise InputError(
            "ingest.source: expected a file, folder, URI or table, found none; set it in the configuration"
        )
    frames = []
    for origin, source in (("source", ingest.source), ("test_source", ingest.test_source)):
        if source:
            rows = judge(read_source(context.spark, ingest, source), ingest, context.run_id)
            # Without times, equal events are counts, no copies.
            if ingest.feedback == "explicit" or ingest.columns.timestamp:
                rows = mark_duplicates(rows.withColumn("origin", F.lit(origin)), ingest.feedback == "implicit")
            else:
                rows = rows.withColumn("origin", F.lit(origin))
            frames.append(
                rows.withColumn(
                    "row", F.when(F.col("rule").isNotNull(), row_as_json(rows.schema["raw"].dataType))
                ).drop("raw")
            )
    return reduce(DataFrame.unionByName, frames)


def count_rules(judged: DataFrame) -> dict[tuple[str, str | None], int]:
    """Return the number of rows per (origin, rule); rule None counts the valid ones."""
    rows = judged.groupBy("origin", "rule").count().collect()
    return {(row["origin"], row["rule"]): row["count"] for row in rows}


def rejected_rows(judged: DataFrame) -> DataFrame:
    """Return (rule, source, row) of the rows that broke a rule."""
    return judged.where(F.col("rule").isNotNull()).select("rule", "source", "row")


def check_counts(counts: dict[tuple[str, str | None], int], ingest: Ingest, run_id: str) -> None:
    """Raise InputError where a source has no rows, no valid rows, or more rejects than ingest.max_rejected_share.

    Every rule counts, exact duplicates too: a file that was delivered twice should not pass unseen.
    """
    for origin in ("source", "test_source"):
        name = getattr(ingest, origin)
        total = sum(count for (where, _), count in counts.items() if where == origin)
        if name and not total:
            raise InputError(f"ingest.{origin} '{name}': expected ratings, found no rows; check the delivery")
        if name and not counts.get((origin, None)):
            raise InputError(
                f"ingest.{origin} '{name}': all {total} rows were rejected ({_per_rule(counts)}); "
                f"{_where_rejected(run_id)}"
            )
    read, rejected = sum(counts.values()), sum(count for (_, rule), count in counts.items() if rule)
    if rejected > ingest.max_rejected_share * read:
        raise InputError(
            f"ingest.source '{ingest.source}': {rejected} of {read} rows ({rejected / read:.1%}) were rejected, "
            f"allowed are {ingest.max_rejected_share:.1%}: {_per_rule(counts)}; {_where_rejected(run_id)}, "
            "then correct the source or raise ingest.max_rejected_share"
        )


def merge_events(judged: DataFrame, ingest: Ingest) -> DataFrame:
    """Return the valid ratings (origin, user_id, item_id, rating, ts), one row per user and item.

    Implicit feedback: rating is the sum of the event weights, ts the latest event. Explicit ratings are distinct
    already.
    """
    valid = judged.where(F.col("rule").isNull())
    keys, when = ["origin", "user_id", "item_id"], ["ts", "position"] if "position" in judged.columns else ["ts"]
    if ingest.feedback == "implicit":
        # Decimals add up to the same sum in any order.
        weight = F.sum(F.col("rating").cast("decimal(28,9)")).cast("double")
        latest = F.max(F.struct(*when)).alias("latest")
        valid = valid.groupBy(*keys).agg(weight.alias("rating"), latest).select(*keys, "rating", "latest.*")
    return in_source_order(valid).select(*keys, "rating", "ts")


def in_source_order(valid: DataFrame) -> DataFrame:
    """Return the ratings with those of one user and time a microsecond apart, in order of `position` if it is there."""
    if "position" not in valid.columns:
        return valid
    place = F.row_number().over(Window.partitionBy("origin", "user_id", "ts").orderBy("position"))
    return valid.withColumn("ts", F.timestamp_micros(F.unix_micros("ts") + place - 1))


def extend_dictionary(context: Context, valid: DataFrame, table: str, kind: str) -> int:
    """Append the ids that the dictionary does not have yet; return their number.

    Ids that a killed attempt appended are there already, so a second attempt adds only the rest.
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
        return Addition(numbered.withColumn("first_run_id", F.lit(context.run_id)), count, f"{kind}_idx", first)

    return context.lake.extend(table, missing)


def with_indices(context: Context, valid: DataFrame) -> DataFrame:
    """Return the rows of table ratings: ids replaced by their dense indices."""
    users = context.lake.read("users").select("user_id", "user_idx")
    items = context.lake.read("items").select("item_id", "item_idx")
    return valid.join(users, "user_id").join(items, "item_id").select("user_idx", "item_idx", "rating", "ts", "origin")


def _per_rule(counts: dict[tuple[str, str | None], int]) -> str:
    totals: dict[str, int] = {}
    for (_, rule), count in counts.items():
        if rule:
            totals[rule] = totals.get(rule, 0) + count
    return ", ".join(f"{rule} {count}" for rule, count in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])))


def _where_rejected(run_id: str) -> str:
    return f"look at table rejected_ratings where run_id = '{run_id}'"


def _message(counts: dict[tuple[str, str | None], int], n_ratings: int, new_users: int, new_items: int) -> str:
    read, valid = sum(counts.values()), sum(count for (_, rule), count in counts.items() if rule is None)
    parts = [f"{read} rows read, {n_ratings} ratings"]
    if valid > n_ratings:
        parts.append(f"{valid - n_ratings} events merged into others of the same user and item")
    parts.append(f"{read - valid} rejected" + (f" ({_per_rule(counts)})" if read > valid else ""))
    parts.append(f"{new_users} new users, {new_items} new items")
    return ", ".join(parts)
