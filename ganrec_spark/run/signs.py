"""Who is alive: signs that a process gives while it works, and what tells one process from all others."""

import logging
import os
import socket
import threading
import time
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ganrec_spark.lake.iceberg import Conflict, change_properties, reason

# A process whose last sign of life is older is taken for dead.
LEASE_SECONDS = 120
SIGN_OF_LIFE = "ganrec.alive."  # how its property in stage_log begins
_BEAT_SECONDS = 30
_UNKNOWN = "unknown"

_LOG = logging.getLogger("ganrec")


class SignsOfLife(threading.Thread):
    """Says every 30 s, in a property of stage_log, that this process is alive: no Spark task, so no slot is needed."""

    def __init__(self, spark: SparkSession, table: str, name: str, owner: str) -> None:
        super().__init__(name=f"signs of life of {name}", daemon=True)
        self._spark, self._table, self._key = spark, table, f"{name}.{owner}"
        self._ended, self._last, self._shown = threading.Event(), clock(), False

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
        moment = clock()
        change_properties(self._spark, self._table, {self._key: str(int(time.time()))})
        self._last, self._shown = moment, True

    def silent(self) -> bool:
        """Whether the process gave no sign for longer than a lease lasts."""
        return clock() - self._last > LEASE_SECONDS

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


def lives(owner: str, at: float) -> bool:
    """Whether a process seen `at` may be alive: one of this machine runs, others gave a sign lately."""
    host, namespace, pid, started = [*owner.split("/"), "", "", ""][:4]
    if (host, namespace) == tuple(this_process().split("/")[:2]) and pid.isdigit() and started != _UNKNOWN:
        state, since = _state(int(pid))
        if since != started or state in "ZX":
            return False
        if state != "T":  # one that is stopped may go on, or never
            return True
    return time.time() - at < LEASE_SECONDS


def this_process() -> str:
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


def clock() -> float:
    """Return seconds that count on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
