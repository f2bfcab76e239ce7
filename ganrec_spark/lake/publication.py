"""Publishing and its way back: content-named editions, one pointer, rollback, retention.

Stages replace their working rows in place. What readers see is an edition: a copy named by the hash of its
content, written before the pointer moves and never changed (docs/adr/0003-publishing.md).
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake, Pointer, Publication
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.plan.tables import EDITED, TABLE_BY_NAME, TABLES


def content_hash(frames: Mapping[str, DataFrame]) -> str:
    """Return 12 hex digits that depend on the frames' rows alone, not on their order or partitions."""
    digests = []
    for name in sorted(frames):
        frame = frames[name]
        row_hash = F.xxhash64(*[F.col(column).cast("string") for column in sorted(frame.columns)])
        # Wrapping 64-bit sums would raise under ANSI arithmetic; decimals do not overflow here.
        total = frame.select(row_hash.cast("decimal(38,0)").alias("hash")).agg(
            F.count("*").alias("rows"), F.sum("hash").alias("sum")
        )
        row = total.collect()[0]
        digests.append(f"{name}:{row.rows}:{row['sum']}")
    return hashlib.sha256("|".join(digests).encode()).hexdigest()[:12]


def table_digests(lake: Lake, run_id: str) -> dict[str, str]:
    """Return a content hash of every table of one run: equal digests mean equal rows.

    Left out: stage_log, current_run and logs of events, which hold times, and the editions with their exposures, which
    are copies.
    """
    left_out = ("stage_log", "exposures")
    names = [table.name for table in TABLES if table.scope in ("run", "append") and table.name not in left_out]
    digests = {}
    for name in names:
        rows = lake.read_all(name)
        if TABLE_BY_NAME[name].scope == "run":
            rows = rows.where(F.col("run_id") == F.lit(run_id))
        digests[name] = content_hash({name: rows})
    return digests


def write_edition(lake: StageLake, exposures: DataFrame, named: bool) -> str:
    """Copy this run's tables for readers into an edition named by their content; return its name.

    Beside them what it shows to whom. `named`: whether the exposures count in the name, too: who is in which arm, and
    what was drawn with which chance, then never changes under a name that was shown.
    """
    frames = {name: lake.read(name) for name in EDITED}
    edition = content_hash({**frames, "exposures": exposures} if named else frames)
    for name, frame in frames.items():
        lake.write_edition(f"{name}_editions", frame.withColumn("edition", F.lit(edition)), edition)
    lake.write_edition("exposures", exposures.withColumn("edition", F.lit(edition)), edition)
    return edition


def published_before(lake: Lake, run_id: str) -> Publication | None:
    """Return the last publication of an older run: the same one, however often this run is published."""
    return next((one for one in lake.publications() if RunId.parse(one.run_id) < RunId.parse(run_id)), None)


def run_ids(frame: DataFrame) -> list[str]:
    """Return the runs that have rows in a frame with column run_id, newest first."""
    found = [str(row.run_id) for row in frame.select("run_id").distinct().collect()]
    return sorted(found, key=RunId.parse, reverse=True)


def earlier_runs(frame: DataFrame, run_id: str) -> DataFrame:
    """Return the rows of runs before `run_id`; their names' order as text is not that of runs."""
    own = RunId.parse(run_id)
    return frame.where(F.col("run_id").isin([one for one in run_ids(frame) if RunId.parse(one) < own]))


def of_edition(lake: Lake, table: str, publication: Publication) -> DataFrame:
    """Return the rows of a table of editions that one publication shows."""
    of_run = F.col("run_id") == publication.run_id
    return lake.read_all(table).where(of_run & (F.col("edition") == publication.edition))


