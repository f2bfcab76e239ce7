"""Start and stop a Spark standalone cluster on this machine: a master and workers, each a process of its own.

    scripts/cluster.py up [--folder .cluster] [--port 7077] [--workers 2] [--cores 1] [--memory 3g]
    scripts/cluster.py down [--folder .cluster]

`up` prints the master's URL when every worker has registered. `down` stops only what `up` wrote down in the folder:
a process id counts only with the start time that it had then. Everything the cluster writes is in the folder.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pyspark

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 30


def up(folder: Path, port: int, workers: int, cores: int, memory: str) -> str:
    """Start master and workers; return the master's URL once all are there. Exits with 1 where they are not."""
    if _running(folder):
        sys.exit(f"cluster: one is running already ({folder}); stop it with `make cluster-down`")
    _remove(folder)
    folder.mkdir(parents=True)
    port, web = port or _free_port(), _free_port()
    url = f"spark://{HOST}:{port}"
    _start(folder, "master", "master.Master", "--host", HOST, "--port", str(port), "--webui-port", str(web))
    sizes = ("--cores", str(cores), "--memory", memory, "--webui-port", "0", "--work-dir", str(folder / "work"))
    for number in range(workers):
        _start(folder, f"worker{number}", "worker.Worker", "--host", HOST, *sizes, url)
    if not _registered(web, workers):
        down(folder, keep=True)
        sys.exit(f"cluster: expected {workers} workers within {START_SECONDS} s; see the logs in {folder}")
    return url


def down(folder: Path, keep: bool = False) -> None:
    """Stop what `up` started, the executors of its workers included, and remove the folder unless `keep`."""
    processes = _running(folder)
    family = {child for process in processes for child in process.children(recursive=True)} | set(processes)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
    if not keep:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder if `up` made it: a mistyped --folder must not cost anybody a home directory."""
    if (folder / "master.json").exists():
        shutil.rmtree(folder)
    elif folder.exists():
        sys.exit(f"cluster: expected a folder that `up` made, or none; found {folder} without master.json")


def _start(folder: Path, name: str, class_name: str, *arguments: str) -> None:
    home = Path(pyspark.__file__).parent
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{class_name}", *arguments]
    environment = {**os.environ, "SPARK_LOCAL_DIRS": str(folder / "scratch"), "SPARK_LOCAL_IP": HOST}
    environment["SPARK_DAEMON_MEMORY"] = "512m"
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    started = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    (folder / f"{name}.json").write_text(json.dumps(started))


def _running(folder: Path) -> list[psutil.Process]:
    found = []
    for file in sorted(folder.glob("*.json")):
        written = json.loads(file.read_text())
        try:
            process = psutil.Process(written["pid"])
            if process.create_time() == written["created"] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue  # it has ended
    return found


def _registered(web: int, workers: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{web}/json/", timeout=5) as answer:
                if json.load(answer)["aliveworkers"] >= workers:
                    return True
        except OSError:
            pass  # not listening yet; the deadline ends the wait
        time.sleep(0.2)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--folder", type=Path, default=Path(".cluster"))
    parser.add_argument("--port", type=int, default=7077, help="0: any free one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cores", type=int, default=1, help="of each worker")
    parser.add_argument("--memory", default="3g", help="of each worker, for its executors")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    if arguments.action == "down":
        down(folder)
    else:
        print(up(folder, arguments.port, arguments.workers, arguments.cores, arguments.memory))


if __name__ == "__main__":
    main()
