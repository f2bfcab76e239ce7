"""Overlays: editions of single users over the published one (docs/adr/0043-overlays.md)."""

import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.lake.publication import base_of, delete_editions, of_edition
from ganrec_spark.lake.schema import check_run_id
from ganrec_spark.lake.store import Lake, Pointer, Publication
from ganrec_spark.plan.tables import EDITED

# What an overlay has rows in, by the names of the working tables.
OVERLAID = {
    "exposures": "exposures",
    "unserved_users": "unserved_users_editions",
    "recommendations": "recommendations_editions",
}


def lay_over(
    lake: Lake,
    shown: Pointer,
    frames: Mapping[str, DataFrame],
    users: DataFrame,
    events: int,
    require: Callable[[], object] = lambda: None,
) -> str | None:
    """Show the frames (names of OVERLAID) of `users` (user_idx) in place of what `shown` has of them, in one commit.

    `events`: the snapshot of feedback_events that they know. `require` raises where they must not be shown; it is asked
    while they are written, which readers do not see. Returns the overlay's name; None where the pointer has moved since
    `shown` was read. Where they are not shown nothing is left of them. Rows of other users are not touched.
    """
    if shown.run_id is None or shown.edition is None:
        raise ValueError("nothing is published that could be laid over")
    name, run_id = new_name(shown.edition), shown.run_id
    rows = {full: frames[table] for table, full in OVERLAID.items()} | {"refreshed_users": users}
    # Side by side: a small commit waits for the catalog and the files more than for the cores.
    with ThreadPoolExecutor(len(rows)) as pool:
        written = [pool.submit(_write, lake, table, frame, run_id, name) for table, frame in rows.items()]
        try:
            require()
        except Exception:
            wait(written)
            delete_editions(lake, [(run_id, name)], exposures=True)
            raise
    for each in written:
        each.result()
    if lake.point_to(shown.run_id, shown.edition, shown, (*shown.overlays, name), events):
        return name
    delete_editions(lake, [(shown.run_id, name)], exposures=True)
    return None


def compact(lake: Lake) -> str | None:
    """Write what readers see as one edition without overlays and show that; return its name.

    None where there is nothing to compact, or the pointer moved meanwhile.
    """
    shown = lake.published()
    if shown.run_id is None or shown.edition is None or not shown.overlays:
        return None
    name, publication = new_name(shown.edition), Publication(shown.run_id, shown.edition, "", shown.overlays)
    for table in ("exposures", *(f"{one}_editions" for one in EDITED)):
        _write(lake, table, of_edition(lake, table, publication).drop("run_id", "edition"), shown.run_id, name)
    if lake.point_to(shown.run_id, name, shown, (), shown.events):
        return name
    delete_editions(lake, [(shown.run_id, name)], exposures=True)
    return None


def new_name(edition: str) -> str:
    """Return a name for what is made of an edition, by chance: two who make the same must not share rows."""
    return f"{base_of(edition)}.{uuid.uuid4().hex[:8]}"


def _write(lake: Lake, table: str, frame: DataFrame, run_id: str, edition: str) -> None:
    lake.replace(table, frame.withColumn("edition", F.lit(edition)), check_run_id(run_id), only={"edition": edition})
