"""The real services that a cluster run needs, started on free ports and stopped without a trace."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.lakeside import REPOSITORY

AIRFLOW = REPOSITORY / os.environ.get("GANREC_AIRFLOW_VENV", ".venv-airflow") / "bin" / "airflow"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """Run a PostgreSQL server; yield the environment that conf/cluster.yaml's catalog reads."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.fail("expected PostgreSQL's server in /usr/lib/postgresql, found none; run `make postgresql`")
    folder, port, password = Path(tempfile.mkdtemp(prefix="ganrec-catalog-")), free_port(), secrets.token_hex(16)
    # The server refuses to run as root; Debian's package brings a user for it.
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    secret = folder / "password"
    secret.write_text(password)
    if user:
        shutil.chown(folder, **user)
        shutil.chown(secret, **user)
    data, log = folder / "data", (folder / "log").open("w")
    initdb = [binaries[-1], "-D", data, "-U", "ganrec", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync"]
    subprocess.run(initdb, check=True, stdout=log, stderr=log, cwd=folder, **user)
    command = [binaries[-1].with_name("postgres"), "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    server = subprocess.Popen([*command, "-F"], stdout=log, stderr=log, cwd=folder, **user)
    try:
        ready = [binaries[-1].with_name("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        for _ in range(60):
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
        yield {
            "GANREC_CATALOG_ADDRESS": f"127.0.0.1:{port}/postgres",
            "GANREC_CATALOG_USER": "ganrec",
            "GANREC_CATALOG_PASSWORD": password,
        }
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()
        shutil.rmtree(folder)


@contextmanager
def spark_cluster(folder: Path) -> Iterator[str]:
    """Run a master and two workers of one core each; yield the master's URL."""
    script = [sys.executable, str(REPOSITORY / "scripts" / "cluster.py")]
    up = [*script, "up", "--folder", str(folder), "--port", "0", "--memory", "1500m"]
    done = subprocess.run(up, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run([*script, "down", "--folder", str(folder)], check=True)


@dataclass(frozen=True)
class Airflow:
    """A real Airflow with a database of its own."""

    environment: dict[str, str]

    def run(self, *arguments: str, timeout: float = 1500) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AIRFLOW, *arguments],
            env=self.environment,
            cwd=self.environment["AIRFLOW_HOME"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def states(self, run_id: str) -> dict[str, str]:
        """Return task id -> state of one DAG run."""
        done = self.run("tasks", "states-for-dag-run", "ganrec_daily", run_id, "--output", "json")
        assert done.returncode == 0, done.stdout
        rows = json.loads(done.stdout[done.stdout.index("[{") :])
        return {row["task_id"]: row["state"] for row in rows}


def airflow(home: Path, environment: dict[str, str], master: str, config: Path) -> Airflow:
    """Return an Airflow that submits to `master`, its database migrated and its pool made."""
    if not AIRFLOW.exists():
        pytest.fail(f"expected Airflow in {AIRFLOW}, found none; run `make airflow`")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "GANREC"))}
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "airflow_dags"),
        "AIRFLOW_CONN_SPARK": json.dumps({"conn_type": "spark", "host": master}),
        "GANREC_PYTHON": sys.executable,
        "GANREC_CONFIG": str(config),
        "PYTHONPATH": "",
        # `airflow standalone` starts the others by this name.
        "PATH": f"{AIRFLOW.parent}{os.pathsep}{os.environ['PATH']}",
    }
    server = Airflow({**inherited, **settings, **environment})
    for arguments in (("db", "migrate"), ("pools", "set", "ganrec_writers", "1", "stages that write the lake")):
        done = server.run(*arguments)
        assert done.returncode == 0, done.stdout
    return server
