"""What the published run would know of single users with their new events: the rows that its members read.

As `ingest` makes ratings of events, what the run held of a pair being what the source says of it. Items that the run
does not know say nothing before the next run: its models have no place for them.
"""

from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config, Feedback
from ganrec_spark.feedback.ratings import with_feedback
from ganrec_spark.frames.ignored import left_alone
from ganrec_spark.frames.kept import kept, side_by_side
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.table import NONE
from ganrec_spark.refresh.news import News

_READ = ("ratings", "disliked_ratings", "merged_ratings", "user_sparsity", "known_dislikes", "known_ignored")
_PAIR = ["user_idx", "item_idx"]
_OF_PAIR = ("user_idx", "item_idx", "rating", "ts")


@dataclass(frozen=True)
class Histories:
    """Of some users: `merged` as merged_ratings, `disliked` as disliked_ratings, of phase final.

    `against` (user_idx, item_idx, rating, ts): the dislikes that models know, and `ignored` (user_idx, item_idx, times)
    what was shown in vain before the run, None where there are none; `sparse` (user_idx): those whom a fill is for.
    `beyond` (user_idx, item_idx): what they have rated by now of items that were new to the run.
    """

    merged: DataFrame
    disliked: DataFrame
    against: DataFrame | None
    sparse: DataFrame
    beyond: DataFrame
    ignored: DataFrame | None = None


def histories_of(lake: Lake, run_id: str, news: News, config: Config, items: DataFrame, liked: DataFrame) -> Histories:
    """Return the users' rows with their new events. In: the run's items (item_idx), and those rated above 0."""
    keep = news.users.keep
    own = kept({name: partial(_own, lake, name, run_id, news) for name in _READ}, keep)
    of_source = F.when(F.col("origin") == "feedback", "source").otherwise(F.col("origin"))
    held, refused, merged = own["ratings"], own["disliked_ratings"], own["merged_ratings"]
    events = news.events.select(*_PAIR, "kind", "value", "ts")
    # A dislike that came of an event has no rating; what speaks for the item later weighs more, as of an event.
    unrated = refused.where(F.col("rating").isNull()).join(events.select(*_PAIR).distinct(), _PAIR, "left_semi")
    rated, disliked = with_feedback(
        held.withColumn("origin", of_source),
        refused.join(unrated.select(*_PAIR), _PAIR, "left_anti").withColumn("origin", of_source),
        events.unionByName(_refusals(unrated, config.feedback)),
        config.feedback,
        config.ingest,
    )
    decided = F.col("origin") == "feedback"
    disliked, loved = side_by_side(lambda: keep(disliked), lambda: keep(rated.where(decided).select(*_OF_PAIR)))
    against = disliked.where(decided).select(*_OF_PAIR)
    touched = loved.select(*_PAIR).union(against.select(*_PAIR)).distinct()
    before = merged.where("observed")
    observed = keep(
        before.join(touched, _PAIR, "left_anti")
        .select(*_OF_PAIR)
        .unionByName(loved.join(F.broadcast(items), "item_idx", "left_semi").select(*_OF_PAIR))
    )
    known = own["known_dislikes"].select(*_PAIR, "rating", "ts").join(touched, _PAIR, "left_anti").unionByName(against)
    positive = observed.where("rating > 0").select("user_idx").distinct()

    def with_vectors(pairs: DataFrame) -> DataFrame:
        return pairs.join(F.broadcast(liked), "item_idx", "left_semi").join(positive, "user_idx", "left_semi")

    found = kept(
        {
            "sparse": lambda: _still_sparse(own["user_sparsity"], before, observed, config.sparsity.max_ratings),
            "against": lambda: with_vectors(known).select(*_OF_PAIR),
            "ignored": lambda: left_alone(with_vectors(own["known_ignored"]), observed),
        },
        keep,
    )
    sparse = found.pop("sparse")
    counted = {name: None if part.isEmpty() else part for name, part in found.items()}
    generated = merged.where(~F.col("observed")).join(observed.select(*_PAIR), _PAIR, "left_anti")
    rows = observed.withColumns({"observed": F.lit(True), "fill": F.lit(NONE)})
    filled = generated.join(sparse, "user_idx", "left_semi").select(*rows.columns)
    beyond = loved.join(F.broadcast(items), "item_idx", "left_anti").select(*_PAIR)
    return Histories(keep(rows.unionByName(filled)), disliked, counted["against"], sparse, beyond, counted["ignored"])


def _own(lake: Lake, table: str, run_id: str, news: News) -> DataFrame:
    return news.users.rows_of(lake.read(table, run_id, "final"))


def _refusals(rows: DataFrame, feedback: Feedback) -> DataFrame:
    """Return the dislikes that came of events as the events that they may have been."""
    kind = min((kind for kind, weight in feedback.kinds.items() if weight < 0), default="")
    return rows.select(*_PAIR, F.lit(kind).alias("kind"), F.lit(None).cast("double").alias("value"), "ts")


def _still_sparse(sparsity: DataFrame, before: DataFrame, now: DataFrame, most: int) -> DataFrame:
    """Return (user_idx) of the sparse users who have not rated enough since not to be sparse."""
    counts = [rows.groupBy("user_idx").agg(F.count("*").alias(name)) for rows, name in ((before, "b"), (now, "n"))]
    known = sparsity.where("is_sparse").join(counts[0], "user_idx", "left").join(counts[1], "user_idx", "left")
    added = F.coalesce("n", F.lit(0)) - F.coalesce("b", F.lit(0))
    return known.where(F.col("n_ratings") + added <= most).select("user_idx")
