"""Publishing and its way back: content-named editions, one pointer, rollback, retention.

Stages replace their working rows in place. What readers see is an edition: a copy named by the hash of its
content, written before the pointer moves and never changed (docs/adr/0003-publishing.md).
"""

import hashlib
from collections.abc import Mapping, Sequence
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
        texts = (f"CAST(`{column}` AS string)" for column in sorted(frames[name].columns))
        # Wrapping 64-bit sums would raise under ANSI arithmetic; decimals do not overflow here.
        row_hash = f"CAST(xxhash64({', '.join(texts)}) AS decimal(38,0))"
        row = frames[name].selectExpr("count(*) AS rows", f"sum({row_hash}) AS sum").collect()[0]
        digests.append(f"{name}:{row.rows}:{row['sum']}")
    return hashlib.sha256("|".join(digests).encode()).hexdigest()[:12]


def table_digests(lake: Lake, run_id: str) -> dict[str, str]:
    """Return a content hash of every table of one run: equal digests mean equal rows.

    Left out: stage_log, current_run, logs of events and what is known of them, which hold times, and the editions with
    their exposures, which are copies.
    """
    left_out = ("stage_log", "exposures", "known_events", "refreshed_users")
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


def base_of(edition: str) -> str:
    """Return the edition of a whole run that an overlay, or what overlays were compacted to, goes back to."""
    return edition.partition(".")[0]


def of_edition(lake: Lake, table: str, publication: Publication) -> DataFrame:
    """Return the rows of a table of editions that one publication shows, of its users those of the newest overlay."""
    rows = lake.read_all(table).where(F.col("run_id") == publication.run_id)
    if not publication.overlays or "user_idx" not in rows.columns:
        return rows.where(F.col("edition") == publication.edition)
    parts, refreshed = list(publication.parts), lake.read_all("refreshed_users")
    place = F.array_position(F.lit(parts), F.col("edition"))
    own = refreshed.where((F.col("run_id") == publication.run_id) & F.col("edition").isin(parts))
    newest = own.groupBy("user_idx").agg(F.max(place).alias("newest"))
    shown = rows.where(F.col("edition").isin(parts)).join(newest, "user_idx", "left")
    return shown.where(place == F.coalesce("newest", F.lit(1))).select(*rows.columns)


def shown_since(publications: Sequence[Publication]) -> list[tuple[str, str, str]]:
    """Return (run id, edition, moment in UTC) of what readers saw anew, each time that they did, the oldest first.

    In: publications, newest first. Of one commit the overlays come a microsecond after what is below them.
    """
    rows: list[tuple[str, str, str]] = []
    before: tuple[str, tuple[str, ...]] = ("", ())
    for one in reversed(publications):
        known = before[1] if before[0] == one.run_id else ()
        added = one.parts[len(known) :] if known == one.parts[: len(known)] else one.parts
        began = datetime.fromisoformat(one.committed_at)
        rows += [
            (one.run_id, edition, str(began + timedelta(microseconds=place))) for place, edition in enumerate(added)
        ]
        before = one.run_id, one.parts
    return rows


def roll_back(lake: Lake, run_id: str | None = None) -> str:
    """Point readers to the newest kept state of `run_id`, or to the run that was published before the current one.

    As it was last shown, with its overlays. Called again without a run it goes back once more; with the published run
    it goes back before its last refresh. Returns the run id. Raises LakeError where nothing is kept to go back to, or
    the pointer moved meanwhile.
    """
    shown = lake.published()
    stored = stored_editions(lake)
    ever = [one for one in lake.publications() if _is_kept(one, stored)]
    if run_id is None:
        wanted = list(reversed(publication_stack(lake)[:-1]))
        found = next((key for key in wanted if key in map(_whole, ever)), None)
        target = next((one for one in ever if _whole(one) == found), None)
    else:
        late = [Publication(run, edition, "") for run, edition in stored if edition == base_of(edition)]
        states = [one for one in (*ever, *late) if one.run_id == run_id]
        target = next((one for one in states if (run_id, *one.parts) != (shown.run_id, *_parts(shown))), None)
    if target is None:
        found_runs = ", ".join(sorted({run for run, _ in stored})) or "none"
        raise LakeError(
            f"table 'current_run': expected an edition of {run_id or 'what was published before'} other than the one "
            f"that readers see, found editions of these runs: {found_runs}; older ones were pruned "
            "(publish.keep_editions)"
        )
    if not lake.point_to(target.run_id, target.edition, shown, target.overlays, target.events):
        raise LakeError(
            f"table 'current_run': expected {shown.run_id} to be published still, found that another process moved it; "
            "look at `ganrec publications` and decide again"
        )
    if not _is_kept(target, stored_editions(lake)):
        if shown.run_id and shown.edition and (shown.run_id, shown.edition) in stored:
            lake.point_to(shown.run_id, shown.edition, lake.published(), shown.overlays, shown.events)
        raise LakeError(
            f"run '{target.run_id}': expected edition {target.edition} to be kept, found that another process pruned "
            "it meanwhile; readers see what they saw before, see `ganrec publications`"
        )
    return target.run_id


