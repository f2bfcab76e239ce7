"""Events come into the log, each once: judged, quarantined or numbered, joined to what was shown, appended.

Three kinds of commits, in this order: the quarantine, the dictionaries, the log. Each of them adds what is not there
yet, so a process that dies between two of them has lost nothing and doubled nothing: the same rows are given again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.feedback.exposed import with_exposures
from ganrec_spark.feedback.rules import apply_rules, source_settings, wanted_columns
from ganrec_spark.frames.dense_index import missing_ids
from ganrec_spark.frames.kept import side_by_side
from ganrec_spark.lake import events
from ganrec_spark.lake.held import held
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake, Publication
from ganrec_spark.raw.files import Files
from ganrec_spark.raw.sources import event_rows, read_events
from ganrec_spark.spark.plans import planned_for_few_rows

CLOCK_BACK = timedelta(minutes=1)  # Iceberg refuses commits that are older than that
LOG, REJECTED = "feedback_events", "rejected_feedback"
TOO_LATE, _UNKNOWN_EDITION, _DUPLICATE = "too_late", "unknown_edition", "duplicate"
UNREADABLE = "unreadable_file"
_KINDS = ("user", "item")
_SEEN_BY = "feedback"  # first_run_id of ids that came with events


@dataclass(frozen=True)
class Taken:
    """What became of a batch of rows; `late` events are among the new ones, `known` among the rejected rows."""

    new: int
    late: int
    duplicates: int
    rejected: dict[str, int]
    known: int
    new_users: int
    new_items: int

    @property
    def read(self) -> int:
        """The number of rows of the batch: each is new, a duplicate or rejected."""
        return self.new + self.duplicates + sum(self.rejected.values())

    def __add__(self, other: "Taken") -> "Taken":
        rules = {**self.rejected, **other.rejected}
        return Taken(
            self.new + other.new,
            self.late + other.late,
            self.duplicates + other.duplicates,
            {rule: self.rejected.get(rule, 0) + other.rejected.get(rule, 0) for rule in rules},
            self.known + other.known,
            self.new_users + other.new_users,
            self.new_items + other.new_items,
        )

    def in_words(self) -> str:
        """Return all of it in one sentence."""
        rules = ", ".join(
            f"{rule} {n}" for rule, n in sorted(self.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
        )
        again = f"; {self.known} of them are in the quarantine already" if self.known else ""
        return (
            f"{self.read} rows read, {self.new} new events ({self.late} of them late), {self.duplicates} duplicates, "
            f"{sum(self.rejected.values())} rejected{f' ({rules}{again})' if rules else ''}, "
            f"{self.new_users} new users, {self.new_items} new items"
        )


NOTHING = Taken(0, 0, 0, {}, 0, 0, 0)


def source_rows(spark: SparkSession, config: Config, source: str | Files, scratch: Path | None = None) -> DataFrame:
    """Return the rows of files, a folder or table as append_events takes them. Raises InputError as ingest does."""
    wanted, optional = wanted_columns(config.feedback)
    return read_events(spark, source_settings(config.feedback, config.ingest), source, wanted, optional, scratch)


def frame_rows(frame: DataFrame, config: Config, source: str, origin: str | None = None) -> DataFrame:
    """Return the rows of a frame, such as a micro-batch, as append_events takes them.

    Column `origin` says where each row is from; without one all are from `source`.
    """
    wanted, optional = wanted_columns(config.feedback)
    return event_rows(frame, source_settings(config.feedback, config.ingest), source, wanted, optional, origin)


def reject_file(lake: Lake, file: str, reason: str) -> Taken:
    """Quarantine a file of a stream that cannot be read at all, with the reason as its row; return the counts."""
    key = hashlib.sha256(f"{UNREADABLE} {file}".encode()).hexdigest()
    row = (key, UNREADABLE, file, json.dumps({"error": reason}), datetime.now(UTC))
    new = events.append(lake, REJECTED, local_frame(lake.spark, declared(REJECTED).columns, [row]))
    return replace(NOTHING, rejected={UNREADABLE: 1}, known=1 - new)


def require_readable(config: Config, rows: DataFrame) -> None:
    """Read and judge all rows to no end. Raises what append_events raises where that is the rows' fault alone."""
    judged = apply_rules(rows, config.feedback, config.ingest, datetime.now(UTC))
    judged.write.format("noop").mode("overwrite").save()


