"""The log of one run: which stages finished, and which process is at work on the run.

All of a run's rows in stage_log are replaced in one commit that fails where another process changed them. So a run
has one process at work at a time, and a stage that died between its tables never counts as finished: its row says
"running" before its first write (docs/adr/0032-one-process-a-run.md).
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError, StoreError
from ganrec_spark.lake.iceberg import Conflict, change_properties, current_snapshot, properties, reason, replace_rows
from ganrec_spark.lake.store import Lake, check_run_id, declared

# A process whose last sign of life is older is taken for dead.
LEASE_SECONDS = 120
_BEAT_SECONDS = 30
_LOOK_SECONDS = 2
_BETWEEN = "(between stages)"
_UNKNOWN = "unknown"
SIGN_OF_LIFE = "ganrec.alive."
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

    From `begin` to `finish` of a stage the run is held, and on to the next stage where `finish` is told so.
    `wait_seconds` is how long `begin` waits for another process that holds it.
    """

    def __init__(self, lake: Lake, run_id: str, wait_seconds: float = 0.0) -> None:
        self._lake, self.run_id, self._wait = lake, check_run_id(run_id), wait_seconds
        self._owner = _this_process()
        self._entries: dict[str, Entry] = {}
        self._seen: int | None = None
        self._signs = _SignsOfLife(lake.spark, lake.ensure("stage_log"), f"{SIGN_OF_LIFE}{run_id}", self._owner)
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
        self._entries.pop(_BETWEEN, None)
        if mine:
            try:
                self._write()
            except (
                Py4JError,
                PySparkException,
                Conflict,
            ) as error:  # what ended the stage is the news; whoever comes next takes the run over
                _LOG.warning("run %s: could not log the end of %s: %s", self.run_id, mine[0].stage, error)

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
                self._entries.pop(_BETWEEN, None)
                self._entries[stage] = entry
                begun = _clock()
                try:
                    self._write()
                except Conflict:
                    self._read()
                    continue
                self._signs.renew(begun)
                return execution
            if time.monotonic() >= until:
                raise LakeError(
                    f"run '{self.run_id}': expected no other process at work on it, found {_words(other)}; wait until "
                    f"it ends, or, if it is dead, {LEASE_SECONDS} s from its last sign of life (lake.wait_seconds)"
                )
            if not told:
                _LOG.info("run %s: waiting for %s", self.run_id, _words(other))
                told = True
            sleep(_LOOK_SECONDS)
            self._read()

    def finish(self, stage: str, outcome: str, message: str, seconds: float, go_on: bool = False) -> None:
        """Log what became of a stage, and hold the run for another one where `go_on`.

        Raises LakeError where another process took the run meanwhile.
        """
        if go_on:
            self._entries[_BETWEEN] = Entry(_BETWEEN, "", "running", "", 0.0, _now(), None, self._owner)
        self._entries[stage] = replace(
            self._entries[stage], outcome=outcome, message=message, seconds=seconds, finished_at=_now()
        )
        try:
            self._write()
        except Conflict:
            self._entries = {}  # nothing here is ours any more
            raise LakeError(_taken(self.run_id)) from None

    def require(self) -> None:
        """Raise LakeError where this process was silent for so long that another one took the run."""
        if not self._signs.silent():
            return
        begun = _clock()
        try:
            self._write()  # nobody did
        except Conflict:
            self._entries = {}
            raise LakeError(_taken(self.run_id)) from None
        self._signs.renew(begun, at_once=True)

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
        schema = ", ".join(f"{column.name} {column.type}" for column in columns)
        rows = spark.createDataFrame([astuple(entry) for entry in self._entries.values()], schema).coalesce(1)
        rows = rows.select(F.lit(self.run_id).alias("run_id"), *[column.name for column in columns])
        _, self._seen = replace_rows(rows, full_name, F.col("run_id") == self.run_id, self._seen)


