"""The same jobs on a standalone cluster of processes with its catalog in PostgreSQL: the same lists, and faults."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from e2e.lakeside import JAVA, REPOSITORY, RUN_DATE, Lakeside, described

Published = tuple[Lakeside, list[dict[str, object]], str]
CLUSTER = ("--config", str(REPOSITORY / "conf" / "cluster.yaml"))
# One core and little memory an executor: two workers of the tests' cluster have one each.
SMALL = (
    "--set",
    "spark.properties={spark.executor.cores: '1', spark.executor.memory: 1g, "
    f"spark.executorEnv.PYTHONPATH: ganrec_spark.zip, spark.driver.extraJavaOptions: {JAVA}, "
    f"spark.executor.extraJavaOptions: {JAVA}}}",
)


def on_cluster(root: Path, source: Path, master: str, catalog: dict[str, str], namespace: str) -> Lakeside:
    options = (*CLUSTER, *SMALL, *described(source), "--master", master, "--set", f"lake.namespace={namespace}")
    scratch = root.with_name(f"{root.name}-scratch")
    scratch.mkdir()
    drivers = {"SPARK_LOCAL_DIRS": str(scratch), "TMPDIR": str(scratch)}
    return Lakeside(root, source, options, catalog | drivers)


def left_behind(lakeside: Lakeside, master: str) -> list[str]:
    """Return what is left of a lakeside's drivers and executors; the last executors get a while to end."""
    psutil.wait_procs(executors(master), timeout=30)
    scratch = Path(lakeside.environment["TMPDIR"])
    return [*(str(path) for path in scratch.iterdir()), *(str(process) for process in executors(master))]


def executors(master: str) -> list[psutil.Process]:
    """Return the executors that this cluster's workers started, oldest first; nobody else's."""
    backend = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
    # process_iter gives no command line for those that have just ended.
    alive = [process for process in psutil.process_iter(["cmdline", "ppid"]) if process.info["cmdline"]]
    workers = {process.pid for process in alive if master in process.info["cmdline"]}
    found = [child for child in alive if child.info["ppid"] in workers and backend in child.info["cmdline"]]
    return sorted(found, key=lambda process: process.create_time())


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_executors_end_in_the_same_lists(
    published: Published, master: str, catalog: dict[str, str], tmp_path: Path
) -> None:
    """During augment and recommend Spark starts the tasks again; training fails cleanly and its retry ends right."""
    reference, _, _ = published
    lakeside = on_cluster(tmp_path / "lake", reference.source, master, catalog, "killed")
    # The first driver loses an executor while it trains: one clear error, nothing published.
    longer = replace(lakeside, options=(*lakeside.options, "--set", "transformer.max_epochs=50"))
    code, output = run_and_kill(longer, master, {"sasrec_0: epoch 2/": 0.0})
    assert code == 5, output[-3000:]
    assert "training on 2 workers stopped" in output.splitlines()[-1]
    assert lakeside.ganrec("publications").stdout == ""
    code, output = run_and_kill(lakeside, master, {"] augment_choose: ": 2.0, "] recommend: ": 2.0})
    assert code == 0, output[-3000:]
    assert lakeside.digests() == reference.digests()
    assert left_behind(lakeside, master) == []


def run_and_kill(lakeside: Lakeside, master: str, kills: dict[str, float]) -> tuple[int, str]:
    """Run the pipeline; kill one executor so many seconds after each text was said first. Return exit code and log."""
    command = [sys.executable, "jobs/run_pipeline.py", "--run-date", RUN_DATE, "--verbose", *lakeside.settings()]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=lakeside.surroundings(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    lines, killed = [], []

    def kill(text: str) -> None:
        executors(master)[0].send_signal(signal.SIGKILL)
        killed.append(text)

    waiting = dict(kills)
    for line in process.stderr:
        lines.append(line)
        for text in [text for text in waiting if text in line]:
            threading.Timer(waiting.pop(text), kill, [text]).start()
    code = process.wait(timeout=60)
    assert killed == list(kills), "".join(lines)[-3000:]
    return code, "".join(lines)


@pytest.mark.timeout(1200)
def test_stages_without_torch_run_from_a_packed_environment(
    published: Published, master: str, catalog: dict[str, str], tmp_path: Path
) -> None:
    """Executors get package and Python from archives alone: the driver's folder and environment are not theirs."""
    environment = tmp_path / "environment"
    subprocess.run(
        [str(REPOSITORY / "scripts" / "make_venv.sh"), str(environment), "requirements/executor.txt"],
        check=True,
        cwd=REPOSITORY,
    )
    subprocess.run(
        [sys.executable, "scripts/package.py", "--environment", str(environment)], check=True, cwd=REPOSITORY
    )
    reference, _, _ = published
    lakeside = on_cluster(tmp_path / "lake", reference.source, master, catalog, "packed")
    submit = [str(Path(sys.executable).parent / "spark-submit"), "--master", master]
    submit += ["--py-files", "dist/ganrec_spark.zip", "--archives", "dist/environment.tar.gz#environment"]
    more = ["--set", "spark.python=./environment/bin/python", "--set", "sparsity.max_ratings=0"]
    stages = (
        "ingest",
        "split",
        "sparsity",
        "als_setting",
        "user_rows",
        "merge_choose",
        "popularity_choose",
        "als_choose",
    )
    for stage in stages:
        job = ["jobs/run_stage.py", "--stage", stage, "--run-date", RUN_DATE, *lakeside.settings(), *more]
        done = lakeside.run([*submit, *job])
        assert done.returncode == 0, f"{stage}: {done.stderr[-3000:]}"
    assert "als_choose: done" in done.stdout
    assert "300 lists" in done.stdout
    ours, theirs = lakeside.digests(), reference.digests()
    for table in ("ratings", "train_ratings", "validation_ratings", "test_ratings", "users", "items"):
        assert ours[table] == theirs[table]
    assert left_behind(lakeside, master) == []
