"""One published run that the tests of this tier share."""

import json
from pathlib import Path

import pytest
from e2e.lakeside import LOCAL, Lakeside, described

from ganrec_spark.raw.world import write_world


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "ratings.parquet"
    write_world(path, users=300, items=100)
    return path


@pytest.fixture(scope="session")
def published(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakeside, list[dict[str, object]], str]:
    """Return a lake with one published run, the run's metrics, and what the command printed."""
    lakeside = Lakeside(tmp_path_factory.mktemp("lake"), source, (*LOCAL, *described(source)))
    metrics = lakeside.root / "metrics.json"
    done = lakeside.recorded(lakeside.root / "used.json", "--metrics-json", str(metrics))
    assert done.returncode == 0, done.stderr[-6000:]
    assert "Traceback" not in done.stderr
    assert '"stacktrace"' not in done.stderr
    return lakeside, json.loads(metrics.read_text()), done.stdout


@pytest.fixture(scope="session")
def digests(published: tuple[Lakeside, list[dict[str, object]], str]) -> dict[str, str]:
    """Return the content hash of every table of the published run."""
    return published[0].digests()
