"""Stage split: hold out each user's validation and test ratings by the configured protocol (evaluation.split)."""

from pyspark.sql import functions as F

from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.split import PARTS, PROTOCOLS, dislike_parts, ignored_parts
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write train_ratings, validation_ratings, test_ratings, known_dislikes and known_ignored.

    Raises InputError where the protocol leaves nothing to train on, or nothing to choose by under `temporal`.
    """
    split, ratings = context.config.split, context.lake.read("ratings")
    parts = PROTOCOLS[split.protocol](ratings, split, context.seed).persist()
    try:
        counts = {
            part: context.lake.write(f"{part}_ratings", parts.where(F.col("part") == part).drop("part"))
            for part in PARTS
        }
        disliked = context.lake.read("disliked_ratings")
        known = dislike_parts(disliked, parts, split, context.seed).where("part <> 'test'")
        n_known = context.lake.write("known_dislikes", known)
        shown = ignored_parts(context.lake.read("impressions"), parts, split, context.seed).where("part <> 'test'")
        n_shown = context.lake.write("known_ignored", shown)
    finally:
        parts.unpersist()
    if not counts["train"]:
        raise InputError(
            f"table 'train_ratings', run '{context.run_id}': expected ratings to learn from, found none of "
            f"{sum(counts.values())}; deliver more ratings or choose another split.protocol"
        )
    message = f"{split.protocol}: " + ", ".join(f"{counts[part]} {part}" for part in PARTS)
    if n_known:
        message += f"; {n_known} dislikes that models may know"
    if n_shown:
        message += f"; {n_shown} pairs that were shown before"
    unused = ratings.count() - sum(counts.values())
    why = (
        "also in the source"
        if split.protocol == "given"
        else f"from ingest.test_source, which {split.protocol} ignores"
    )
    return message + (f"; {unused} test ratings dropped, {why}" if unused else "")
