"""Publishing and its way back: content-named editions, one pointer, rollback, retention.

Stages replace their working rows in place. What readers see is an edition: a copy named by the hash of its
content, written before the pointer moves and never changed (docs/adr/0003-publishing.md).
"""

import hashlib
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake import Lake, StageLake
from ganrec_spark.tables import EDITED, TABLE_BY_NAME, TABLES


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

    Left out: stage_log and current_run, which hold times, and the editions, which are copies.
    """
    names = [table.name for table in TABLES if table.scope != "pointer" and table.name != "stage_log"]
    digests = {}
    for name in names:
        rows = lake.read_all(name)
        if TABLE_BY_NAME[name].scope == "run":
            rows = rows.where(F.col("run_id") == F.lit(run_id))
        digests[name] = content_hash({name: rows})
    return digests


def write_edition(lake: StageLake) -> str:
    """Copy this run's tables for readers into an edition named by their content; return its name."""
    frames = {name: lake.read(name) for name in EDITED}
    edition = content_hash(frames)
    for name, frame in frames.items():
        lake.write_edition(f"{name}_editions", frame.withColumn("edition", F.lit(edition)), edition)
    return edition


def roll_back(lake: Lake, run_id: str | None = None) -> str:
    """Point readers to the last edition of `run_id`, or to what was published before the current one.

    Returns the run id. Raises LakeError where there is no such publication.
    """
    publications = lake.publications()
    current = lake.published()
    for publication in publications:
        if (publication.run_id, publication.edition) == current:
            continue
        if run_id is None or publication.run_id == run_id:
            _require_rows(lake, publication.run_id, publication.edition)
            lake.point_to(publication.run_id, publication.edition)
            return publication.run_id
    found = ", ".join(sorted({publication.run_id for publication in publications})) or "none"
    raise LakeError(f"table 'current_run': expected a publication of {run_id or 'another run'}, found {found}")


def prune_editions(lake: Lake, keep: int) -> int:
    """Delete editions that are neither current nor among the newest `keep` publications; return how many."""
    recent: list[tuple[str, str]] = []
    old: list[tuple[str, str]] = []
    for publication in lake.publications():
        key = (publication.run_id, publication.edition)
        if key not in recent and key not in old:
            (recent if len(recent) < keep else old).append(key)
    stored = lake.read_all("metrics_editions").select("run_id", "edition").distinct().collect() if old else []
    doomed = [key for key in old if key != lake.published() and key in {(row.run_id, row.edition) for row in stored}]
    for run_id, edition in doomed:
        for name in EDITED:
            lake.spark.sql(
                f"DELETE FROM {lake.ensure(f'{name}_editions')} WHERE run_id = :run_id AND edition = :edition",
                args={"run_id": run_id, "edition": edition},
            )
    return len(doomed)


def _require_rows(lake: Lake, run_id: str, edition: str) -> None:
    rows = lake.read_all("recommendations_editions").where((F.col("run_id") == run_id) & (F.col("edition") == edition))
    if rows.isEmpty():
        raise LakeError(
            f"table 'recommendations_editions', run '{run_id}': edition {edition} was pruned "
            "(publish.keep_editions); name a newer run with --to, see `ganrec publications`"
        )
