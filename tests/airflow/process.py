"""A real Airflow, in its own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW = REPOSITORY / os.environ.get("GANREC_AIRFLOW_VENV", ".venv-airflow")


def told_by_airflow(home: Path, code: str, *arguments: str, **more: str) -> dict[str, Any]:
    """Run Python code in Airflow's environment; return the JSON in the last line of its output."""
    done = in_airflow(home, "python", "-c", code, str(REPOSITORY / "airflow_dags"), *arguments, **more)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def in_airflow(home: Path, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Airflow's environment, with AIRFLOW_HOME `home` and the further variables."""
    if not (AIRFLOW / "bin" / program).exists():
        pytest.fail(f"expected Airflow's environment in {AIRFLOW}, found none; run `make airflow`")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "GANREC"))}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": "", **more}
    return subprocess.run(
        [AIRFLOW / "bin" / program, *arguments],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
