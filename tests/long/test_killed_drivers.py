"""A pipeline whose driver is killed goes on where it was, and ends in the same tables."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from e2e.lakeside import REPOSITORY, RUN_DATE, Lakeside

from ganrec_spark.plan.pipeline import STAGES

Published = tuple[Lakeside, list[dict[str, object]], str]

# Stage -> seconds after it began: 0 is between two stages, more is in the middle of one.
KILLS = (("train_generator", 6.0), ("recommend", 0.0), ("publish", 0.5))


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_killed_drivers_end_in_the_same_tables(published: Published, digests: dict[str, str], tmp_path: Path) -> None:
    reference, _, _ = published
    lakeside = Lakeside(tmp_path / "lake", reference.source, reference.options)
    for stage, seconds in KILLS:
        kill_at(lakeside, stage, seconds)
        if stage == "recommend":  # the last one before publish: readers see nothing yet
            assert lakeside.ganrec("publications").stdout == ""
    done = lakeside.pipeline()
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < done.stderr.count(": kept in") < len(STAGES)
    assert lakeside.digests() == digests
    assert len(lakeside.ganrec("publications").stdout.splitlines()) == 1


def kill_at(lakeside: Lakeside, stage: str, seconds: float) -> None:
    """Start the pipeline, kill its driver and JVM `seconds` after `stage` began, and see every process go."""
    command = [sys.executable, "jobs/run_pipeline.py", "--run-date", RUN_DATE, "--verbose", *lakeside.settings()]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    said: list[str] = []
    while not (said and f"] {stage}: " in said[-1]):
        said.append(process.stderr.readline())
        if not said[-1]:
            pytest.fail(f"the pipeline ended before stage {stage}, status {process.wait()}: {''.join(said[-40:])}")
    time.sleep(seconds)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert [child.cmdline() for child in alive] == []
