"""Which exposure an event answers: the one that the client names, else the last one before the event."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.frames.users import Users
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.publication import shown_since
from ganrec_spark.lake.schema import local_frame
from ganrec_spark.lake.store import Lake, Publication
from ganrec_spark.plan.table import columns

_SHOWN = columns("run_id string: run\nedition string: edition\nshown_at string: since when readers saw it, UTC")
_PAIR = ["user_idx", "item_idx"]


def with_exposures(lake: Lake, events: DataFrame, publications: Sequence[Publication]) -> DataFrame:
    """Return the events with edition, rank, arm and propensity of the exposure that they answer; NULL without one.

    In and out: one row per event: user_idx, item_idx, ts, edition, rank and others. An exposure begins with the
    publication of its edition, and with every rollback to it. Where the client names an edition it is the exposure of
    that edition, else the last of user and item that is not after `ts`. What the client says of edition and rank
    stays; the propensity is that of the exposure's rank, so that of another rank it is NULL. Of few users few files and
    row groups are read, for `exposures` is sorted by them. `events` must be the same rows however often they are read.
    """
    if not publications or not _has_rows(lake, "exposures"):
        return events.withColumns({"arm": F.lit(None).cast("string"), "propensity": F.lit(None).cast("double")})
    shown = local_frame(lake.spark, _SHOWN, shown_since(publications)).withColumn(
        "shown_at", F.col("shown_at").cast("timestamp")
    )
    exposures = Users.of(events).rows_of(lake.read_all("exposures"))
    exposures = exposures.join(events.select(*_PAIR).distinct(), _PAIR, "left_semi")
    exposure = F.struct("shown_at", "edition", "rank", "arm", "propensity")
    own = (
        exposures.join(F.broadcast(shown), ["run_id", "edition"])
        .groupBy(*_PAIR)
        .agg(F.sort_array(F.collect_list(exposure)).alias("shown"))
    )
    named = F.filter("shown", lambda one: one["edition"] == F.col("edition"))
    answered = F.when(F.col("edition").isNull(), _last_before(F.col("shown"))).otherwise(
        F.coalesce(_last_before(named), F.try_element_at(named, F.lit(1)))  # a client's clock may be behind ours
    )
    found = events.join(own, _PAIR, "left").withColumn("answered", answered)
    same_rank = F.col("rank").isNull() | (F.col("rank") == F.col("answered.rank"))
    return found.withColumns(
        {
            "edition": F.coalesce("edition", "answered.edition"),
            "rank": F.coalesce("rank", "answered.rank"),
            "arm": F.col("answered.arm"),
            "propensity": F.when(same_rank, F.col("answered.propensity")),
        }
    ).drop("shown", "answered")


def _last_before(exposures: Column) -> Column:
    """Return the last of exposures, sorted by time, that is not after the event; NULL where there is none."""
    before = F.filter(exposures, lambda one: one["shown_at"] <= F.col("ts"))
    return F.try_element_at(before, F.lit(-1))


def _has_rows(lake: Lake, table: str) -> bool:
    return current_snapshot(lake.spark, lake.ensure(table)) is not None
