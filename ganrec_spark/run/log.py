"""The log of one run: which stages finished, and which process is at work on the run.

All of a run's rows in stage_log are replaced in one commit that fails where another process changed them. So a run
has one process at work at a time, and a stage that died between its tables never counts as finished: its row says
"running" before its first write (docs/adr/0032-one-process-a-run.md).
"""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from time import sleep

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError, StoreError
from ganrec_spark.lake.iceberg import Conflict, current_snapshot, properties, replace_rows
from ganrec_spark.lake.schema import check_run_id, declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.run import signs

_LOOK_SECONDS = 2
_LOG = logging.getLogger("ganrec")


@dataclass(frozen=True)
class Entry:
    """One row of stage_log."""

    stage: str
    fingerprint: str
    outcome: str
    message: str
    seconds: float
    finished_at: datetime
    execution: str | None
    owner: str | None

    @property
    def finished(self) -> bool:
        """Whether the stage's tables hold all of its rows."""
        return self.outcome in ("done", "skipped")


class RunLog:
    """The log of one run, as the process at work on it sees and writes it. Use as a context manager.

    From `begin` to `finish` of a stage the run is held, and on to the next stage where `finish` is told so: one commit
    says that a stage is done and the next one has begun.
    `wait_seconds` is how long `begin` waits for another process that holds it.
    """

    def __init__(self, lake: Lake, run_id: str, wait_seconds: float = 0.0) -> None:
        self._lake, self.run_id, self._wait = lake, check_run_id(run_id), wait_seconds
        self._owner = signs.this_process()
        self._entries: dict[str, Entry] = {}
        self._seen: int | None = None
        self._untold = False  # what has finished is not in the table yet
        self._signs = signs.SignsOfLife(
            lake.spark, lake.ensure("stage_log"), f"{signs.SIGN_OF_LIFE}{run_id}", self._owner
        )
        self._read()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        """Let go of the run: a stage that has not finished is logged as failed.

        Where the lake's store is gone nothing is: it would take minutes of tries, and whoever comes next takes over.
        """
        if isinstance(error, StoreError) and self._lake.is_remote:
            self._signs.end()
            return
        self._signs.stop()
        mine = [entry for entry in self._entries.values() if self._is_mine(entry)]
        for entry in mine:
            self._entries[entry.stage] = replace(entry, outcome="failed", finished_at=_now())
        if mine or self._untold:
            try:
                self._write()
            except (
                Py4JError,
                PySparkException,
                Conflict,
            ) as error:  # what ended the stage is the news; whoever comes next takes the run over
                stage = mine[0].stage if mine else list(self._entries)[-1]
                _LOG.warning("run %s: could not log the end of %s: %s", self.run_id, stage, error)

    def finished(self) -> dict[str, Entry]:
        """Return stage -> row of what has finished, as last read or written."""
        return {name: entry for name, entry in self._entries.items() if entry.finished}

    def begin(self, stage: str, prepare: Callable[[dict[str, Entry]], str]) -> str:
        """Withdraw the stage's row, before its first write, and hold the run; return the execution's id.

        `prepare` gets what has finished when nobody else holds the run, and returns the stage's fingerprint or raises
        where its inputs are not there any more. Raises LakeError where another process is at work on the run, for
        longer than `wait_seconds`.
        """
        execution = uuid.uuid4().hex[:12]
        until = time.monotonic() + self._wait
        told = False
        while True:
            other = self._other()
            if other is None:
                entry = Entry(stage, prepare(self.finished()), "running", "", 0.0, _now(), execution, self._owner)
                self._entries[stage] = entry
                begun = signs.clock()
                try:
                    self._write()
                except Conflict:
                    self._require_ours()
                    self._read()
                    continue
                self._signs.renew(begun)
                return execution
            if time.monotonic() >= until:
                raise LakeError(
                    f"run '{self.run_id}': expected no other process at work on it, found {_words(other)}; wait until "
                    f"it ends or, if it is dead, {signs.LEASE_SECONDS} s from its last sign of life (lake.wait_seconds)"
                )
            if not told:
                _LOG.info("run %s: waiting for %s", self.run_id, _words(other))
                told = True
            sleep(_LOOK_SECONDS)
            self._read()

    def finish(self, stage: str, outcome: str, message: str, seconds: float, go_on: bool = False) -> None:
        """Log what became of a stage, or let the next one's beginning say so and hold the run where `go_on`.

        Raises LakeError where another process took the run meanwhile.
        """
        self._entries[stage] = replace(
            self._entries[stage], outcome=outcome, message=message, seconds=seconds, finished_at=_now()
        )
        self._untold = True
        if go_on:
            return
        try:
            self._write()
        except Conflict:
            self._require_ours()

    def require(self) -> None:
        """Raise LakeError where this process was silent for so long that another one took the run."""
        if not self._signs.silent():
            return
        begun = signs.clock()
        try:
            self._write()  # nobody did
        except Conflict:
            self._entries = {}
            raise LakeError(_taken(self.run_id)) from None
        self._signs.renew(begun, at_once=True)

    def _require_ours(self) -> None:
        """After a conflict: raise LakeError where the run was held, so that nothing here is ours any more."""
        if self._untold:
            self._untold, self._entries = False, {}
            raise LakeError(_taken(self.run_id)) from None

    def _other(self) -> Entry | None:
        """Return the row of another process that is at work on the run and alive."""
        found = properties(self._lake.spark, self._lake.ensure("stage_log"))
        others = [entry for entry in self._entries.values() if not self._is_mine(entry)]
        return next((entry for entry in others if _is_alive(entry, self.run_id, found)), None)

    def _is_mine(self, entry: Entry) -> bool:
        return entry.outcome == "running" and entry.owner == self._owner

    def _read(self) -> None:
        full_name = self._lake.ensure("stage_log")
        self._seen = current_snapshot(self._lake.spark, full_name)
        names = [column.name for column in declared("stage_log").columns]
        rows = self._lake.as_of("stage_log", self._seen).where(F.col("run_id") == self.run_id)
        self._entries = {row.stage: Entry(*row) for row in rows.select(*names).collect()}

    def _write(self) -> None:
        spark, full_name = self._lake.spark, self._lake.ensure("stage_log")
        # A stage of another process that is dead has failed.
        for name, entry in self._entries.items():
            if entry.outcome == "running" and not self._is_mine(entry):
                self._entries[name] = replace(entry, outcome="failed", message=f"ended without a word: {entry.owner}")
        columns = declared("stage_log").columns
        rows = local_frame(spark, columns, [astuple(entry) for entry in self._entries.values()])
        rows = rows.select(F.lit(self.run_id).alias("run_id"), *[column.name for column in columns])
        mine = F.col("run_id") == self.run_id
        _, self._seen = replace_rows(rows.coalesce(1), full_name, mine, self._seen, one_task=True)
        self._untold = False


