"""What has to hold of a lake, whatever happened to those who wrote to it; what does not, and what would mend it."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Window
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.events import snapshot
from ganrec_spark.lake.iceberg import change_properties, current_snapshot, properties
from ganrec_spark.lake.publication import of_edition, stored_editions
from ganrec_spark.lake.store import Lake, Publication
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.run.log import at_work, withdraw
from ganrec_spark.run.signs import SIGN_OF_LIFE


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: level ok, warn or fail; `advice` says what to do where it is not ok."""

    level: str
    name: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:4}  {self.name}: {self.found}" + (f"; {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Repair:
    """What `--repair` would do, in words, and how."""

    words: str
    do: Callable[[], None]


Found = tuple[list[Finding], list[Repair]]


def dictionaries(lake: Lake) -> Found:
    """Look for ids that share an index, and the other way round."""
    findings, repairs = [], []
    for table, kind in (("users", "user"), ("items", "item")):
        rows = lake.read_all(table)
        ids = rows.groupBy(f"{kind}_id").count().where("count > 1").count()
        indices = rows.groupBy(f"{kind}_idx").agg(F.count_distinct(f"{kind}_id").alias("n")).where("n > 1").count()
        if not ids and not indices:
            findings.append(Finding("ok", table, f"{rows.count()} ids, each with an index of its own"))
            continue
        found = f"{ids} ids with several indices, {indices} indices with several ids"
        advice = (
            "what was published since then has strangers' lists: roll back to an edition before it (`ganrec "
            "rollback`), "
            "then `ganrec doctor --repair` and run the dates again"
        )
        findings.append(Finding("fail", table, found, advice))
        words = (
            f"table {table}: keep each id's first index, number the others anew, let every run begin at ingest again"
        )
        repairs.append(Repair(words, lambda table=table, kind=kind: _renumber(lake, table, kind)))  # type: ignore[misc]
    return findings, repairs


def _renumber(lake: Lake, table: str, kind: str) -> None:
    alive, _ = at_work(lake)
    if alive:
        raise LakeError(f"table '{table}': expected nobody at work, found {'; '.join(alive.values())}; repair it later")
    seen = current_snapshot(lake.spark, lake.ensure(table))
    rows = lake.as_of(table, seen)
    first = Window.partitionBy(f"{kind}_id").orderBy("first_run_id", f"{kind}_idx")
    once = rows.withColumn("place", F.row_number().over(first)).where("place = 1").drop("place")
    owner = Window.partitionBy(f"{kind}_idx").orderBy("first_run_id", f"{kind}_id")
    marked = once.withColumn("place", F.row_number().over(owner)).localCheckpoint()
    top = marked.agg(F.max(f"{kind}_idx")).collect()[0][0]
    fresh = Window.orderBy("first_run_id", f"{kind}_id")
    moved = marked.where("place > 1").withColumn(f"{kind}_idx", (F.lit(top) + F.row_number().over(fresh)).cast("int"))
    # First of all no run counts any more: where this one ends half-way, nobody builds on rows of the old numbers.
    for row in lake.read_all("stage_log").select("run_id").distinct().collect():
        withdraw(lake, row.run_id, "ingest", f"table {table} was numbered anew (ganrec doctor --repair)")
    lake.rewrite(table, marked.where("place = 1").unionByName(moved).drop("place"), seen)


def doubled_ratings(lake: Lake) -> Found:
    """Look for pairs of user and item that are rated twice."""
    # Of the newest run and of the published one: what is older is read by nobody.
    ever = [row.run_id for row in lake.read_all("stage_log").select("run_id").distinct().collect()]
    newest = max(ever, key=RunId.parse, default=None)
    runs = [run_id for run_id in {newest, lake.published().run_id} if run_id is not None]
    ratings = lake.read_all("ratings").where(F.col("run_id").isin(runs))
    pairs = ratings.groupBy("run_id", "origin", "user_idx", "item_idx").count().where("count > 1")
    found = pairs.groupBy("run_id").count().orderBy("run_id").collect()
    if not found:
        return [Finding("ok", "ratings", "one for each pair of user and item")], []
    told = ", ".join(f"{row['count']} in run {row['run_id']}" for row in found)
    advice = "the dictionaries gave an id two indices; repair them (--repair), then run these dates again"
    return [Finding("fail", "ratings", f"pairs rated twice: {told}", advice)], []


def feedback_log(lake: Lake) -> Found:
    """Look for events that are in the log twice, or of users and items that are in no dictionary."""
    log = snapshot(lake, "feedback_events")
    n_events = log.count()
    if not n_events:
        return [Finding("ok", "feedback_events", "no events")], []
    twice = log.groupBy("event_id").count().where("count > 1").count()
    strange = {}
    for table, kind in (("users", "user"), ("items", "item")):
        known = lake.read_all(table).select(f"{kind}_idx").distinct()
        strange[table] = log.join(known, f"{kind}_idx", "left_anti").count()
    wrong = [f"{twice} event ids twice"] if twice else []
    wrong += [f"{n} events of {table} that are in no dictionary" for table, n in strange.items() if n]
    if not wrong:
        return [Finding("ok", "feedback_events", f"{n_events} events, each once")], []
    advice = "delete them (`ganrec sql`) and give their sources to `ganrec feedback` again"
    return [Finding("fail", "feedback_events", ", ".join(wrong), advice)], []


def published(lake: Lake) -> Found:
    """Look whether what readers are shown is there."""
    shown, kept = lake.published(), stored_editions(lake)
    if shown.run_id is None:
        return [Finding("ok", "published", "nothing yet")], []
    parts = (shown.edition, *shown.overlays)
    gone = [part for part in parts if (shown.run_id, part) not in kept]
    told = f"run {shown.run_id}, edition {shown.edition}" + (f", {len(parts) - 1} overlays" if parts[1:] else "")
    if not gone:
        return [Finding("ok", "published", f"{told}; {len(kept)} editions kept")], []
    if shown.edition not in gone:
        found = f"{told}; rows of {len(gone)} overlays are gone: their users have no lists"
        return [Finding("fail", "published", found, "`ganrec rollback --to` the run, or run the date again")], []
    found = f"{told}, whose rows are gone: readers see nothing"
    return [Finding("fail", "published", found, "`ganrec rollback`, or run the date again")], []


def exposures(lake: Lake) -> Found:
    """Look whether it is known what readers are shown: every listed item once, with a chance above 0."""
    shown = lake.published()
    if shown.run_id is None or shown.edition is None:
        return [Finding("ok", "exposures", "nothing yet")], []
    edition = Publication(shown.run_id, shown.edition, "", shown.overlays)
    told = of_edition(lake, "exposures", edition).select("user_idx", "rank", "item_idx", "propensity")
    listed = of_edition(lake, "recommendations_editions", edition).select("user_idx", "rank", "item_idx")
    n_told, n_listed = told.count(), listed.count()
    if not n_told and n_listed:
        found = f"none of edition {shown.edition}: an earlier version published it"
        return [Finding("ok", "exposures", found)], []
    places = ["user_idx", "rank", "item_idx"]
    strange = told.join(listed, places, "left_anti").count() + listed.join(told, places, "left_anti").count()
    chances = told.where("NOT coalesce(propensity > 0 AND propensity <= 1, false)").count()
    if n_told == n_listed and not strange and not chances:
        return [Finding("ok", "exposures", f"{n_told} of edition {shown.edition}, as its lists are")], []
    found = (
        f"{n_told} for {n_listed} listed items of edition {shown.edition}; {strange} of one alone, {chances} "
        "without a chance"
    )
    advice = f"feedback cannot be judged by them; `ganrec stage publish --run-date {shown.run_id}` writes them again"
    return [Finding("fail", "exposures", found, advice)], []


def runs(lake: Lake) -> Found:
    """Look who is at work, and who ended without a word."""
    alive, dead = at_work(lake)
    findings = [Finding("ok", f"run {run_id}", f"at work: {words}") for run_id, words in alive.items()]
    findings += [
        Finding(
            "warn", f"run {run_id}", f"ended without a word: {words}", "run the date again; it goes on where it was"
        )
        for run_id, words in dead.items()
    ]
    table = lake.ensure("stage_log")
    signs = [name for name in properties(lake.spark, table) if name.startswith(SIGN_OF_LIFE)]
    old = [name for name in signs if not any(name.startswith(f"{SIGN_OF_LIFE}{run_id}.") for run_id in alive)]
    repairs = []
    if old:
        forget = dict.fromkeys(old)
        words = f"forget {len(old)} signs of life of processes that are gone"
        repairs.append(Repair(words, lambda: change_properties(lake.spark, table, forget)))
    return findings or [Finding("ok", "runs", "nobody is at work")], repairs
