"""Logs of events: rows are only ever added, each once by the table's key, whoever writes at the same time."""

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.held import held
from ganrec_spark.lake.iceberg import Conflict, current_snapshot, replace_rows, sequence_number
from ganrec_spark.lake.schema import cast_columns, declared
from ganrec_spark.lake.store import Lake

_TRIES = 20


def append(
    lake: Lake, table: str, events: DataFrame, among: Column | None = None, absent_as_of: Collection[int | None] = ()
) -> int:
    """Add those events whose key the log does not have, in one commit; return their number.

    Of events that share a key one is taken. An attempt that died, or a delivery that comes again, adds nothing twice:
    of two commits that began with the same log the second one fails, and is tried again with what is there then.
    `among` says which of the log's rows may have one of the keys, so that the others need not be read, `absent_as_of`
    as of which snapshots none of them has. Where nothing is new there is no commit. Raises LakeError where others were
    faster at every try.
    """
    declaration, keys = declared(table), list(declared(table).key)
    once = held(events.selectExpr(*cast_columns(declaration)).dropDuplicates(keys))
    try:
        return _add(lake, table, once, among, absent_as_of)
    finally:
        once.unpersist()


def _add(lake: Lake, table: str, once: DataFrame, among: Column | None, absent_as_of: Collection[int | None]) -> int:
    full_name, keys = lake.ensure(table), list(declared(table).key)
    nothing = F.lit(False)  # is replaced; of a commit that replaces nothing Iceberg holds any other one for a conflict
    for _ in range(_TRIES):
        seen = current_snapshot(lake.spark, full_name)
        fresh = once
        if seen not in absent_as_of:
            known = lake.as_of(table, seen)
            fresh = held(once.join((known if among is None else known.where(among)).select(*keys), keys, "left_anti"))
        try:
            return 0 if fresh.isEmpty() else replace_rows(fresh, full_name, nothing, seen)[0]
        except Conflict:
            continue
        finally:
            if fresh is not once:
                fresh.unpersist()
    raise LakeError(f"table '{table}': expected to add events, found others adding theirs at each of {_TRIES} tries")


def snapshot(lake: Lake, table: str) -> DataFrame:
    """Return every row that the log has now; rows that others add while it is read are not among them."""
    return events_of(lake, table, current_snapshot(lake.spark, lake.ensure(table)))


def events_of(lake: Lake, table: str, seen: int | None) -> DataFrame:
    """Return every row that the log has as of a snapshot; None: it was empty."""
    rows = lake.as_of(table, seen)
    return rows if seen else rows.limit(0)  # the first rows may come while it is read


def added_since(lake: Lake, table: str, since: int | None, seen: int, received: str) -> DataFrame:
    """Return the events that the log has as of snapshot `seen` and did not have as of `since` (None: it was empty).

    `received`: the column of when an event was appended, by which Iceberg skips files: what is read follows the new
    events. Raises LakeError where the snapshot `since` has expired.
    """
    rows = lake.as_of(table, seen)
    if since is None:
        return rows
    if since == seen:
        return rows.limit(0)
    number = sequence_number(lake.spark, lake.ensure(table), since)
    if number is None:
        raise LakeError(
            f"table '{table}': expected snapshot {since}, after which new events are looked for, found that it has "
            "expired; run the date again, and keep the table's snapshots for longer"
        )
    new = lake.spark.table(f"{lake.ensure(table)}.entries").where(
        (F.col("status") < 2) & (F.col("sequence_number") > number)
    )
    first = new.agg(F.min(f"readable_metrics.{received}.lower_bound")).collect()[0][0]
    recent = F.lit(True) if first is None else F.col(received) >= F.lit(first)
    keys = list(declared(table).key)
    return rows.where(recent).join(lake.as_of(table, since).where(recent).select(*keys), keys, "left_anti")


def state(lake: Lake, table: str, rows: Column) -> str:
    """Return a text that changes when events are added that match `rows`: their number, and a sum over their keys."""
    hashed = F.xxhash64(*declared(table).key).cast("decimal(38,0)")  # sums of 64 bits would raise
    found = snapshot(lake, table).where(rows).agg(F.count("*").alias("n"), F.sum(hashed).alias("sum")).collect()[0]
    return f"{table} {found['n']} {found['sum']}"
