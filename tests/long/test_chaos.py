"""Processes that are killed at random leave a lake in which nothing is doubled, lost or mixed up."""

import subprocess
import sys
from pathlib import Path

import pytest
from e2e.lakeside import REPOSITORY

_ROUNDS = 5


@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_five_rounds_of_ingests_publications_rollbacks_and_kills(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/chaos.py", "--rounds", str(_ROUNDS), "--seed", "5", "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1400, check=False)
    log = (tmp_path / "log.txt").read_text(errors="replace")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}\n{log[-3000:]}"
    assert done.stdout.rstrip().endswith("every invariant holds")
    assert "ingest 0: " in done.stdout
    assert "ingest -9: " in done.stdout
    assert "publish 0: " in done.stdout
    assert "Traceback" not in log
