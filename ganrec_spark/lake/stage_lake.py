"""The lake as a stage sees it: one run, one phase, and the tables that the stage declared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyspark.sql import DataFrame

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.events import events_of
from ganrec_spark.lake.iceberg import current_snapshot
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Addition, Lake


@dataclass(frozen=True)
class StageLake:
    """The lake as one stage of one run sees it: only the tables that the stage declared."""

    lake: Lake
    run_id: str
    stage: str
    phase: str | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    before_write: Callable[[], None] = lambda: None  # raises where another process has taken the run

    def read(self, table: str, phase: str | None = None) -> DataFrame:
        """Return this run's rows of a declared table; `phase` defaults to the stage's own."""
        self._allow(table, (*self.reads, *self.writes), "read")
        return self.lake.read(table, self.run_id, phase or self.phase)

    def read_log(self, table: str) -> DataFrame:
        """Return every event that a declared log has now, as of one snapshot however often the frame is read."""
        return self.read_log_at(table)[0]

    def read_log_at(self, table: str) -> tuple[DataFrame, int | None]:
        """Return `read_log`, and the snapshot; None: the log was empty."""
        self._allow(table, self.reads, "read")
        seen = current_snapshot(self.lake.spark, self.lake.ensure(table))
        return events_of(self.lake, table, seen), seen

    def read_runs(self, table: str) -> DataFrame:
        """Return the rows of every run of a declared table, with run_id (and phase)."""
        self._allow(table, (*self.reads, *self.writes), "read")
        return self.lake.read_all(table)

    def write(self, table: str, frame: DataFrame, phase: str | None = None) -> int:
        """Replace this run's rows of a declared table in one commit; return the number of rows.

        `phase` defaults to the stage's own; stages without one name it for tables of both phases.
        """
        self._allow(table, self.writes, "write")
        return self.lake.replace(table, frame, self.run_id, phase or self.phase)

    def extend(self, table: str, additions: "Callable[[DataFrame], Addition]") -> int:
        """Add what is missing to a declared dictionary (Lake.extend); return the number of rows added."""
        self._allow(table, self.writes, "write")
        return self.lake.extend(table, additions)

    def data_files(self, table: str, phase: str | None = None) -> list[str]:
        """Return the Parquet files of this run's rows of a declared table."""
        self._allow(table, self.reads, "read")
        return self.lake.data_files(table, self.run_id, phase or self.phase)

    def frame(self, table: str, rows: Iterable[tuple[object, ...]]) -> DataFrame:
        """Return a DataFrame of `rows` with the declared columns of `table`, in their order."""
        return local_frame(self.lake.spark, declared(table).columns, list(rows))

    def write_edition(self, table: str, frame: DataFrame, edition: str) -> int:
        """Replace the rows of one edition of this run, leaving its other editions; return the number of rows."""
        self._allow(table, self.writes, "write")
        return self.lake.replace(table, frame, self.run_id, only={"edition": edition})

    def _allow(self, table: str, allowed: tuple[str, ...], verb: str) -> None:
        if verb == "write":
            self.before_write()
        if table not in allowed:
            raise LakeError(
                f"table '{table}', stage '{self.stage}': the stage may {verb} {', '.join(allowed) or 'nothing'}; "
                "declare the table in pipeline.STAGES if it should"
            )
