"""The loop's DAG, imported by a real Airflow: learn, and one task for everything that may be next."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.process import REPOSITORY, in_airflow, told_by_airflow

from ganrec_spark.plan.learning_tables import ACTIONS

STARTS = {"fine_tune", "retrain", "gate_again"}
OVERRIDES = {"lake.root": "/a lake", "sparsity.max_ratings": 5}

# Run over there; the last line of their output is JSON.
DESCRIBE = """
import json, sys
from types import SimpleNamespace
from datetime import datetime, UTC
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dag = bag.dags["ganrec_feedback"]
daily = bag.dags["ganrec_daily"]
known = {"dag_run": SimpleNamespace(run_after=datetime(2026, 11, 3, 23, tzinfo=UTC)),
         "params": {"overrides": json.loads(sys.argv[2])}}
def rendered(task):
    if getattr(task, "trigger_dag_id", ""):
        return dag.get_template_env().from_string(task.conf).render(**known)
print(json.dumps({
    "waits_for": [asset.name for asset in dag.timetable.asset_condition.objects],
    "max_active_runs": dag.max_active_runs,
    "daily_params": {name: param.dump() for name, param in daily.params.items()},
    "tasks": {task.task_id: {
        "after": sorted(task.upstream_task_ids),
        "kind": type(task).__name__,
        "pool": task.pool,
        "retries": task.retries,
        "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
        "rendered": rendered(task),
        **{name: getattr(task, name, None) for name in (
            "application", "application_args", "trigger_dag_id", "trigger_run_id", "skip_when_already_exists")},
    } for task in dag.topological_sort()},
}, default=str))
"""
# What becomes of a task; of the branch with a `ganrec next` in a folder of its own.
BRANCHES = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["ganrec_feedback"]
print(json.dumps({home: dag.get_task("what_next").python_callable(home, "shop.yaml", "{}") for home in sys.argv[2:]}))
"""
TELLS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["ganrec_feedback"]
found = {}
for name in sys.argv[2:]:
    try:
        found[name] = dag.get_task(name).python_callable()
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""
NEXT = """
import sys
assert sys.argv[1:] == ["next", "--config", "shop.yaml", "--set-json", "{{}}", "--master", "local[1]"], sys.argv
print("something that a library says")
print("{action}")
print("because: of 5 reasons")
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return told_by_airflow(tmp_path_factory.mktemp("airflow"), DESCRIBE, json.dumps(OVERRIDES))


def test_it_waits_for_events_one_run_at_a_time(described: dict[str, Any]) -> None:
    assert described["waits_for"] == ["ganrec_feedback_events"]
    assert described["max_active_runs"] == 1


def test_learn_then_the_branch_then_one_task_for_each_action(described: dict[str, Any]) -> None:
    tasks = described["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {
        "learn": [],
        "what_next": ["learn"],
        **{action: ["what_next"] for action in ACTIONS},
    }
    assert tasks["learn"]["kind"] == "StageOperator"
    assert Path(tasks["learn"]["application"]) == REPOSITORY / "jobs" / "learn.py"
    assert tasks["learn"]["application_args"][:1] == ["--config"]  # of the run that readers see
    assert "params.overrides" in tasks["learn"]["application_args"][-1]


def test_only_what_writes_takes_the_writers_slot_and_all_but_the_announcement_is_retried(
    described: dict[str, Any],
) -> None:
    tasks = described["tasks"]
    writing = {name for name, task in tasks.items() if task["kind"] == "StageOperator"}
    assert writing == {"learn", "refresh"}
    for name, task in tasks.items():
        assert task["pool"] == ("ganrec_writers" if name in writing else "default_pool"), name
        assert (task["retries"] > 0) == (name != "roll_back"), name
    assert all(tasks[name]["timeout"] >= 3600 for name in writing)


def test_a_new_run_is_started_once_a_day_with_the_same_configuration(described: dict[str, Any]) -> None:
    for name, task in described["tasks"].items():
        assert (task["trigger_dag_id"] == "ganrec_daily") == (name in STARTS)
        if name in STARTS:
            assert task["trigger_run_id"] == "feedback__{{ dag_run.run_after | ds }}"
            assert task["skip_when_already_exists"] is True
            conf = json.loads(task["rendered"])
            assert conf == {"run_date": "2026-11-03", "next_run": name, "overrides": OVERRIDES}
            assert set(conf) <= set(described["daily_params"])
    assert described["daily_params"]["next_run"]["schema"]["enum"] == [None, *ACTIONS]


def test_the_branch_is_what_table_next_run_says(tmp_path: Path) -> None:
    homes = {}
    for action in ACTIONS:
        package = tmp_path / action / "ganrec_spark"
        package.mkdir(parents=True)
        (package / "cli.py").write_text(NEXT.format(action=action))
        homes[str(tmp_path / action)] = action
    assert told_by_airflow(tmp_path, BRANCHES, *homes) == homes


def test_going_back_is_left_to_people(tmp_path: Path) -> None:
    told = told_by_airflow(tmp_path, TELLS, "roll_back")
    assert told["roll_back"].startswith("AirflowFailException: the published lists are provably worse")
    assert "`ganrec rollback`" in told["roll_back"]


def test_events_that_call_for_training_start_one_daily_run(tmp_path: Path) -> None:
    """The DAG as Airflow runs it, twice on one day; the spark-submit and `ganrec next` are ours."""
    checkout = tmp_path / "checkout"
    for folder in ("airflow_dags", "conf", "jobs", "ganrec_spark"):
        shutil.copytree(REPOSITORY / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "ganrec_spark" / "cli" / "__main__.py").write_text('print("retrain")\nprint("items have drifted")\n')
    submit = tmp_path / "spark-submit"
    submit.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    submit.chmod(0o755)
    settings = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(checkout / "airflow_dags"),
        "AIRFLOW_CONN_SPARK": '{"conn_type": "spark", "host": "local[1]"}',
        "GANREC_PYTHON": sys.executable,
        "GANREC_SPARK_SUBMIT": str(submit),
    }
    conf = json.dumps({"overrides": OVERRIDES})
    for command in (
        ("db", "migrate"),
        ("pools", "set", "ganrec_writers", "1", "stages that write the lake"),
        ("dags", "reserialize"),
        ("dags", "test", "ganrec_feedback", "2026-11-03", "--conf", conf),
        ("dags", "test", "ganrec_feedback", "2026-11-03", "--conf", conf),
    ):
        done = in_airflow(tmp_path, "airflow", *command, **settings)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "retrain: items have drifted" in done.stdout
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database:
        ((run_id, stored),) = database.execute("SELECT run_id, conf FROM dag_run WHERE dag_id = 'ganrec_daily'")
    told = json.loads(stored)
    assert run_id == f"feedback__{told['run_date']}"
    assert (told["next_run"], told["overrides"]) == ("retrain", OVERRIDES)
    submitted = (tmp_path / "spark-submit.log").read_text()
    assert submitted.count("jobs/learn.py") == 2
    assert json.dumps(OVERRIDES) in submitted