def publication_stack(lake: Lake) -> list[tuple[str, str]]:
    """Return (run id, edition) of the whole runs that were published one after the other, the current one last.

    What a rollback went back over is not among them.
    """
    stack: list[tuple[str, str]] = []
    for publication in reversed(lake.publications()):
        key = _whole(publication)
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

    Overlays go with what they lie over, but for those of its last publication. A date that was run late is not
    published where a newer one is; its edition is kept for a rollback to it. Returns how many were deleted.
    """
    publications, stored = lake.publications(), stored_editions(lake)
    last: dict[tuple[str, str], Publication] = {}
    for one in publications:
        last.setdefault(_whole(one), one)
    ever = {(one.run_id, part) for one in publications for part in (*one.parts, base_of(one.edition))}
    never = [key for key in stored if key not in ever]
    spared = {(one.run_id, part) for one in [*last.values()][:keep] for part in (*one.parts, base_of(one.edition))}
    for is_whole in (True, False):  # an overlay may be on its way to be published
        spared |= set([key for key in never if (base_of(key[1]) == key[1]) == is_whole][:keep])
    doomed = [key for key in stored if key not in spared]
    if doomed:
        shown = lake.published()  # a rollback may have just gone there
        current = {(shown.run_id, part) for part in (*_parts(shown), base_of(shown.edition or ""))}
        delete_editions(lake, [key for key in doomed if key not in current])
    return len(doomed)


def delete_editions(lake: Lake, keys: Sequence[tuple[str, str]], exposures: bool = False) -> None:
    """Delete what readers were shown under these (run id, edition), and what it was told to have shown if wanted."""
    names = (*(f"{name}_editions" for name in EDITED), "refreshed_users", *(["exposures"] if exposures else []))
    runs: dict[str, list[str]] = {}
    for run_id, edition in keys:
        runs.setdefault(run_id, []).append(edition)
    for name in names if runs else ():
        own = [f"(run_id = ? AND edition IN ({', '.join('?' * len(editions))}))" for editions in runs.values()]
        values = [value for run_id, editions in runs.items() for value in (run_id, *editions)]
        lake.spark.sql(f"DELETE FROM {lake.ensure(name)} WHERE {' OR '.join(own)}", args=values)


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
        for part in one.parts:
            last_seen.setdefault((one.run_id, part), until)
        until = datetime.fromisoformat(one.committed_at).replace(tzinfo=UTC)
    fresh = {key for key, seen in last_seen.items() if seen >= now - timedelta(days=days)}
    doomed = sorted(written - kept - fresh)
    for run_id, edition in doomed:
        lake.spark.sql(
            f"DELETE FROM {table} WHERE run_id = :run_id AND edition = :edition",
            args={"run_id": run_id, "edition": edition},
        )
    return len(doomed)


def _parts(pointer: Pointer) -> tuple[str | None, ...]:
    return (pointer.edition, *pointer.overlays)


def _whole(publication: Publication) -> tuple[str, str]:
    return publication.run_id, base_of(publication.edition)


def _is_kept(publication: Publication, stored: Sequence[tuple[str, str]]) -> bool:
    return all((publication.run_id, part) in stored for part in publication.parts)
