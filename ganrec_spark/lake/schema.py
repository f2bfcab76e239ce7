"""From a table's declaration to SQL and frames: how it is created, which rows are of a run, what a frame must be."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.iceberg import TableLayout
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.plan.table import Column as TableColumn
from ganrec_spark.plan.table import Table
from ganrec_spark.plan.tables import TABLE_BY_NAME

# Of a table that is sorted: a few hundred users' ratings, of which a query for a few users reads those it needs.
_ROW_GROUP_BYTES = 2**18
# Every task that reads some of a file's row groups reads what the file says of all of them first: of large files with
# many row groups, each read by many tasks, that took longer than the rows. So files are of some 300 row groups, and a
# task reads a whole one.
_FILE_BYTES, _TASK_COST = 2**24, 2**15


def declared(table: str) -> Table:
    """Return the declaration of a table. Raises LakeError for an unknown name."""
    try:
        return TABLE_BY_NAME[table]
    except KeyError:
        raise LakeError(f"table '{table}': not declared in tables.py") from None


def check_run_id(run_id: str) -> str:
    """Return `run_id` if it is one, and so safe in SQL and paths. Raises ConfigError otherwise."""
    return str(RunId.parse(run_id))


def of_run(declaration: Table, run_id: str, phase: str | None) -> Column:
    """Return the condition on rows of a run (and phase). Raises LakeError where a phase is missing."""
    condition = F.col("run_id") == F.lit(run_id)
    if not declaration.phased:
        return condition
    if phase is None:
        raise LakeError(f"table '{declaration.name}', run '{run_id}': expected a phase, found none")
    return condition & (F.col("phase") == F.lit(phase))


def local_frame(spark: SparkSession, columns: Iterable[TableColumn], rows: Sequence[tuple[object, ...]]) -> DataFrame:
    """Return rows of the driver as a frame with these columns.

    By way of Arrow, so that few rows become part of the plan: Spark runs no task to bring them there, and a write of
    them takes a third of the time.
    """
    types = StructType.fromDDL(", ".join(f"`{column.name}` {column.type}" for column in columns))
    schema = to_arrow_schema(cast(StructType, types))
    values: list[Sequence[object]] = [*zip(*rows, strict=True)] if rows else [()] * len(schema)
    arrays = [pa.array(own).cast(field.type) for own, field in zip(values, schema, strict=True)]
    return spark.createDataFrame(pa.table(arrays, schema=schema))


def as_declared(frame: DataFrame, declaration: Table) -> DataFrame:
    """Return the declared columns: NULL where the rows are older, without what an earlier version had beside them."""
    keys = ["run_id", *(["phase"] if declaration.phased else [])] if declaration.scope == "run" else []
    later = {column.name: column.type for column in declaration.columns if column.name not in frame.columns}
    names = [*keys, *(column.name for column in declaration.columns)]
    return frame.selectExpr(
        *[f"CAST(NULL AS {later[name]}) AS `{name}`" if name in later else f"`{name}`" for name in names]
    )


def conform(frame: DataFrame, declaration: Table, run_id: str, phase: str | None) -> DataFrame:
    """Return the frame with run_id (and phase) and the declared columns. Raises LakeError where it has others."""
    expected = [column.name for column in declaration.columns]
    if sorted(frame.columns) != sorted(expected):
        raise LakeError(
            f"table '{declaration.name}', run '{run_id}': expected columns {expected}, found {frame.columns}"
        )
    keys = [f"{_quote(run_id)} AS run_id"]
    if declaration.phased:
        keys.append(f"{'CAST(NULL AS string)' if phase is None else _quote(phase)} AS phase")
    return frame.selectExpr(*keys, *cast_columns(declaration))


def cast_columns(declaration: Table) -> list[str]:
    """Return the declared columns, cast to their types, in SQL: a call to the JVM for each would take longer."""
    return [f"CAST(`{column.name}` AS {column.type}) AS `{column.name}`" for column in declaration.columns]


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _definition(column: TableColumn) -> str:
    return f"`{column.name}` {column.type} COMMENT {_quote(column.comment)}"


def changes_to(declaration: Table, found: TableLayout) -> list[str]:
    """Return what ALTER TABLE has to do to a table that is laid out so to be as declared."""
    present = found.columns
    renamed = {old: new for old, new in declaration.renamed.items() if old in present and new not in present}
    known = {*present, *renamed.values()}
    missing = [_definition(column) for column in declaration.columns if column.name not in known]
    wanted = {"run_id", "phase", *declaration.partition_by}
    changes = [f"RENAME COLUMN `{old}` TO `{new}`" for old, new in renamed.items()]
    changes += [f"DROP PARTITION FIELD `{name}`" for name in found.parts if name not in wanted]
    changes += [f"ADD COLUMNS ({', '.join(missing)})"] if missing else []
    if found.order != declaration.sorted_by:
        # Rows go to the files that they went to before.
        spread = "DISTRIBUTED BY PARTITION " if declaration.scope == "run" else ""
        order = f"{spread}LOCALLY ORDERED BY {', '.join(declaration.sorted_by)}"
        changes.append(f"WRITE {order if declaration.sorted_by else 'UNORDERED'}")
    other = {name: value for name, value in pieces(declaration).items() if found.properties.get(name) != value}
    return [*changes, *([f"SET TBLPROPERTIES ({_listed(other)})"] if other else [])]


def pieces(declaration: Table) -> dict[str, str]:
    """Return the properties that say in how large pieces a table is written and read, where it is sorted."""
    if not declaration.sorted_by:
        return {}
    return {
        "write.parquet.row-group-size-bytes": str(_ROW_GROUP_BYTES),
        "write.target-file-size-bytes": str(_FILE_BYTES),
        "read.split.open-file-cost": str(_TASK_COST),
    }


def _listed(properties: Mapping[str, str]) -> str:
    return ", ".join(f"'{name}'='{value}'" for name, value in properties.items())


def create_statement(full_name: str, declaration: Table) -> str:
    """Return the statement that creates the table where it is missing."""
    columns = [_definition(column) for column in declaration.columns]
    partition = list(declaration.partition_by)
    if declaration.scope == "run":
        if declaration.phased:
            columns.insert(0, "`phase` string COMMENT 'choose (fitted on train) or final (train + validation)'")
            partition.insert(0, "phase")
        columns.insert(0, "`run_id` string COMMENT 'run that wrote the row'")
        partition.insert(0, "run_id")
    partitioning = f"PARTITIONED BY ({', '.join(partition)})" if partition else ""
    key = f" Key: {', '.join(declaration.key)}." if declaration.key else ""
    properties = {
        "format-version": "2",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
        **pieces(declaration),
    }
    return (
        f"CREATE TABLE IF NOT EXISTS {full_name} ({', '.join(columns)}) USING iceberg {partitioning} "
        f"COMMENT {_quote('One row: ' + declaration.grain + '.' + key)} "
        f"TBLPROPERTIES ({_listed(properties)})"
    )