def at_work(lake: Lake) -> tuple[dict[str, str], dict[str, str]]:
    """Return run -> who is at work on it, of processes that are alive and of those that are gone."""
    names = [column.name for column in declared("stage_log").columns]
    rows = lake.read_all("stage_log").where("outcome = 'running'").select("run_id", *names).collect()
    given = properties(lake.spark, lake.ensure("stage_log"))
    alive: dict[str, str] = {}
    dead: dict[str, str] = {}
    for run_id, *values in map(tuple, rows):
        entry = Entry(*values)
        (alive if _is_alive(entry, run_id, given) else dead)[run_id] = _words(entry)
    return alive, dead


def withdraw(lake: Lake, run_id: str, stage: str, why: str) -> None:
    """Let a stage of a run count as failed, so that it runs again, and all that read its rows."""
    with RunLog(lake, run_id) as log:
        if stage in log.finished():
            entry = log.finished()[stage]
            log.begin(stage, lambda _: entry.fingerprint)
            log.finish(stage, "failed", why, entry.seconds)


def _is_alive(entry: Entry, run_id: str, given: dict[str, str]) -> bool:
    if entry.outcome != "running" or not entry.owner:
        return False
    began = entry.finished_at.replace(tzinfo=UTC).timestamp()
    sign = float(given.get(f"{signs.SIGN_OF_LIFE}{run_id}.{entry.owner}", began))
    return signs.lives(entry.owner, max(began, sign))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _words(entry: Entry) -> str:
    return f"{entry.owner} in stage {entry.stage} since {entry.finished_at:%Y-%m-%d %H:%M:%S} UTC"


def _taken(run_id: str) -> str:
    return (
        f"run '{run_id}': expected to hold it, found that another process took it over, because this one gave no sign "
        f"of life for {signs.LEASE_SECONDS} s or was taken for dead; nothing more is written, the other one goes on"
    )
