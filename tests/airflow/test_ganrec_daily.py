"""The DAG, imported by a real Airflow in its own environment, is pipeline.STAGES and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.process import REPOSITORY, told_by_airflow

from ganrec_spark.config.load import load_config
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.spark.submit import submit_properties

# Runs over there; the last line of its output is JSON.
DESCRIBE = """
import json, sys, time
import airflow.providers.apache.spark.operators.spark_submit, airflow.sdk, airflow.timetables.interval
from airflow.dag_processing.dagbag import DagBag
started = time.monotonic()
bag = DagBag(sys.argv[1])
seconds = time.monotonic() - started
dag = bag.dags.get("ganrec_daily")
tasks = dag.topological_sort() if dag else []
print(json.dumps({
    "errors": {str(path): error for path, error in bag.import_errors.items()},
    "dags": sorted(bag.dags),
    "seconds": seconds,
    "tasks": {task.task_id: {
        "after": sorted(task.upstream_task_ids),
        "kind": type(task).__name__,
        "rule": task.trigger_rule,
        "pool": task.pool,
        "retries": task.retries,
        "backoff": bool(task.retry_exponential_backoff),
        "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
        "doc": task.doc_md,
        "outlets": [asset.name for asset in task.outlets],
        **{name: getattr(task, name, None) for name in ("application", "application_args", "env_vars", "conf")},
    } for task in tasks},
    "heavy": sorted({"pyspark", "torch", "pandas", "numpy"} & set(sys.modules)),
}, default=str))
"""
# A spark-submit that ends with the exit code in its environment: what becomes of the task.
FAILS = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag
task = DagBag(sys.argv[1]).dags["ganrec_daily"].get_task("ingest")
found = {}
for code in sys.argv[2:]:
    os.environ["CODE"] = code
    try:
        task.execute({})
        found[code] = "done"
    except Exception as error:
        found[code] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""
BRANCH = "sparse_or_not"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return told_by_airflow(tmp_path_factory.mktemp("airflow"), DESCRIBE)


def test_what_would_end_in_the_same_way_is_not_retried(tmp_path: Path) -> None:
    submit = tmp_path / "spark-submit"
    submit.write_text("#!/bin/sh\nexit $CODE\n")
    submit.chmod(0o755)
    connection = '{"conn_type": "spark", "host": "local[1]"}'
    codes = ("0", "1", "2", "3", "4", "5", "6", "143")
    settings = {"GANREC_SPARK_SUBMIT": str(submit), "AIRFLOW_CONN_SPARK": connection}
    found = told_by_airflow(tmp_path, FAILS, *codes, **settings)
    assert found["0"] == "done"
    ended = {code: told.partition(":")[0] for code, told in found.items() if code != "0"}
    assert {code for code, kind in ended.items() if kind == "AirflowFailException"} == {"2", "3", "6"}
    assert {code for code, kind in ended.items() if kind == "AirflowException"} == {"1", "4", "5", "143"}
    assert "exit code 3, input data" in found["3"]


def test_imports_without_error(described: dict[str, Any]) -> None:
    assert described["errors"] == {}
    assert described["dags"] == ["ganrec_daily", "ganrec_feedback"]


def test_tasks_are_the_stages_in_order_and_one_branch(described: dict[str, Any]) -> None:
    tasks = described["tasks"]
    names = [stage.name for stage in STAGES]
    assert [name for name in tasks if name != BRANCH] == names
    before = {name: set(tasks[name]["after"]) - {BRANCH} for name in names}
    assert before == {name: {earlier} if earlier else set() for name, earlier in zip(names, ["", *names], strict=False)}


def test_the_branch_leads_to_the_stages_that_need_sparse_users(described: dict[str, Any]) -> None:
    """What it leaves out: the two it leads to, and what follows them up to a task that runs after skipped ones."""
    tasks = described["tasks"]
    skipped = {name for name, task in tasks.items() if BRANCH in task["after"]}
    assert "sparsity" in upstream(tasks, BRANCH)
    for name, task in tasks.items():
        if skipped & set(task["after"]) and task["rule"] == "all_success":
            skipped.add(name)
    assert skipped == {stage.name for stage in STAGES if stage.needs_sparse_users}


def upstream(tasks: dict[str, Any], name: str) -> set[str]:
    before = set(tasks[name]["after"])
    return before.union(*(upstream(tasks, earlier) for earlier in before))


def test_each_task_submits_its_own_stage(described: dict[str, Any]) -> None:
    for stage in STAGES:
        task = described["tasks"][stage.name]
        assert task["kind"] == "StageOperator"
        assert Path(task["application"]) == REPOSITORY / "jobs" / "run_stage.py"
        assert task["application_args"][:3] == ["--stage", stage.name, "--run-date"]
        assert "dag_run.logical_date" in task["application_args"][3]
        assert "params.overrides" in task["application_args"][-1]
        assert task["env_vars"]["PYSPARK_PYTHON"] == str(REPOSITORY / ".venv" / "bin" / "python")
        expected = submit_properties(load_config(REPOSITORY / "conf" / "cluster.yaml"), stage.profile)
        assert {key: task["conf"][key] for key in expected} == expected
        assert "GANREC_CATALOG" not in json.dumps(task["conf"])


def test_tasks_are_bounded_retried_and_explained(described: dict[str, Any]) -> None:
    for stage in STAGES:
        task = described["tasks"][stage.name]
        assert task["pool"] == "ganrec_writers"
        assert task["retries"] > 0
        assert task["backoff"]
        assert task["timeout"] >= 3600
        assert stage.doc in task["doc"]
    outlets = {name: task["outlets"] for name, task in described["tasks"].items() if task["outlets"]}
    assert outlets == {"publish": ["ganrec_published_recommendations"]}


def test_parses_in_a_second_without_spark_and_torch(described: dict[str, Any]) -> None:
    assert {"pyspark", "torch"}.isdisjoint(described["heavy"])
    assert described["seconds"] < 1
