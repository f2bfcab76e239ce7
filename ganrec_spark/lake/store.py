"""The only door to the lake (Apache Iceberg): read, write, publish and roll back.

A write replaces the rows of one run (and phase) in one commit: a re-run leaves one copy, a crash leaves what
readers saw before. Iceberg has no transaction over several tables; readers of published data go through views
that join the one-row table current_run, so one commit shows them all of a run (docs/adr/0003-publishing.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.files import is_remote
from ganrec_spark.lake.iceberg import Conflict, causes, current_snapshot, replace_rows
from ganrec_spark.lake.made import make, stored
from ganrec_spark.lake.schema import (
    as_declared,
    cast_columns,
    check_run_id,
    conform,
    declared,
    of_run,
)
from ganrec_spark.lake.views import create_views

_TRIES = 10


@dataclass(frozen=True)
class Addition:
    """Rows to add to a dictionary: their number, and the column `index`, which counts them from `first` on."""

    rows: DataFrame
    count: int
    index: str
    first: int


@dataclass(frozen=True)
class Pointer:
    """What readers see, None before the first publication, and the snapshot of current_run that says so.

    `overlays`: editions of single users over it, the newest last; `events`: the snapshot of feedback_events that they
    know, None where that is what the run knew.
    """

    run_id: str | None
    edition: str | None
    snapshot: int | None
    overlays: tuple[str, ...] = ()
    events: int | None = None


@dataclass(frozen=True)
class Publication:
    """One commit of current_run: what readers saw from `committed_at` (UTC) on. See `Pointer`."""

    run_id: str
    edition: str
    committed_at: str
    overlays: tuple[str, ...] = ()
    events: int | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """All editions that it shows, the lowest first."""
        return (self.edition, *self.overlays)


class Lake:
    """All tables of one namespace. Stages get a `StageLake`, which knows run, phase and permissions."""

    def __init__(self, spark: SparkSession, catalog: str, namespace: str) -> None:
        self.spark = spark
        self._prefix = f"{catalog}.{namespace}"
        self._known: set[str] = set()
        self._stored: frozenset[str] | None = None
        self._has_views = False

    @property
    def is_remote(self) -> bool:
        """Whether its files are in an object store, which may be gone while the process is well."""
        return is_remote(self.spark.conf.get(f"spark.sql.catalog.{self._prefix.split('.')[0]}.warehouse", "") or "")

    def name(self, table: str) -> str:
        """Return the full SQL name of a table or view."""
        return f"{self._prefix}.{table}"

    def ensure(self, table: str) -> str:
        """Create the table from its declaration where it is missing, or bring it along; return its full name."""
        if table not in self._known:
            if self._stored is None:
                self._reach_catalog()
                self._stored = stored(self)
            make(self, declared(table), table in self._stored)
            self._known.add(table)
        return self.name(table)

    def _reach_catalog(self) -> None:
        """Create the namespace where it is missing. Raises LakeError where the catalog does not answer."""
        try:
            self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {self._prefix}")
        except Py4JJavaError as error:
            if not any("constraint" in message for _, message in causes(error)):  # else another process made it
                raise self._unreachable(error) from None

    def _unreachable(self, error: Py4JJavaError) -> LakeError:
        found = " / ".join(message for _, message in causes(error))
        return LakeError(
            f"catalog of '{self._prefix}': expected an answer, found: {found}; see lake.properties, and whether the "
            "catalog's server runs"
        )

    def read_all(self, table: str) -> DataFrame:
        """Return every row of a table, of all runs, with run_id (and phase)."""
        return as_declared(self.spark.table(self.ensure(table)), declared(table))

    def read(self, table: str, run_id: str, phase: str | None = None) -> DataFrame:
        """Return the rows of one run (and phase) without these columns; dictionaries are returned whole."""
        frame, scope = self.read_all(table), declared(table).scope
        if scope != "run":
            return frame
        return frame.where(of_run(declared(table), run_id, phase)).drop("run_id", "phase")

    def replace(
        self, table: str, frame: DataFrame, run_id: str, phase: str | None = None, only: Mapping[str, str] | None = None
    ) -> int:
        """Replace the rows of one run (and phase) in one commit; return the number of rows written.

        `only` narrows what is replaced to rows with these values of the table's partition_by columns. Raises LakeError
        where another process wrote the same rows meanwhile.
        """
        declaration = declared(table)
        conformed = conform(frame, declaration, check_run_id(run_id), phase)
        few = frame.isLocal() and not declaration.partition_by  # rows of the driver's, for one part of the table
        condition = of_run(declaration, run_id, phase)
        for column, value in (only or {}).items():
            condition = condition & (F.col(column) == F.lit(value))
        full_name = self.ensure(table)
        seen = current_snapshot(self.spark, full_name)
        if seen is None and frame.isLocal() and frame.isEmpty():
            return 0  # nothing for nothing: no commit
        try:
            return replace_rows(conformed.coalesce(1) if few else conformed, full_name, condition, seen, one_task=few)[
                0
            ]
        except Conflict:
            raise LakeError(
                f"table '{table}', run '{run_id}': expected no other process to write this run's rows, found that one "
                "did meanwhile, and wrote nothing; see which (`ganrec doctor`) and let one of them run at a time"
            ) from None

    def as_of(self, table: str, seen: int | None) -> DataFrame:
        """Return every row of a table as of a snapshot, with run_id; columns that came later are NULL."""
        frame = self.spark.sql(f"SELECT * FROM {self.ensure(table)}" + (f" VERSION AS OF {seen}" if seen else ""))
        return as_declared(frame, declared(table))

    def extend(self, table: str, additions: "Callable[[DataFrame], Addition]") -> int:
        """Add what `additions` finds missing among a dictionary's rows; return the number of rows added.

        Where another process added rows meanwhile, it is asked again with what is there then: no index is given twice.
        """
        full_name = self.ensure(table)
        for _ in range(_TRIES):
            seen = current_snapshot(self.spark, full_name)
            new = additions(self.as_of(table, seen))
            if not new.count:
                return 0
            above = F.col(new.index) >= F.lit(new.first)  # matches no row that is known, and every one added since
            try:
                return replace_rows(new.rows.selectExpr(*cast_columns(declared(table))), full_name, above, seen)[0]
            except Conflict:
                continue
        raise LakeError(
            f"table '{table}': expected to add rows, found others adding theirs at each of {_TRIES} tries; run it again"
        )

    def rewrite(self, table: str, frame: DataFrame, seen: int | None) -> None:
        """Replace all rows of a dictionary: for repairs alone. Raises LakeError where it changed since `seen`."""
        full_name = self.ensure(table)
        try:
            replace_rows(frame.selectExpr(*cast_columns(declared(table))), full_name, F.lit(True), seen)
        except Conflict:
            raise LakeError(f"table '{table}': found that another process added rows; repair it again") from None

    def exists(self) -> bool:
        """Whether the lake has tables yet. Raises LakeError where the catalog does not answer."""
        try:
            return self.spark.catalog.tableExists(self.name("stage_log"))
        except Py4JJavaError as error:
            raise self._unreachable(error) from None

    def clear(self, table: str, run_id: str, phase: str | None = None) -> None:
        """Delete the rows of one run (and phase), if there are any."""
        declaration = declared(table)
        condition = f"run_id = '{check_run_id(run_id)}'" + (f" AND phase = '{phase}'" if declaration.phased else "")
        self.spark.sql(f"DELETE FROM {self.ensure(table)} WHERE {condition}")

    def data_files(self, table: str, run_id: str, phase: str | None = None) -> list[str]:
        """Return the URLs of the Parquet files that hold the rows of one run (and phase), sorted by row group."""
        declaration = declared(table)
        files = self.spark.table(f"{self.ensure(table)}.files").where(F.col("partition.run_id") == run_id)
        if declaration.phased:
            files = files.where(F.col("partition.phase") == F.lit(phase))
        order = [F.col(f"partition.{column}") for column in declaration.partition_by]
        rows = files.orderBy(*order, "file_path").select("file_path").collect()
        return [row.file_path if "://" in row.file_path else f"file://{row.file_path}" for row in rows]

    def published(self) -> Pointer:
        """Return what readers see, as the catalog has it now."""
        full_name = self.ensure("current_run")
        seen = current_snapshot(self.spark, full_name)
        if seen is None:
            return Pointer(None, None, None)
        names = ("published_run_id", "edition", "overlays", "events_snapshot")
        row = self.as_of("current_run", seen).select(*names).first()
        if row is None:
            return Pointer(None, None, seen)
        return Pointer(str(row[0]), str(row[1]), seen, tuple(row.overlays or ()), row.events_snapshot)

    def point_to(
        self, run_id: str, edition: str, instead: Pointer, overlays: Sequence[str] = (), events: int | None = None
    ) -> bool:
        """Make an edition of `run_id`, with overlays (see `Pointer`), the published one instead of another.

        In one commit.

        Returns False, and changes nothing, where the pointer has moved since `instead` was read.
        """
        if not self._has_views:
            create_views(self)
            self._has_views = True
        row = self.spark.range(1).select(
            F.lit(check_run_id(run_id)).alias("published_run_id"),
            F.lit(edition).alias("edition"),
            F.current_timestamp().alias("published_at"),
            F.array(*map(F.lit, overlays)).cast("array<string>").alias("overlays"),
            F.lit(events).cast("bigint").alias("events_snapshot"),
        )
        told = {"published-run": run_id, "published-edition": edition}
        told |= {"published-overlays": ",".join(overlays)} if overlays else {}
        told |= {} if events is None else {"published-events": str(events)}
        columns = cast_columns(declared("current_run"))
        try:
            replace_rows(row.selectExpr(*columns), self.ensure("current_run"), F.lit(True), instead.snapshot, told)
        except Conflict:
            return False
        return True

    def publications(self) -> list[Publication]:
        """Return every publication and rollback, newest first."""
        summary = F.col("summary")
        rows = (
            self.spark.table(f"{self.ensure('current_run')}.snapshots")
            .select(
                summary.getItem("published-run").alias("run_id"),
                summary.getItem("published-edition").alias("edition"),
                summary.getItem("published-overlays").alias("overlays"),
                summary.getItem("published-events").cast("bigint").alias("events"),
                F.col("committed_at").cast("string").alias("committed_at"),
            )
            .where(F.col("run_id").isNotNull())
            .orderBy(F.col("committed_at").desc())
            .collect()
        )
        return [
            Publication(row.run_id, row.edition, row.committed_at, _names(row.overlays), row.events) for row in rows
        ]


def _names(joined: str | None) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()
