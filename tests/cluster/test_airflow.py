"""A real Airflow runs the pipeline on a standalone cluster with its catalog in PostgreSQL."""

import json
import os
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml
from cluster.services import AIRFLOW, Airflow, airflow, free_port
from cluster.test_cluster import SMALL, left_behind, on_cluster
from e2e.lakeside import FAST, REPOSITORY, RUN_DATE, Lakeside, described

from ganrec_spark.plan.pipeline import STAGES

LOCAL = "local[2]"
Published = tuple[Lakeside, list[dict[str, object]], str]


@pytest.fixture(scope="module")
def lakeside(
    published: Published, master: str, catalog: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Lakeside:
    return on_cluster(tmp_path_factory.mktemp("lake"), published[0].source, master, catalog, "scheduled")


@pytest.fixture(scope="module")
def scheduler(lakeside: Lakeside, master: str, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    home = tmp_path_factory.mktemp("airflow")
    small = yaml.safe_load(SMALL[1].partition("=")[2])
    config = yaml.safe_load((REPOSITORY / "conf" / "cluster.yaml").read_text())
    config["spark"]["properties"] = small
    config["spark"]["driver_memory"] = "1g"
    (home / "cluster.yaml").write_text(yaml.safe_dump(config))
    environment = {**lakeside.environment, "GANREC_RETRIES": "0"}
    return airflow(home, environment, master, home / "cluster.yaml")


def overrides(lakeside: Lakeside, master: str, *more: str) -> dict[str, object]:
    own = (f"lake.root={lakeside.root}", "lake.namespace=scheduled", f"ingest.source={lakeside.source}")
    known = described(lakeside.source)[1::2]  # without --set
    pairs = (setting.split("=", 1) for setting in (*FAST, *own, *known, f"spark.master={master}", *more))
    return {key: yaml.safe_load(value) for key, value in pairs if key != "spark.driver_memory"}


@pytest.mark.timeout(2400)  # a driver for every stage
def test_dags_test_publishes_the_lists_of_one_local_process_and_again_changes_nothing(
    scheduler: Airflow, lakeside: Lakeside, master: str, published: Published
) -> None:
    conf = json.dumps({"overrides": overrides(lakeside, master)})
    done = scheduler.run("dags", "test", "ganrec_daily", RUN_DATE, "--conf", conf)
    assert done.returncode == 0, done.stdout[-6000:]
    assert lakeside.digests() == published[0].digests()
    for stage in STAGES:
        assert f"{stage.name}: " in done.stdout
    assert lakeside.environment["GANREC_CATALOG_PASSWORD"] not in done.stdout
    publications = lakeside.ganrec("publications").stdout
    assert len(publications.splitlines()) == 1
    # The cluster has been shown; from here on a local master saves the minutes of starting executors.
    scheduler.environment["AIRFLOW_CONN_SPARK"] = json.dumps({"conn_type": "spark", "host": LOCAL})
    conf = json.dumps({"overrides": overrides(lakeside, LOCAL)})
    done = scheduler.run("dags", "test", "ganrec_daily", RUN_DATE, "--conf", conf)
    assert done.returncode == 0, done.stdout[-6000:]
    assert lakeside.digests() == published[0].digests()
    assert lakeside.ganrec("publications").stdout == publications
    assert left_behind(lakeside, master) == []


@contextmanager
def running(scheduler: Airflow) -> Iterator[None]:
    """Run scheduler, API server and DAG processor until the block ends, and see all their processes go."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    api = {"AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": url}
    scheduler.environment.update(api)
    log = (Path(scheduler.environment["AIRFLOW_HOME"]) / "standalone.log").open("w")
    process = subprocess.Popen(
        [AIRFLOW, "standalone"], env=scheduler.environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        # Tasks report to the API server; one that starts before it is lost.
        wait_until(lambda: answers(f"{url}/api/v2/monitor/health"), 120)
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=60)
        log.close()
    assert [child.cmdline() for child in alive] == []


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_until(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)


def query(scheduler: Airflow, statement: str) -> list[tuple[str, ...]]:
    database = Path(scheduler.environment["AIRFLOW_HOME"]) / "airflow.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        return connection.execute(statement).fetchall()


def wait_for(scheduler: Airflow, state: str, n: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = [found for (found,) in query(scheduler, "SELECT state FROM dag_run WHERE run_type = 'backfill'")]
        if states.count(state) == n:
            return
        time.sleep(2)
    pytest.fail(f"expected {n} runs {state}, found {states}: {query(scheduler, TASKS)}")


TASKS = "SELECT run_id, task_id, state, try_number FROM task_instance ORDER BY run_id, start_date"


@pytest.mark.timeout(3000)
def test_a_backfill_fails_is_cleared_goes_on_and_publishes_the_latest(
    scheduler: Airflow, lakeside: Lakeside, tmp_path: Path
) -> None:
    """Three dates without sparse users; all break at recommend, for a file that is missing until they are cleared."""
    before = lakeside.ganrec("publications").stdout
    scheduler.environment["AIRFLOW_CONN_SPARK"] = json.dumps({"conn_type": "spark", "host": LOCAL})
    missing = tmp_path / "blocked.csv"
    faster = ("sparsity.max_ratings=0", "distributed.workers=1", f"rules.blocked_items={missing}")
    conf = json.dumps({"overrides": overrides(lakeside, LOCAL, *faster)})
    today = datetime.now(UTC).date()  # yesterday's run is the scheduler's own, as soon as the DAG is unpaused
    dates = [(today - timedelta(days=days)).isoformat() for days in (4, 3, 2)]
    done = scheduler.run("dags", "reserialize")
    assert done.returncode == 0, done.stdout
    span = ("--from-date", dates[0], "--to-date", dates[-1])
    with running(scheduler):
        done = scheduler.run("dags", "unpause", "ganrec_daily", "--yes")
        assert done.returncode == 0, done.stdout
        done = scheduler.run(
            "backfill", "create", "--dag-id", "ganrec_daily", *span, "--max-active-runs", "1", "--dag-run-conf", conf
        )
        assert done.returncode == 0, done.stdout
        wait_for(scheduler, "failed", 3, 1500)
        states = {(run, task): state for run, task, state, _ in query(scheduler, TASKS) if "backfill" in run}
        for task in ("train_generator", "augment_choose", "gate", "augment_final"):
            assert [state for (_, name), state in states.items() if name == task] == ["skipped"] * 3
        assert [state for (_, name), state in states.items() if name == "recommend"] == ["failed"] * 3
        home = Path(scheduler.environment["AIRFLOW_HOME"])
        log = "".join(path.read_text() for path in home.glob("logs/**/task_id=recommend/*.log"))
        assert "Error code is: 3" in log
        assert "blocked.csv" in log
        assert lakeside.ganrec("publications").stdout == before
        missing.write_text("item_id\nnobody-has-this\n")
        done = scheduler.run(
            "tasks",
            "clear",
            "ganrec_daily",
            "--yes",
            "--only-failed",
            "--start-date",
            dates[0],
            "--end-date",
            dates[-1],
            "--downstream",
        )
        assert done.returncode == 0, done.stdout
        wait_for(scheduler, "success", 3, 900)
    tries = {(task, number) for run, task, _, number in query(scheduler, TASKS) if "backfill" in run}
    assert ("ingest", 1) in tries
    assert ("ingest", 2) not in tries
    published = lakeside.ganrec("publications").stdout.splitlines()
    assert [line.split()[2] for line in published[:3]] == dates[::-1]
