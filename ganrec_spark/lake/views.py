"""The views that readers of published data go through: one row of current_run says what all of them show."""

import hashlib
from typing import TYPE_CHECKING

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException

from ganrec_spark.lake.schema import declared
from ganrec_spark.plan.tables import PUBLISHED_VIEWS

if TYPE_CHECKING:
    from ganrec_spark.lake.store import Lake

_PROPERTY = "ganrec.query"  # a hash of the view's query: an earlier version may have made it with another one


def create_views(lake: "Lake") -> None:
    """Create the views, and those anew that an earlier version made otherwise."""
    for view, table in PUBLISHED_VIEWS.items():
        query = view_query(lake, table)
        digest = hashlib.sha256(query.encode()).hexdigest()[:12]
        names = ["run_id", *(column.name for column in declared(table).columns)]
        if _known(lake, view) != (digest, names):
            lake.spark.sql(
                f"CREATE OR REPLACE VIEW {lake.name(view)} COMMENT 'rows of the published run' "
                f"TBLPROPERTIES ('{_PROPERTY}' = '{digest}') AS {query}"
            )


def view_query(lake: "Lake", table: str) -> str:
    """Return what is published of a table of editions: of its users, where it has any, what the newest overlay shows.

    The pointer comes first, for Spark looks up tables from left to right: what it names is written before it moves.
    """
    columns = declared(table).columns
    names = ", ".join(f"t.{name}" for name in ("run_id", *(column.name for column in columns)))
    pointer, rows = lake.ensure("current_run"), lake.ensure(table)
    if "user_idx" not in (column.name for column in columns):
        return (
            f"SELECT {names} FROM {pointer} p JOIN {rows} t ON t.run_id = p.published_run_id AND t.edition = p.edition"
        )
    parts = "concat(array(edition), coalesce(overlays, CAST(array() AS array<string>)))"
    shown = f"SELECT published_run_id, {parts} AS parts FROM {pointer}"
    each = f"SELECT published_run_id, parts, posexplode(parts) AS (place, part) FROM ({shown})"
    return (
        f"SELECT {names} FROM ({each}) p JOIN {rows} t ON t.run_id = p.published_run_id AND t.edition = p.part "
        f"WHERE NOT EXISTS (SELECT 1 FROM {lake.ensure('refreshed_users')} r WHERE r.run_id = t.run_id "
        "AND r.user_idx = t.user_idx AND array_position(p.parts, r.edition) > p.place + 1)"
    )


def _known(lake: "Lake", view: str) -> tuple[str | None, list[str]]:
    """Return the hash that the view was made with, and its columns; nothing where it is missing or broken.

    Both, for Iceberg keeps the property of a view that an earlier version replaces.
    """
    try:
        rows = lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name(view)}").collect()
        columns = lake.spark.table(lake.name(view)).columns
    except (AnalysisException, Py4JJavaError):
        return None, []
    return next((row.value for row in rows if row.key == _PROPERTY), None), columns
