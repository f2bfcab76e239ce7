"""Validate the raw ratings, quarantine bad rows with a reason, give every id its dense index."""

import shutil
from pathlib import Path

from pyspark.sql import DataFrame

from ganrec_spark.errors import InputError
from ganrec_spark.feedback.ratings import impressions, known_events, with_feedback
from ganrec_spark.frames.dense_index import extend_dictionary, require_as_many, with_indices
from ganrec_spark.raw.checked import checked_rows
from ganrec_spark.raw.merged import known_pseudonyms, liked_or_not, merge_events, threshold
from ganrec_spark.raw.rejects import (
    advice_on,
    check_counts,
    common_rules,
    count_rules,
    counts_in_words,
    rejected_rows,
)
from ganrec_spark.raw.sources import explained
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write ratings, disliked_ratings, rejected_ratings, pseudonyms, impressions and the new ids of users and items.

    Raises InputError where a source cannot be read, has no valid row, or too many rows were rejected;
    rejected_ratings then says which, and the run's ratings stay as they were. Raises LakeError where the dictionaries
    do not give every id one index.
    """
    ingest = context.config.ingest
    scratch = Path(context.work_dir) / "unpacked" if "://" not in context.work_dir else None
    checked = checked_rows(context.spark, ingest, context.as_of, context.warn, scratch).persist()
    everyone: DataFrame | None = None
    try:
        with explained(str(ingest.source)):
            counts = count_rules(checked)
        context.lake.write("rejected_ratings", rejected_rows(checked))
        advice = [line for rule in common_rules(counts) for line in [advice_on(checked, rule, ingest)] if line]
        check_counts(counts, ingest, context.run_id, advice)
        context.lake.write("pseudonyms", known_pseudonyms(checked))
        everyone = merge_events(checked, ingest).persist()
        liked_from = threshold(everyone, ingest)
        valid, disliked = (everyone.where(split) for split in liked_or_not(liked_from))
        if valid.isEmpty():
            raise InputError(
                f"ingest.source '{ingest.source}': expected ratings of at least {liked_from}, found lower ones alone; "
                "see ingest.liked_from"
            )
        new_users = extend_dictionary(context.lake, everyone, "users", "user")
        new_items = extend_dictionary(context.lake, everyone, "items", "item")
        rated, against = (with_indices(context.lake, rows) for rows in (valid, disliked))
        log, seen = context.lake.read_log_at("feedback_events")
        context.lake.write("known_events", context.lake.frame("known_events", [(seen, context.as_of)]))
        n_valid, events = everyone.count(), known_events(log, context.as_of)
        counted = context.config.feedback.as_ratings
        if counted:
            require_as_many(n_valid, rated.count() + against.count())
            rated, against = with_feedback(rated, against, events, context.config.feedback, ingest)
        shown = impressions(log, context.as_of)
        context.lake.write("impressions", shown if counted else shown.limit(0))
        n_ratings, n_disliked = context.lake.write("ratings", rated), context.lake.write("disliked_ratings", against)
        if not counted:
            require_as_many(n_valid, n_ratings + n_disliked)
        n_events = events.count()
    finally:
        if everyone is not None:
            everyone.unpersist()
        checked.unpersist()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    if n_disliked and not counted:
        advice.append(f"{n_disliked} ratings below {liked_from:g} are dislikes (ingest.liked_from)")
    if counted:
        advice.append(f"with {n_events} events of the log {n_ratings} ratings, {n_disliked} dislikes")
    elif n_events:
        advice.append(f"{n_events} events of the log are not used (feedback.as_ratings)")
    return "; ".join([counts_in_words(counts, n_valid, new_users, new_items), *advice])
