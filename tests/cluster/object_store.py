"""A real S3 server on a free port, and a proxy before it that stumbles as networks and busy stores do."""

import http.client
import os
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cluster.services import free_port
from e2e.lakeside import REPOSITORY

SERVER = REPOSITORY / os.environ.get("GANREC_S3_VENV", ".venv-s3") / "bin" / "moto_server"
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@contextmanager
def s3_server() -> Iterator[int]:
    """Run an S3 server that keeps everything in memory; yield its port."""
    if not SERVER.exists():
        pytest.skip(f"expected a local S3 server in {SERVER.parent.parent}, found none; run `make s3`")
    port = free_port()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not _answers(port):
                assert time.monotonic() < deadline, "the S3 server does not start"
                time.sleep(0.2)
            yield port
        finally:
            server.terminate()
            server.wait(timeout=30)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5):
            return True
    except OSError:
        return False


class StumblingProxy(ThreadingHTTPServer):
    """Passes requests on; every 40th is answered 503, and of every 41st the connection drops in the middle.

    That is in the middle of the answer, or of the request where it brings data. `stumbles` counts both.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, every: int = 40) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.every = port, every
        self.stumbles = {"busy": 0, "dropped": 0}
        self._count, self._lock = 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave connections as they like."""

    def stumble(self) -> str:
        """Return how to answer the next request: well, busy or dropped."""
        with self._lock:
            self._count += 1
            how = {0: "busy", 1: "dropped"}.get(self._count % self.every, "well")
            if how in self.stumbles and self._count > 1:
                self.stumbles[how] += 1
                return how
            return "well"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StumblingProxy

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        how, length = self.server.stumble(), int(self.headers.get("Content-Length") or 0)
        if how == "dropped" and length:
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if how == "busy":
            self._answer(503, {}, b"" if self.command == "HEAD" else _BUSY)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content, headers = answer.read(), dict(answer.getheaders())
        finally:
            connection.close()
        self._answer(answer.status, headers, content, half=how == "dropped")

    def _answer(self, status: int, headers: dict[str, str], content: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on


@contextmanager
def stumbling(port: int, every: int = 40) -> Iterator[StumblingProxy]:
    """Run a StumblingProxy before the server on `port`."""
    proxy = StumblingProxy(port, every)
    threading.Thread(target=proxy.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


def spark_home(folder: Path, jars: Path) -> Path:
    """Make a Spark of links to the installed one, into which jars can be put without changing that."""
    (folder / "jars").mkdir(parents=True)
    (folder / "bin").symlink_to(jars.parent / "bin")
    for jar in jars.glob("*.jar"):
        (folder / "jars" / jar.name).symlink_to(jar)
    return folder