class _SignsOfLife(threading.Thread):
    """Says every 30 s, in a property of stage_log, that this process is alive: no Spark task, so no slot is needed."""

    def __init__(self, spark: SparkSession, table: str, name: str, owner: str) -> None:
        super().__init__(name=f"signs of life of {name}", daemon=True)
        self._spark, self._table, self._key = spark, table, f"{name}.{owner}"
        self._ended, self._last, self._shown = threading.Event(), _clock(), False

    def renew(self, moment: float, at_once: bool = False) -> None:
        """Take the log's commit begun at `moment` for a sign of life; start giving others, unless started before."""
        self._last = moment
        if at_once:
            self._beat()
        if not self.is_alive() and not self._ended.is_set():
            self.start()

    def run(self) -> None:
        """Give a sign until stopped."""
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                self._beat()
            except (Py4JError, PySparkException, Conflict) as error:  # the catalog may be back at the next beat
                _LOG.warning("could not say that this process is alive: %s", reason(error))

    def _beat(self) -> None:
        if self.silent():
            return  # too late: the log says whether somebody took the run
        moment = _clock()
        change_properties(self._spark, self._table, {self._key: str(int(time.time()))})
        self._last, self._shown = moment, True

    def silent(self) -> bool:
        """Whether the process gave no sign for longer than a lease lasts."""
        return _clock() - self._last > LEASE_SECONDS

    def end(self) -> None:
        """Give no more signs."""
        self._ended.set()

    def stop(self) -> None:
        """End, and take the sign away."""
        self.end()
        if self.is_alive():
            self.join()
        if self._shown:
            try:
                change_properties(self._spark, self._table, {self._key: None})
            except (Py4JError, PySparkException, Conflict) as error:
                _LOG.warning("could not take back the sign of life: %s", reason(error))


def at_work(lake: Lake) -> tuple[dict[str, str], dict[str, str]]:
    """Return run -> who is at work on it, of processes that are alive and of those that are gone."""
    names = [column.name for column in declared("stage_log").columns]
    rows = lake.read_all("stage_log").where("outcome = 'running'").select("run_id", *names).collect()
    signs = properties(lake.spark, lake.ensure("stage_log"))
    alive: dict[str, str] = {}
    dead: dict[str, str] = {}
    for run_id, *values in map(tuple, rows):
        entry = Entry(*values)
        (alive if _is_alive(entry, run_id, signs) else dead)[run_id] = _words(entry)
    return alive, dead


def withdraw(lake: Lake, run_id: str, stage: str, why: str) -> None:
    """Let a stage of a run count as failed, so that it runs again, and all that read its rows."""
    with RunLog(lake, run_id) as log:
        if stage in log.finished():
            entry = log.finished()[stage]
            log.begin(stage, lambda _: entry.fingerprint)
            log.finish(stage, "failed", why, entry.seconds)


def _is_alive(entry: Entry, run_id: str, signs: dict[str, str]) -> bool:
    if entry.outcome != "running" or not entry.owner:
        return False
    began = entry.finished_at.replace(tzinfo=UTC).timestamp()
    sign = float(signs.get(f"{SIGN_OF_LIFE}{run_id}.{entry.owner}", began))
    return _lives(entry.owner, max(began, sign))


def _lives(owner: str, at: float) -> bool:
    """Whether a process seen `at` may be alive: one of this machine runs, others gave a sign lately."""
    host, namespace, pid, started = [*owner.split("/"), "", "", ""][:4]
    if (host, namespace) == tuple(_this_process().split("/")[:2]) and pid.isdigit() and started != _UNKNOWN:
        state, since = _state(int(pid))
        if since != started or state in "ZX":
            return False
        if state != "T":  # one that is stopped may go on, or never
            return True
    return time.time() - at < LEASE_SECONDS


def _this_process() -> str:
    """Return host/namespace of process ids/process id/when it started, which no other process shares."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{_namespace()}/{pid}/{_state(pid)[1]}"


def _namespace() -> str:
    """Return what tells containers of one host name apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot[:8]}-{Path('/proc/self/ns/pid').readlink().name[5:-1]}"
    except OSError:
        return _UNKNOWN


def _state(pid: int) -> tuple[str, str]:
    """Return the state of a process of this machine (R, S, T, Z, ...) and when it started, as Linux has them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "X", _UNKNOWN


def _clock() -> float:
    """Return seconds that count on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _words(entry: Entry) -> str:
    return f"{entry.owner} in stage {entry.stage} since {entry.finished_at:%Y-%m-%d %H:%M:%S} UTC"


def _taken(run_id: str) -> str:
    return (
        f"run '{run_id}': expected to hold it, found that another process took it over, because this one gave no sign "
        f"of life for {LEASE_SECONDS} s or was taken for dead; nothing more is written here, the other one goes on"
    )
