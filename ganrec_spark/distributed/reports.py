"""What training workers tell the driver while Horovod runs: progress, log lines, and why one failed.

Horovod itself forwards an exit code and notices no stall. Messages are lines of signed JSON over TCP, never pickle.
"""

import hashlib
import hmac
import json
import logging
import secrets
import socket
import socketserver
import threading
import time
from dataclasses import dataclass
from types import TracebackType

_MAX_LINE = 65_536
_BEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Address:
    """Where a worker's `Reporter` finds the driver's `ReportServer`, and the run's key."""

    host: str
    port: int
    key: bytes


class ReportServer:
    """Listens on the driver: when workers last reported, what they logged, and by worker why it failed."""

    def __init__(self, host: str) -> None:
        self._key = secrets.token_bytes(32)
        self._last = time.monotonic()
        self.started = False
        self.failures: dict[int, str] = {}
        self.job_failure = ""
        report = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline(_MAX_LINE):
                    report._receive(line)

        self._server = socketserver.ThreadingTCPServer(("", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = Address(host, self._server.server_address[1], self._key)

    def __enter__(self) -> "ReportServer":
        threading.Thread(target=self._server.serve_forever, daemon=True, name="ganrec-reports").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def silent_seconds(self) -> float:
        """Return the seconds since any worker reported progress (or since the start)."""
        return time.monotonic() - self._last

    def _receive(self, line: bytes) -> None:
        signature, _, body = line.strip().partition(b" ")
        if not hmac.compare_digest(signature, _sign(self._key, body)):
            return
        message = json.loads(body)
        self.started, self._last = True, time.monotonic()
        if message["kind"] == "failure":
            self.failures.setdefault(int(message["worker"]), str(message["text"]))
        elif message["kind"] == "log":
            logging.getLogger("ganrec").info("%s", message["text"])


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
        """Send one message of kind beat, log or failure."""
        body = json.dumps({"kind": kind, "worker": self.worker, "text": text[:4000]}).encode()
        try:
            if self._socket is None:
                self._socket = socket.create_connection((self._address.host, self._address.port), timeout=10)
            self._socket.sendall(_sign(self._address.key, body) + b" " + body + b"\n")
        except OSError:
            self._socket = None


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()
