"""Validate the raw ratings, quarantine bad rows with a reason, give every id its dense index."""

import shutil
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.frames.dense_index import with_positions
from ganrec_spark.lake.store import Addition
from ganrec_spark.raw.merged import known_pseudonyms, liked_or_not, merge_events, threshold
from ganrec_spark.raw.rejects import (
    Counts,
    advice_on,
    by_rule,
    check_counts,
    common_rules,
    count_rules,
    per_rule,
    rejected_rows,
)
from ganrec_spark.raw.rules import IGNORED, judge, mark_duplicates, row_as_json
from ganrec_spark.raw.sources import explained, read_source
from ganrec_spark.raw.times import doubt, time_form
from ganrec_spark.run.context import Context

_MAX_INDEX = 2**31 - 1


def run(context: Context) -> str:
    """Write ratings, disliked_ratings, rejected_ratings, pseudonyms and the new ids of users and items.

    Raises InputError where a source cannot be read, has no valid row, or too many rows were rejected;
    rejected_ratings then says which, and the run's ratings stay as they were. Raises LakeError where the dictionaries
    do not give every id one index.
    """
    ingest = context.config.ingest
    scratch = Path(context.work_dir) / "unpacked" if "://" not in context.work_dir else None
    judged = judge_sources(context, scratch).persist()
    everyone: DataFrame | None = None
    try:
        with explained(str(ingest.source)):
            counts = count_rules(judged)
        context.lake.write("rejected_ratings", rejected_rows(judged))
        advice = [line for rule in common_rules(counts) for line in [advice_on(judged, rule, ingest)] if line]
        check_counts(counts, ingest, context.run_id, advice)
        context.lake.write("pseudonyms", known_pseudonyms(judged))
        everyone = merge_events(judged, ingest).persist()
        liked_from = threshold(everyone, ingest)
        valid, disliked = (everyone.where(split) for split in liked_or_not(liked_from))
        if valid.isEmpty():
            raise InputError(
                f"ingest.source '{ingest.source}': expected ratings of at least {liked_from}, found lower ones alone; "
                "see ingest.liked_from"
            )
        new_users = extend_dictionary(context, everyone, "users", "user")
        new_items = extend_dictionary(context, everyone, "items", "item")
        n_ratings = context.lake.write("ratings", with_indices(context, valid))
        n_disliked = context.lake.write("disliked_ratings", with_indices(context, disliked))
        n_valid = everyone.count()
        if n_ratings + n_disliked != n_valid:
            raise LakeError(
                f"tables 'users' and 'items': expected one row for each id, so that {n_valid} ratings stay as many, "
                f"found {n_ratings + n_disliked} after the join; the dictionaries are damaged, `ganrec doctor` says how"
            )
    finally:
        if everyone is not None:
            everyone.unpersist()
        judged.unpersist()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    if n_disliked:
        advice.append(f"{n_disliked} ratings below {liked_from:g} are dislikes (ingest.liked_from)")
    return "; ".join([_message(counts, n_ratings + n_disliked, new_users, new_items), *advice])


def judge_sources(context: Context, scratch: Path | None = None) -> DataFrame:
    """Return every row of all sources with origin (source, test_source) and the rule it broke, or NULL."""
    ingest = context.config.ingest
    if not ingest.source:
        raise InputError(
            "ingest.source: expected a file, folder, URI or table, found none; set it in the configuration"
        )
    frames = []
    for origin, source in (("source", ingest.source), ("test_source", ingest.test_source)):
        if source:
            read = read_source(context.spark, ingest, source, scratch)
            with explained(source):
                form = time_form(read, ingest) if "timestamp" in read.columns else None
                if form is not None and (warning := doubt(read, ingest, form)):
                    context.warn(f"source '{source}': {warning}")
            rows = judge(read, ingest, context.as_of, form)
            # Without times, or with days alone, equal events are as many, no copies.
            if ingest.feedback == "explicit" or (form is not None and not form.days):
                rows = mark_duplicates(rows.withColumn("origin", F.lit(origin)), ingest.feedback == "implicit")
            else:
                rows = rows.withColumn("origin", F.lit(origin))
            frames.append(
                rows.withColumn(
                    "row", F.when(F.col("rule").isNotNull(), row_as_json(rows.schema["raw"].dataType))
                ).drop("raw")
            )
    return reduce(DataFrame.unionByName, frames)


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


def _message(counts: Counts, n_ratings: int, new_users: int, new_items: int) -> str:
    read, valid = sum(counts.values()), sum(count for (_, rule), count in counts.items() if rule is None)
    parts = [f"{read} rows read, {n_ratings} ratings"]
    if valid > n_ratings:
        parts.append(f"{valid - n_ratings} events merged into others of the same user and item")
    ignored = sum(count for rule, count in by_rule(counts).items() if rule in IGNORED)
    rejected = read - valid - ignored
    parts.append(f"{rejected} rejected" + (f" ({per_rule(counts)})" if rejected else ""))
    if ignored:
        parts.append(f"{ignored} ignored ({per_rule(counts, ignored=True)})")
    parts.append(f"{new_users} new users, {new_items} new items")
    return ", ".join(parts)
