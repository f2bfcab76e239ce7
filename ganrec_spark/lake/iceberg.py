"""What the lake needs of Iceberg beyond SQL: commits that fail where a table moved since it was read; properties."""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

_CONFLICTS = (
    "org.apache.iceberg.exceptions.ValidationException",
    "org.apache.iceberg.exceptions.CommitFailedException",
)
_MARK = "ganrec.write"


class Conflict(Exception):
    """Another commit added rows that this one would have replaced or had to know; nothing was written."""


def current_snapshot(spark: SparkSession, full_name: str) -> int | None:
    """Return the id of the table's newest snapshot, past any cache; None where nothing was ever written."""
    snapshot = _table(spark, full_name).currentSnapshot()
    return None if snapshot is None else int(snapshot.snapshotId())


def sequence_number(spark: SparkSession, full_name: str, snapshot: int) -> int | None:
    """Return the number in the order of the table's commits of a snapshot; None where it has expired."""
    found = _table(spark, full_name).snapshot(snapshot)
    return None if found is None else int(found.sequenceNumber())


def replace_rows(
    frame: DataFrame,
    full_name: str,
    rows: Column,
    seen: int | None,
    properties: dict[str, str] | None = None,
    one_task: bool = False,
) -> tuple[int, int]:
    """Replace the rows that match `rows` in one commit; return the number of rows written and the snapshot's id.

    Columns that an earlier version left in the table are NULL in the new rows. Raises Conflict where a commit after the
    snapshot `seen` added rows that match (None: any commit did). With `one_task` the frame, one part that goes to one
    part of the table, is written as it is: no shuffle brings together what is together.
    """
    mark = uuid.uuid4().hex
    gone = [field for field in frame.sparkSession.table(full_name).schema if field.name not in frame.columns]
    frame = frame.withColumns({field.name: F.lit(None).cast(field.dataType) for field in gone})
    writer = frame.writeTo(full_name).option("isolation-level", "serializable")
    if one_task:
        writer = writer.option("distribution-mode", "none")
    if seen is not None:
        writer = writer.option("validate-from-snapshot-id", str(seen))
    for name, value in {_MARK: mark, **(properties or {})}.items():
        writer = writer.option(f"snapshot-property.{name}", value)
    try:
        writer.overwrite(rows)
    except Py4JJavaError as error:
        if any(name in _CONFLICTS for name, _ in causes(error)):
            raise Conflict(full_name) from None
        raise
    for snapshot in _newest_first(frame.sparkSession, full_name):
        if snapshot.summary().get(_MARK) == mark:
            return int(snapshot.summary().get("added-records") or 0), int(snapshot.snapshotId())
    raise Conflict(f"{full_name}: the snapshot just written is not in its history")


@dataclass(frozen=True)
class TableLayout:
    """A table's columns, those that it is partitioned by, those that writes are sorted by, and its properties."""

    columns: tuple[str, ...]
    parts: tuple[str, ...]
    order: tuple[str, ...]
    properties: dict[str, str]


def layout(spark: SparkSession, full_name: str, wanted: Iterable[str]) -> TableLayout:
    """Return how the table is laid out, past any cache, with the `wanted` ones of its properties.

    As JSON: to ask the JVM for each column takes longer than to read the table.
    """
    table, jvm = _table(spark, full_name), cast(Any, spark._jvm).org.apache.iceberg
    columns = json.loads(jvm.SchemaParser.toJson(table.schema()))["fields"]
    parts = json.loads(jvm.PartitionSpecParser.toJson(table.spec()))["fields"]
    order = json.loads(jvm.SortOrderParser.toJson(table.sortOrder()))["fields"]
    names = {column["id"]: column["name"] for column in columns}
    found = {name: table.properties().get(name) for name in wanted}
    return TableLayout(
        tuple(column["name"] for column in columns),
        tuple(part["name"] for part in parts),
        tuple(names[field["source-id"]] for field in order),
        {name: value for name, value in found.items() if value is not None},
    )


def properties(spark: SparkSession, full_name: str) -> dict[str, str]:
    """Return the table's properties, past any cache."""
    return dict(_table(spark, full_name).properties())


def change_properties(spark: SparkSession, full_name: str, values: dict[str, str | None]) -> None:
    """Set properties of the table, or remove those of value None, and leave the others; no snapshot, no Spark task."""
    update = _table(spark, full_name).updateProperties()
    for name, value in values.items():
        update = update.remove(name) if value is None else update.set(name, value)
    update.commit()


def causes(error: Py4JJavaError) -> Iterator[tuple[str, str]]:
    """Yield the Java class and message of an exception and of what caused it."""
    cause = error.java_exception
    while cause is not None:
        yield str(cause.getClass().getName()), str(cause.getMessage())
        cause = cause.getCause()


def reason(error: BaseException) -> str:
    """Return an error's innermost cause in one line, never the call that it came through."""
    told = [message for _, message in causes(error) if message and message != "None"] if _is_java(error) else []
    return (told[-1] if told else str(error)).strip().splitlines()[0][:300]


def _is_java(error: BaseException) -> TypeGuard[Py4JJavaError]:
    return isinstance(error, Py4JJavaError)


def _newest_first(spark: SparkSession, full_name: str) -> Iterator[Any]:
    table = _table(spark, full_name)
    snapshot = table.currentSnapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parentId()
        snapshot = None if parent is None else table.snapshot(parent)


def _table(spark: SparkSession, full_name: str) -> Any:
    jvm: Any = spark._jvm
    table = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, full_name)
    table.refresh()
    return table
