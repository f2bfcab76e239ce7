"""Tables are made from their declarations, and those that an earlier version made are brought along."""

from typing import TYPE_CHECKING

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException

from ganrec_spark.lake.iceberg import layout
from ganrec_spark.lake.schema import changes_to, create_statement, pieces
from ganrec_spark.lake.views import create_views
from ganrec_spark.plan.table import Table
from ganrec_spark.plan.tables import PUBLISHED_VIEWS

if TYPE_CHECKING:
    from ganrec_spark.lake.store import Lake

_TRIES = 10


def stored(lake: "Lake") -> frozenset[str]:
    """Return the names of the tables that there are: one question to the catalog, not one for each."""
    return frozenset(row.tableName for row in lake.spark.sql(f"SHOW TABLES IN {lake.name('')[:-1]}").collect())


def make(lake: "Lake", declaration: Table, is_stored: bool) -> None:
    """Create the table where it is missing; bring it along in any case: another process may have made it meanwhile."""
    if not is_stored:
        lake.spark.sql(create_statement(lake.name(declaration.name), declaration))
    _bring_along(lake, declaration)


def _bring_along(lake: "Lake", declaration: Table) -> None:
    """Rename the columns of an earlier version's table, add those it lacks, drop partitioning that has gone, sort.

    Added ones are NULL in its rows. Columns that have gone stay, with what is in them: replace_rows leaves them NULL.
    Views that name a renamed column are made anew.
    """
    full_name = lake.name(declaration.name)
    for attempt in range(_TRIES):
        found = layout(lake.spark, full_name, pieces(declaration))
        changes = changes_to(declaration, found)
        if not changes:
            return
        try:
            for change in changes:
                lake.spark.sql(f"ALTER TABLE {full_name} {change}")
            if (
                any(old in found.columns for old in declaration.renamed)
                and declaration.name in PUBLISHED_VIEWS.values()
            ):
                create_views(lake)
        except (Py4JJavaError, AnalysisException):
            if attempt + 1 == _TRIES:  # else another process was faster
                raise