def append_events(lake: Lake, config: Config, rows: DataFrame, now: datetime | None = None) -> Taken:
    """Append those rows that are events and not in the log yet; quarantine those that are none; return the counts.

    In: one row per event (source_rows, frame_rows), the same whenever it is read. `now` is the moment at which they
    are received, by default this machine's clock. A row that is bad stops no other. Raises LakeError where the clock
    is behind the newest event's reception, with nothing written, and where other writers were faster at every try.
    """
    now = now or datetime.now(UTC)
    seen = current_snapshot(lake.spark, lake.ensure(LOG))
    log = events.events_of(lake, LOG, seen)
    newest, publications = side_by_side(lambda: _newest(log, now), lake.publications)
    judged = held(_judged(config, rows, publications, newest, now))
    try:
        with planned_for_few_rows(lake.spark, few=not judged.is_cached):
            around = _around(judged.where(_may_be_known()), timedelta(days=config.feedback.watermark_days))
            marked = held(_without_duplicates(judged, log.where(around)))
            try:
                return _taken(lake, marked, _Known(seen, around, newest), publications, now)
            finally:
                marked.unpersist()
    finally:
        judged.unpersist()


def _newest(log: DataFrame, now: datetime) -> datetime | None:
    """Return the time of the newest event, at most `now`: no client's clock, and no wrong hour of ours, is ahead of it.

    None where the log is empty. Raises LakeError where our own clock was set back.
    """
    ts, received = log.agg(F.max("ts"), F.max("received_at")).collect()[0]
    if ts is None:
        return None
    behind = received.replace(tzinfo=UTC) - now
    if behind > CLOCK_BACK:
        raise LakeError(
            f"table '{LOG}': expected a clock that is not behind the newest event's reception, found it "
            f"{behind.total_seconds():.0f} s behind; nothing was taken: set this machine's clock (NTP) and run it again"
        )
    newest: datetime = ts.replace(tzinfo=UTC)
    return min(newest, now)


def _judged(
    config: Config,
    rows: DataFrame,
    publications: Sequence[Publication],
    newest: datetime | None,
    now: datetime,
) -> DataFrame:
    """Return the rows with the first rule that they broke, of all rules."""
    judged = apply_rules(rows, config.feedback, config.ingest, now)
    rule = F.col("rule")
    if "edition" in rows.columns:
        unknown = ~F.col("edition").isin(sorted({part for one in publications for part in one.parts}))
        rule = F.coalesce(rule, F.when(F.col("edition").isNotNull() & unknown, _UNKNOWN_EDITION))
    if newest is not None:
        oldest = newest - timedelta(days=config.feedback.watermark_days)
        rule = F.coalesce(rule, F.when(F.col("ts") < F.lit(oldest), TOO_LATE))
    # A rule's hash is part of the key: a row may come too early today and too late next week.
    return judged.withColumn("rule", rule).withColumn("row_key", F.sha2(F.concat_ws(" ", "rule", "row_key"), 256))


def _may_be_known() -> Column:
    """Return whether a row's event may be in the log.

    An event that breaks a rule of the lake's by now may be there since it did not.
    """
    by_lake = F.col("rule").isin(TOO_LATE, _UNKNOWN_EDITION)
    return F.col("event_id").isNotNull() & (F.col("rule").isNull() | by_lake)


