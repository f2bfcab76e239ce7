"""Who has events that the lists which readers see do not know, and which events the published run does not know."""

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Feedback
from ganrec_spark.errors import LakeError
from ganrec_spark.frames.users import Users
from ganrec_spark.lake.events import added_since, events_of
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.store import Lake, Pointer

LOG = "feedback_events"


@dataclass(frozen=True)
class News:
    """`users` whose lists are to be made anew, at least one.

    `events`: all of theirs that the published run did not know, as of the log's `snapshot`: those that earlier
    refreshes knew are among them, for lists are made from the run's tables each time.
    """

    users: Users
    events: DataFrame
    snapshot: int


def news(lake: Lake, shown: Pointer, feedback: Feedback) -> News | None:
    """Return what is new since what `shown` shows; None where nobody has an event that counts (feedback.kinds).

    Raises LakeError where it is not known what the run knew, or its snapshot has expired.
    """
    now = current_snapshot(lake.spark, lake.ensure(LOG))
    if now is None or now == shown.events:
        return None
    known, until = _known(lake, str(shown.run_id))
    # The run was for a date, and may have been late: of what it read it took the events of that date and before.
    late = events_of(lake, LOG, known).where(F.col("ts") >= F.lit(until))
    counting = F.col("kind").isin([kind for kind, weight in feedback.kinds.items() if weight])
    fresh = added_since(lake, LOG, known if shown.events is None else shown.events, now, "received_at")
    fresh = fresh if shown.events is not None else fresh.unionByName(late)
    users = Users.of(fresh.where(counting))
    if not users.n:
        return None
    unknown = added_since(lake, LOG, known, now, "received_at").unionByName(late)
    return News(users, users.keep(users.rows_of(unknown)), now)


def _known(lake: Lake, run_id: str) -> tuple[int | None, datetime]:
    row = lake.read("known_events", run_id).first()
    if row is None:
        raise LakeError(
            f"table 'known_events', run '{run_id}': expected the row that says which events the run knew, found none: "
            "an earlier version made it; run the date again, then refresh"
        )
    return row.snapshot, row.until
