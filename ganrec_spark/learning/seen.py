"""What was shown and what people did with it: exposures of published lists, with the events that they led to."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.publication import run_ids
from ganrec_spark.learning.fills import OF_FILL
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context

# Which lists count: all of the window, those of the published run, of runs before it, or made with its fill.
ALL, PUBLISHED, EARLIER = "all", "published", "earlier"


@dataclass(frozen=True)
class ShownLists:
    """What is looked at.

    `exposures`: run_id, edition, user_idx, rank, item_idx, arm, propensity, fill (of its run's published blend) of the
    lists of the window; users who were in several arms, `n_moved` of them, are left out. `events`: edition, user_idx,
    item_idx, kind, value, days of events on shown items. `trained_run_id` trained what is published, and `fill` is its
    blend's; `last_run_id` made the newest lists; `first_run_id` trained the window's first ones.
    """

    exposures: DataFrame
    events: DataFrame
    trained_run_id: str
    last_run_id: str
    first_run_id: str
    fill: str
    n_moved: int


def seen(context: Context) -> ShownLists:
    """Return what was shown by the published lists of learn.days up to this run's, and the events on it.

    An edition that two runs published, its content being the same, is the later one's; what was written and never
    pointed to was never seen. `exposures` are cached: unpersist them. Raises LakeError where nothing is kept that this
    run or one before it published.
    """
    lake, settings = context.lake, context.config.learn
    own = RunId.parse(context.run_id)
    after = own.day - timedelta(days=settings.days)
    ever = sorted(lake.lake.publications(), key=lambda one: RunId.parse(one.run_id))
    counted = {
        part: one.run_id
        for one in ever
        for part in one.parts
        if after < RunId.parse(one.run_id).day and RunId.parse(one.run_id) <= own
    }
    arms = [arm.name for arm in context.config.experiment.arms]
    key = F.concat_ws(" ", "run_id", "edition")
    of_runs = F.col("run_id").isin([*counted.values()])  # what partitions are read
    published = of_runs & key.isin([f"{run} {edition}" for edition, run in counted.items()])
    rows = lake.read_runs("exposures").where(published & F.col("arm").isin(arms))
    runs, fills = run_ids(rows), _published_fills(context)
    if not runs or _models_of(runs[0], fills) is None:
        raise LakeError(
            f"table 'exposures', run '{context.run_id}': expected lists of arms {', '.join(arms)} that were published "
            f"in {settings.days} days (learn.days) up to it, found none; run `ganrec run`, see `ganrec publications`"
        )
    models = {run: _models_of(run, fills) or runs[0] for run in runs}
    pairs = [part for run in runs for part in (F.lit(run), F.lit(fills.get(models[run], NONE)))]
    moved = rows.groupBy("user_idx").agg(F.count_distinct("arm").alias("n")).where("n > 1").select("user_idx")
    kept = rows.join(moved, "user_idx", "left_anti").withColumn("fill", F.create_map(*pairs)[F.col("run_id")]).cache()
    events = lake.read("feedback_events").where("edition IS NOT NULL")
    used = events.groupBy("edition", "user_idx", "item_idx", "kind").agg(
        F.sum("value").alias("value"), F.collect_set(F.to_date("ts")).alias("days")
    )
    trained = models[runs[0]]
    return ShownLists(kept, used, trained, runs[0], models[runs[-1]], fills[trained], moved.count())


def _published_fills(context: Context) -> dict[str, str]:
    """Return the fill of each run's published blend, by run; a run that trained nothing has none."""
    rows = context.lake.read_runs("blend_weights").where("published").select("run_id", "fill").distinct().collect()
    return {row.run_id: row.fill for row in rows}


def _models_of(run_id: str, trained: Collection[str]) -> str | None:
    """Return the run whose models made a run's lists: its own, or the last one before it that trained some."""
    own = RunId.parse(run_id)
    return max((one for one in trained if RunId.parse(one) <= own), key=RunId.parse, default=None)


def since(context: Context, trained_run_id: str) -> datetime | None:
    """Return when the run began to read its ratings, by our clock; None where it is not logged."""
    log = context.lake.read_runs("stage_log").where((F.col("run_id") == trained_run_id) & (F.col("stage") == "ingest"))
    row = log.select("finished_at", "seconds").first()
    return None if row is None else row.finished_at - timedelta(seconds=row.seconds)


def events_apart(context: Context, trained_run_id: str) -> tuple[DataFrame, DataFrame]:
    """Return the events that were there when the run began to read, and those that came since."""
    events, begin = context.lake.read("feedback_events"), since(context, trained_run_id)
    if begin is None:
        return events.limit(0), events
    late = F.col("received_at") >= F.lit(begin)
    return events.where(~late), events.where(late)


def by_user(seen: ShownLists, kinds: list[str], decides: str) -> DataFrame:
    """Return the measures of learning.effects for each user, kind and `lists`, without activity before.

    Columns: lists, user_idx, arm, kind, exposures, hits, n_lists, gain, active, returned, value. Every user has a row
    for each kind, with zeros where there was nothing; of `lists` other than all, kind `decides` alone.
    """
    discount = 1 / F.log2(F.col("rank") + 1)
    of_list = Window.partitionBy("edition", "user_idx")
    shown = seen.exposures.withColumn("gain", discount / F.sum(discount).over(of_list))
    own_fill = F.when((F.lit(seen.fill) != NONE) & (F.col("fill") == seen.fill), F.lit(OF_FILL + seen.fill))
    part = F.when(F.col("run_id") == seen.last_run_id, PUBLISHED).otherwise(EARLIER)
    shown = shown.withColumn("lists", F.explode(F.array_compact(F.array(F.lit(ALL), part, own_fill))))
    per_user = shown.groupBy("lists", "user_idx").agg(
        F.first("arm").alias("arm"), F.count("*").alias("exposures"), F.count_distinct("edition").alias("n_lists")
    )
    hits = shown.join(seen.events, ["edition", "user_idx", "item_idx"]).groupBy("lists", "user_idx", "kind")
    used = hits.agg(
        F.count("*").alias("hits"),
        F.sum("gain").alias("gain"),
        F.sum("value").alias("value"),
        (F.size(F.array_distinct(F.flatten(F.collect_list("days")))) - 1).alias("returned"),
    )
    each = F.explode(F.array(*(F.lit(kind) for kind in kinds))).alias("kind")
    everyone = per_user.select("*", each).where((F.col("lists") == ALL) | (F.col("kind") == decides))
    joined = everyone.join(used, ["lists", "user_idx", "kind"], "left")
    zeros: dict[str, bool | float | int | str] = {"hits": 0, "gain": 0.0, "value": 0.0, "returned": 0}
    return joined.fillna(zeros).withColumn("active", (F.col("hits") > 0).cast("int"))
