"""The DAG, imported by a real Airflow in its own environment, is pipeline.STAGES and nothing else."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ganrec_spark.pipeline import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW = REPOSITORY / os.environ.get("GANREC_AIRFLOW_VENV", ".venv-airflow")

# Runs over there; the last line of its output is JSON.
DESCRIBE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dag = bag.dags.get("ganrec_daily")
tasks = dag.topological_sort() if dag else []
print(json.dumps({
    "errors": {str(path): error for path, error in bag.import_errors.items()},
    "dags": sorted(bag.dags),
    "tasks": [{
        "name": task.task_id,
        "after": sorted(task.upstream_task_ids),
        "kind": type(task).__name__,
        "application": task.application,
        "arguments": task.application_args,
        "environment": task.env_vars,
    } for task in tasks],
    "heavy": sorted({"pyspark", "torch", "pandas", "numpy"} & set(sys.modules)),
}))
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python = AIRFLOW / "bin" / "python"
    if not python.exists():
        pytest.fail(f"expected Airflow's environment in {AIRFLOW}, found none; run `make airflow`")
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "GANREC"))}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-c", DESCRIBE, REPOSITORY / "airflow_dags"],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_imports_without_error(described: dict[str, Any]) -> None:
    assert described["errors"] == {}
    assert described["dags"] == ["ganrec_daily"]


def test_tasks_are_the_stages_in_order(described: dict[str, Any]) -> None:
    names = [stage.name for stage in STAGES]
    assert [task["name"] for task in described["tasks"]] == names
    assert [task["after"] for task in described["tasks"]] == [[], *([name] for name in names[:-1])]


def test_each_task_submits_its_own_stage(described: dict[str, Any]) -> None:
    for task in described["tasks"]:
        assert task["kind"] == "SparkSubmitOperator"
        assert Path(task["application"]) == REPOSITORY / "jobs" / "run_stage.py"
        assert task["arguments"][:4] == ["--stage", task["name"], "--run-date", "{{ params.run_date or ds }}"]
        assert task["environment"]["PYSPARK_PYTHON"] == str(REPOSITORY / ".venv" / "bin" / "python")


def test_parses_without_spark_and_torch(described: dict[str, Any]) -> None:
    assert {"pyspark", "torch"}.isdisjoint(described["heavy"])