def _without_duplicates(judged: DataFrame, log: DataFrame) -> DataFrame:
    """Return the rows with rule `duplicate` where the log, or an earlier row of the batch, has their event."""
    known = log.select("event_id", F.lit(True).alias("in_log"))
    once = Window.partitionBy(F.coalesce("event_id", "row_key"), "valid").orderBy("ts", "row", "source")
    placed = (
        judged.withColumn("valid", F.col("rule").isNull())
        .withColumn("place", F.when(F.col("valid"), F.row_number().over(once)))
        .join(known, "event_id", "left")
    )
    duplicate = F.col("in_log") & _may_be_known() | (F.col("place") > 1)
    return placed.withColumn("rule", F.when(duplicate, _DUPLICATE).otherwise(F.col("rule"))).drop(
        "valid", "place", "in_log"
    )


def _around(rows: DataFrame, window: timedelta) -> Column:
    """Return the condition on events of the log that may be those of `rows`: of their times, give or take `window`.

    What comes again has the time that it had. A client that gives its id another time is caught within the window.
    """
    first, last = rows.agg(F.min("ts").cast("string"), F.max("ts").cast("string")).collect()[0]
    if first is None:
        return F.lit(False)
    span = F.make_dt_interval(secs=F.lit(window.total_seconds()))
    low, high = (F.lit(moment).cast("timestamp") for moment in (first, last))
    return F.col("ts").between(low - span, high + span)


@dataclass(frozen=True)
class _Known:
    """The log that the rows were compared with: its snapshot, those events that may be theirs, its newest event."""

    snapshot: int | None
    around: Column
    newest: datetime | None


def _taken(
    lake: Lake,
    marked: DataFrame,
    known: _Known,
    publications: Sequence[Publication],
    now: datetime,
) -> Taken:
    """Write what there is to write, in the order that a death in between cannot harm."""
    late = F.count_if(F.col("ts") < F.lit(known.newest)) if known.newest else F.lit(0)
    counts = {
        row.rule: row for row in marked.groupBy("rule").agg(F.count("*").alias("n"), late.alias("late")).collect()
    }
    duplicates = counts.pop(_DUPLICATE).n if _DUPLICATE in counts else 0
    fresh = counts.pop(None, None)
    received = F.lit(now).cast("timestamp").alias("received_at")
    rejected = {rule: row.n for rule, row in counts.items()}
    quarantined = 0
    if rejected:
        bad = marked.where(F.col("rule").isNotNull() & (F.col("rule") != _DUPLICATE))
        quarantined = events.append(lake, REJECTED, bad.select("row_key", "rule", "source", "row", received))
    if fresh is None:
        return Taken(0, 0, duplicates, rejected, sum(rejected.values()) - quarantined, 0, 0)
    valid = marked.where(F.col("rule").isNull())
    (users, new_users), (items, new_items) = side_by_side(*(partial(_indices, lake, valid, kind) for kind in _KINDS))
    columns = ("event_id", "user_idx", "item_idx", "kind", "value", "ts", "edition", "rank", received)
    numbered = held(valid.join(users, "user_id").join(items, "item_id").select(*columns))
    try:
        answered = with_exposures(lake, numbered, publications)
        new = events.append(lake, LOG, answered, known.around, absent_as_of=(known.snapshot,))
    finally:
        for frame in (numbered, users, items):
            frame.unpersist()
    again = sum(rejected.values()) - quarantined
    # Others may have taken some of them meanwhile.
    return Taken(new, min(fresh.late, new), duplicates + fresh.n - new, rejected, again, new_users, new_items)


def _indices(lake: Lake, valid: DataFrame, kind: str) -> tuple[DataFrame, int]:
    """Return (id, index) of the rows' users or items (`kind`), and how many of them are new to the dictionary.

    The dictionary is asked to grow only where it lacks one: mostly it does not.
    """
    ids, table = valid.select(f"{kind}_id").distinct(), f"{kind}s"

    def known() -> DataFrame:
        return held(ids.join(lake.read_all(table).select(f"{kind}_id", f"{kind}_idx"), f"{kind}_id"))

    found = known()
    if ids.join(found, f"{kind}_id", "left_anti").isEmpty():
        return found, 0
    found.unpersist()
    n_new = lake.extend(table, missing_ids(valid, table, kind, _SEEN_BY))
    return known(), n_new