def roll_back(lake: Lake, run_id: str | None = None) -> str:
    """Point readers to the newest kept edition of `run_id`, or to what was published before the current one.

    Called again without a run it goes back once more. Returns the run id. Raises LakeError where nothing is kept to
    go back to, or the pointer moved meanwhile.
    """
    shown = lake.published()
    kept = stored_editions(lake)
    if run_id is None:
        target = next((key for key in reversed(publication_stack(lake)[:-1]) if key in kept), None)
    else:
        ever = [(one.run_id, one.edition) for one in lake.publications()]
        target = next((key for key in (*ever, *kept) if key[0] == run_id and key in kept and key != _key(shown)), None)
    if target is None:
        found = ", ".join(sorted({run for run, _ in kept})) or "none"
        raise LakeError(
            f"table 'current_run': expected an edition of {run_id or 'what was published before'} other than the one "
            f"that readers see, found editions of these runs: {found}; older ones were pruned (publish.keep_editions)"
        )
    if not lake.point_to(*target, instead=shown):
        raise LakeError(
            f"table 'current_run': expected {shown.run_id} to be published still, found that another process moved it; "
            "look at `ganrec publications` and decide again"
        )
    if target not in stored_editions(lake):
        back = (shown.run_id, shown.edition)
        if shown.run_id and shown.edition and back in kept:
            lake.point_to(shown.run_id, shown.edition, instead=lake.published())
        raise LakeError(
            f"run '{target[0]}': expected edition {target[1]} to be kept, found that another process pruned it "
            "meanwhile; "
            "readers see what they saw before, see `ganrec publications`"
        )
    return target[0]


def publication_stack(lake: Lake) -> list[tuple[str, str]]:
    """Return (run id, edition) of what was published one after the other, the current one last.

    What a rollback went back over is not among them.
    """
    stack: list[tuple[str, str]] = []
    for publication in reversed(lake.publications()):
        key = (publication.run_id, publication.edition)
        stack = [*stack[: stack.index(key)], key] if key in stack else [*stack, key]
    return stack


def stored_editions(lake: Lake) -> list[tuple[str, str]]:
    """Return (run id, edition) of every edition whose rows are kept, published or not, newest written first."""
    place = "data_file.partition"
    parts = [
        lake.spark.table(f"{lake.ensure(f'{name}_editions')}.entries")
        .where("status <> 2")
        .select(f"{place}.run_id", f"{place}.edition", "sequence_number")
        for name in ("recommendations", "unserved_users")  # one of the two has rows
    ]
    newest = parts[0].union(parts[1]).groupBy("run_id", "edition").agg(F.max("sequence_number").alias("written"))
    return [(row.run_id, row.edition) for row in newest.orderBy(F.desc("written"), "run_id", "edition").collect()]


def prune_editions(lake: Lake, keep: int) -> int:
    """Delete editions but the current one, the newest `keep` published and the newest `keep` never published.

    A date that was run late is not published where a newer one is; its edition is kept for a rollback to it. Returns
    how many were deleted.
    """
    published = list(dict.fromkeys((one.run_id, one.edition) for one in lake.publications()))
    stored = stored_editions(lake)
    never = [key for key in stored if key not in published]
    spared = {_key(lake.published()), *published[:keep], *never[:keep]}
    doomed = [key for key in stored if key not in spared]
    for run_id, edition in doomed:
        if (run_id, edition) == _key(lake.published()):
            continue  # a rollback has just gone there
        for name in EDITED:
            lake.spark.sql(
                f"DELETE FROM {lake.ensure(f'{name}_editions')} WHERE run_id = :run_id AND edition = :edition",
                args={"run_id": run_id, "edition": edition},
            )
    return len(doomed)


def prune_exposures(lake: Lake, days: int, now: datetime) -> int:
    """Delete exposures of editions that are gone and that nobody saw for `days`; return of how many editions.

    Feedback may come days after an item was shown, also after many editions: exposures go by age, not with
    publish.keep_editions. What was never published was shown to nobody.
    """
    table, place = lake.ensure("exposures"), "data_file.partition"
    # First of all: an edition is written before its exposures, so one that is being published counts as kept.
    rows = lake.spark.table(f"{table}.entries").where("status <> 2").select(f"{place}.run_id", f"{place}.edition")
    written = {(row.run_id, row.edition) for row in rows.distinct().collect()}
    kept = set(stored_editions(lake))
    last_seen: dict[tuple[str, str], datetime] = {}
    until = now
    for one in lake.publications():
        last_seen.setdefault((one.run_id, one.edition), until)
        until = datetime.fromisoformat(one.committed_at).replace(tzinfo=UTC)
    fresh = {key for key, seen in last_seen.items() if seen >= now - timedelta(days=days)}
    doomed = sorted(written - kept - fresh)
    for run_id, edition in doomed:
        lake.spark.sql(
            f"DELETE FROM {table} WHERE run_id = :run_id AND edition = :edition",
            args={"run_id": run_id, "edition": edition},
        )
    return len(doomed)


def _key(pointer: Pointer) -> tuple[str | None, str | None]:
    return pointer.run_id, pointer.edition
