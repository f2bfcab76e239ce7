"""Events of the log as ratings: a third origin beside the sources of ingest (docs/adr/0042)."""

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Feedback, Ingest
from ganrec_spark.feedback.rules import IMPRESSION, RATING
from ganrec_spark.frames.ignored import PATIENCE

_PAIR = ["user_idx", "item_idx"]
_EVIDENCE = ("user_idx", "item_idx", "ts", "sort", "amount", "from_log")
# What one row says of a pair: somebody rated it, somebody used it, or it is not wanted.
_STATED_LIKE, _STATED_DISLIKE, _USE, _REFUSAL = "stated like", "stated dislike", "use", "refusal"


def known_events(log: DataFrame, as_of: datetime) -> DataFrame:
    """Return the events that a run which stands at `as_of` may know: those that happened before it."""
    return log.where(F.col("ts") < F.lit(as_of))


def impressions(log: DataFrame, as_of: datetime) -> DataFrame:
    """Return (user_idx, item_idx, ts) of the impressions of which a run that stands at `as_of` knows what came."""
    return known_events(log, as_of - PATIENCE).where(F.col("kind") == IMPRESSION).select(*_PAIR, "ts")


def with_feedback(
    rated: DataFrame, disliked: DataFrame, events: DataFrame, feedback: Feedback, ingest: Ingest
) -> tuple[DataFrame, DataFrame]:
    """Return tables ratings and disliked_ratings of what ingest read and of the events.

    In and out: one row per user, item and origin; of a pair either the source or feedback has a row, in one of both
    tables. Pairs without events that count stay as they are, and so does ingest.test_source.

    The weights of a pair's events (feedback.kinds) are added up, to the source's with implicit feedback. With explicit
    feedback what somebody says counts alone where there is such: the newest of the source's rating and of the events
    `rating`. A refusal (an event of negative weight, or a rating below ingest.liked_from) that is not older than all
    that speaks for the item makes the pair a dislike; of an event of dislike the rating is NULL.
    """
    explicit = ingest.feedback == "explicit"
    said = _said(events, feedback, ingest, explicit)
    touched = said.select(*_PAIR).distinct()
    own = F.col("origin") == "source"
    pairs = _decided(
        said.unionByName(_of_source(rated.where(own), _STATED_LIKE if explicit else _USE, touched)).unionByName(
            _of_source(disliked.where(own), _STATED_DISLIKE, touched)
        )
    )
    liked = pairs.where("liked").select(*_PAIR, "rating", "ts", "origin")
    refused = pairs.where("NOT liked").select(*_PAIR, "rating", "ts", "origin")
    return _beside(rated, touched, liked), _beside(disliked, touched, refused)


def _said(events: DataFrame, feedback: Feedback, ingest: Ingest, explicit: bool) -> DataFrame:
    """Return what each event says of its pair; events that count for nothing are left out."""
    parts = [F.lit(part) for pair in sorted(feedback.kinds.items()) for part in pair]
    weight = F.create_map(*parts)[F.col("kind")] if parts else F.lit(None).cast("double")
    value, is_rating = F.col("value"), F.col("kind") == RATING
    limit = 0.0 if ingest.liked_from == "auto" else ingest.liked_from
    below = F.lit(False) if limit is None else value < F.lit(limit)
    unrated = F.lit(False) if ingest.unrated is None else value == F.lit(ingest.unrated)
    sort = (
        F.when(weight.isNull() | (weight == 0) | (is_rating & unrated), None)
        .when(weight < 0, _REFUSAL)
        .when(is_rating & below, _STATED_DISLIKE if explicit else _REFUSAL)
        .when(is_rating & F.lit(explicit), _STATED_LIKE)
        .otherwise(_USE)
    )
    amount = F.when(is_rating, weight * value).otherwise(weight)
    said = events.select(*_PAIR, "ts", sort.alias("sort"), amount.alias("amount"), F.lit(True).alias("from_log"))
    return said.where(F.col("sort").isNotNull())


def _of_source(rows: DataFrame, sort: str, touched: DataFrame) -> DataFrame:
    own = rows.join(touched, _PAIR, "left_semi").withColumns(
        {"sort": F.lit(sort), "amount": F.col("rating"), "from_log": F.lit(False)}
    )
    return own.select(*_EVIDENCE)


def _decided(said: DataFrame) -> DataFrame:
    """Return (user_idx, item_idx, liked, rating, ts, origin), one row per pair of which anything is said."""
    stated = F.col("sort").isin(_STATED_LIKE, _STATED_DISLIKE)
    use = F.col("sort") == _USE
    pairs = said.groupBy(*_PAIR).agg(
        # Decimals add up to the same sum in any order.
        F.sum(F.when(use, F.col("amount").cast("decimal(28,9)"))).cast("double").alias("used"),
        F.max(F.when(use, F.col("ts"))).alias("used_at"),
        F.max(F.when(stated, F.struct("ts", "from_log", "amount", "sort"))).alias("stated"),
        F.max(F.when(F.col("sort") == _REFUSAL, F.col("ts"))).alias("refused_at"),
    )
    says = F.col("stated.ts")
    speaks_for = F.coalesce(F.when(F.col("stated.sort") == _STATED_LIKE, says), F.col("used_at"))
    against = F.col("stated.sort").eqNullSafe(F.lit(_STATED_DISLIKE))
    refused = F.col("refused_at").isNotNull() & (speaks_for.isNull() | (F.col("refused_at") >= speaks_for))
    return pairs.select(
        *_PAIR,
        (~(against | refused)).alias("liked"),
        _of(against, refused, F.col("stated.amount"), None, F.coalesce("stated.amount", "used")).alias("rating"),
        _of(against, refused, says, F.col("refused_at"), speaks_for).alias("ts"),
        F.lit("feedback").alias("origin"),
    )


def _of(against: Column, refused: Column, said: Column, refusal: Column | None, liked: Column) -> Column:
    return F.when(against, said).when(refused, refusal).otherwise(liked)


def _beside(rows: DataFrame, touched: DataFrame, decided: DataFrame) -> DataFrame:
    """Return the rows with those of the source that events have a say in replaced by what was decided."""
    replaced = F.col("origin") == "source"
    kept = rows.where(replaced).join(touched, _PAIR, "left_anti")
    columns = decided.columns
    return kept.select(*columns).unionByName(rows.where(~replaced).select(*columns)).unionByName(decided)
