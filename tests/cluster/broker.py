"""A real broker of Kafka in KRaft mode on a free port, which can be stopped, killed and started again."""

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.services import free_port
from e2e.lakeside import REPOSITORY

JARS = REPOSITORY / os.environ.get("GANREC_KAFKA", ".kafka") / "broker"
_JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]


class Broker:
    """One broker that is its own controller; its files outlive its processes."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._settings = folder / "server.properties"
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(folder / "log"),
            "offsets.topic.replication.factor": "1",
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(20 << 20),
            "controlled.shutdown.enable": "false",  # nobody else is there to take over
        }
        self._settings.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._settings))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self._folder / "said").open("a")
        self._process = subprocess.Popen([*_JAVA, "kafka.Kafka", self._settings], stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "said").read_text()[-2000:]
            assert time.monotonic() < deadline, "the broker does not start"
            time.sleep(0.2)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def _java(self, *words: str) -> None:
        done = subprocess.run([*_JAVA, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker; yield it."""
    if not JARS.is_dir():
        pytest.skip(f"expected a broker's jars in {JARS}, found none; run `make kafka`")
    running = Broker(folder)
    running.start()
    try:
        yield running
    finally:
        running.stop()
