"""One published run that the tests of this tier share."""

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e.lakeside import RUN_DATE, Lakeside

from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.raw.world import write_world


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "ratings.parquet"
    write_world(path, users=300, items=100)
    return path


@pytest.fixture(scope="session")
def one_by_one(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lakeside, Future[None]]]:
    """Submit every stage in a driver of its own, beside all other tests: drivers that start leave cores idle."""
    lakeside = Lakeside(tmp_path_factory.mktemp("one_by_one") / "lake", source)
    unwanted = threading.Event()

    def submit_each() -> None:
        commands = lakeside.ganrec("submit", "--run-date", RUN_DATE).stdout.splitlines()
        assert len(commands) == len(STAGES)
        for stage, command in zip(STAGES, commands, strict=True):
            if unwanted.is_set():
                return
            done = lakeside.run([str(Path(sys.executable).parent / "spark-submit"), *shlex.split(command)[1:]])
            assert done.returncode == 0, f"{stage.name}: {done.stderr[-3000:]}"

    with ThreadPoolExecutor(1) as pool:
        yield lakeside, pool.submit(submit_each)
        unwanted.set()


@pytest.fixture(scope="session")
def published(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakeside, list[dict[str, object]], str]:
    """Return a lake with one published run, the run's metrics, and what the command printed."""
    lakeside = Lakeside(tmp_path_factory.mktemp("lake"), source)
    metrics = lakeside.root / "metrics.json"
    done = lakeside.recorded(lakeside.root / "used.json", "--metrics-json", str(metrics))
    assert done.returncode == 0, done.stderr[-6000:]
    return lakeside, json.loads(metrics.read_text()), done.stdout
