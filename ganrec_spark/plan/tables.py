"""Every table of the lake: its grain, key, columns and what each means. They become SQL comments.

Tables of a run carry `run_id` first (and `phase` second where both phases write them); `Lake` adds and filters
these columns, so the stages never name them. Missing user-item pairs are unknown, never zero.
"""

from ganrec_spark.plan.attribute_tables import ATTRIBUTE_TABLES
from ganrec_spark.plan.feedback_tables import FEEDBACK_TABLES
from ganrec_spark.plan.fill_tables import FILL_TABLES
from ganrec_spark.plan.learning_tables import LEARNING_TABLES
from ganrec_spark.plan.member_tables import MEMBER_TABLES
from ganrec_spark.plan.published_tables import PUBLISHED_TABLES
from ganrec_spark.plan.rating_tables import RATING_TABLES
from ganrec_spark.plan.shown_tables import SHOWN_TABLES
from ganrec_spark.plan.table import Column, Table

TABLES = (
    *RATING_TABLES,
    *ATTRIBUTE_TABLES,
    *FEEDBACK_TABLES,
    *FILL_TABLES,
    *MEMBER_TABLES,
    *PUBLISHED_TABLES,
    *SHOWN_TABLES,
    *LEARNING_TABLES,
)

_BY_NAME = {table.name: table for table in TABLES}


def _editions(name: str) -> Table:
    """Return the table of published copies of `name`: working rows may be replaced, an edition never changes."""
    table = _BY_NAME[name]
    column = Column("edition", "string", "hash of the edition's content; current_run names the one that readers see")
    return Table(
        f"{name}_editions",
        f"published copy: {table.grain}",
        ("edition", *table.key),
        (*table.columns, column),
        partition_by=("edition",),
        renamed=table.renamed,
    )


EDITED = ("recommendations", "unserved_users", "metrics", "gate_decisions")
EDITIONS = tuple(_editions(name) for name in EDITED)

TABLE_BY_NAME = _BY_NAME | {table.name: table for table in EDITIONS}

# Views join current_run, so one commit of that row switches every reader at once.
PUBLISHED_VIEWS = {f"published_{name}": f"{name}_editions" for name in EDITED} | {"published_exposures": "exposures"}
