"""What training workers tell the driver while they run: progress, log lines, and why one failed.

Launchers forward an exit code or a trace. They notice no stall; Horovod, among workers that train models of their own,
no death.
Messages are lines of signed JSON over TCP, never pickle.
"""

import hashlib
import hmac
import json
import logging
import re
import secrets
import socket
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType

_MAX_LINE = 65_536
_BEAT_SECONDS = 2.0
_DIED = "died without a message (killed, or out of memory?)"


@dataclass(frozen=True)
class Address:
    """Where a worker's `Reporter` finds the driver's `ReportServer`, and the run's key."""

    host: str
    port: int
    key: bytes


_LEVELS = {"log": logging.DEBUG, "warn": logging.WARNING}


class ReportServer:
    """Listens on the driver: when each worker last reported, what it logged, and why it failed."""

    def __init__(self, host: str) -> None:
        self._key = secrets.token_bytes(32)
        self._start = time.monotonic()
        self._last: dict[int, float] = {}
        self._ended: set[int] = set()
        self._failed = 0.0
        self.failures: dict[int, str] = {}
        self.job_failure = ""
        report = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                worker = -1
                with suppress(OSError):
                    while line := self.rfile.readline(_MAX_LINE):
                        worker = report._receive(line)
                report._disconnected(worker)

        self._server = socketserver.ThreadingTCPServer(("", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = Address(host, self._server.server_address[1], self._key)

    def __enter__(self) -> "ReportServer":
        # Leaving waits for the server's next look at whether it is to go on: often, then.
        serve = partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, daemon=True, name="ganrec-reports").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def started(self) -> bool:
        """Whether any worker has reported."""
        return bool(self._last)

    def longest_silent(self) -> tuple[int, float]:
        """Return the worker that has been silent longest, and for how many seconds; -1 before any has reported."""
        working = {worker: last for worker, last in self._last.copy().items() if worker not in self._ended}
        worker = min(working, key=working.__getitem__, default=-1)
        return worker, time.monotonic() - working.get(worker, max(self._last.values(), default=self._start))

    def failing_seconds(self) -> float:
        """Return the seconds since a worker was found to have failed or died; 0 while all is well."""
        return time.monotonic() - self._failed if self.failures else 0.0

    def fail(self, worker: int, reason: str) -> None:
        """Note why `worker` failed (-1: none in particular); its first reason stays."""
        self._failed = self._failed if self.failures else time.monotonic()
        self.failures.setdefault(worker, reason)

    def _receive(self, line: bytes) -> int:
        signature, _, body = line.strip().partition(b" ")
        if not hmac.compare_digest(signature, _sign(self._key, body)):
            return -1
        message = json.loads(body)
        worker = int(message["worker"])
        if worker >= 0:
            self._last[worker] = time.monotonic()
        if self.failures.get(worker) == _DIED:  # no: it had only lost its connection
            del self.failures[worker]
        if message["kind"] == "failure":
            self.fail(worker, str(message["text"]))
        elif message["kind"] == "end":
            self._ended.add(worker)
        elif message["kind"] in _LEVELS:
            logging.getLogger("ganrec").log(_LEVELS[message["kind"]], "%s", message["text"])
        return worker

    def _disconnected(self, worker: int) -> None:
        # Once one has failed, the others are made to leave.
        if worker >= 0 and worker not in self._ended and not self.failures:
            self.fail(worker, _DIED)


class Reporter:
    """A worker's line to the driver. Messages that cannot be delivered are dropped: training goes on without them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._last_beat = 0.0
        self.worker = -1

    def beat(self) -> None:
        """Report progress; cheap enough to call at every step."""
        now = time.monotonic()
        if now - self._last_beat >= _BEAT_SECONDS:
            self._last_beat = now
            self.send("beat", "")

    def send(self, kind: str, text: str) -> None:
        """Send one message of kind beat, log, failure, or end: a worker that leaves without it counts as dead."""
        body = json.dumps({"kind": kind, "worker": self.worker, "text": text[:4000]}).encode()
        try:
            if self._socket is None:
                self._socket = socket.create_connection((self._address.host, self._address.port), timeout=10)
            self._socket.sendall(_sign(self._address.key, body) + b" " + body + b"\n")
        except OSError:
            self._socket = None


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()


def python_error(text: str) -> str:
    """Return the last line of the Python traceback inside a Spark exception's text, or nothing."""
    errors = re.findall(r"^(\w*(?:Error|Exception): .*)$", text.partition("Traceback")[2], re.MULTILINE)
    return f"a Spark task failed: {errors[0]}" if errors else ""


def failure_in_words(reports: ReportServer, workers: int, error: Exception) -> str:
    """Return why a training on several workers stopped, as far as its workers or Spark could say."""
    found = "; ".join(
        f"{'a worker' if worker < 0 else f'worker {worker}'}: {text}"
        for worker, text in sorted(reports.failures.items())
    )
    cause = found or reports.job_failure
    cause = cause or f"a worker died without a message (killed, or out of memory?): {' '.join(str(error).split())}"
    return f"training on {workers} workers stopped: {cause}"
