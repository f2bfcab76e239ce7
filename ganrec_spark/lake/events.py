"""Logs of events: rows are only ever added, each once by the table's key, whoever writes at the same time."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.iceberg import Conflict, current_snapshot, replace_rows
from ganrec_spark.lake.schema import cast_columns, declared
from ganrec_spark.lake.store import Lake

_TRIES = 20


def append(lake: Lake, table: str, events: DataFrame) -> int:
    """Add those events whose key the log does not have, in one commit; return their number.

    Of events that share a key one is taken. An attempt that died, or a delivery that comes again, adds nothing twice:
    of two commits that began with the same log the second one fails, and is tried again with what is there then.
    Raises LakeError where others were faster at every try.
    """
    declaration, full_name, keys = declared(table), lake.ensure(table), list(declared(table).key)
    once = events.select(*cast_columns(declaration)).dropDuplicates(keys)
    nothing = F.lit(False)  # is replaced; of a commit that replaces nothing Iceberg holds any other one for a conflict
    for _ in range(_TRIES):
        seen = current_snapshot(lake.spark, full_name)
        fresh = once.join(lake.as_of(table, seen).select(*keys), keys, "left_anti")
        try:
            return replace_rows(fresh, full_name, nothing, seen)[0]
        except Conflict:
            continue
    raise LakeError(f"table '{table}': expected to add events, found others adding theirs at each of {_TRIES} tries")
