"""One published run, one cluster and one catalog that the tests of this tier share."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.lakeside import REPOSITORY, Lakeside
from e2e.services import postgresql, spark_cluster

from ganrec_spark.world import write_world


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "ratings.parquet"
    write_world(path, users=300, items=100)
    return path


@pytest.fixture(scope="session")
def published(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakeside, list[dict[str, object]], str]:
    """Return a lake with one published run, the run's metrics, and what the command printed."""
    lakeside = Lakeside(tmp_path_factory.mktemp("lake"), source)
    metrics = lakeside.root / "metrics.json"
    done = lakeside.pipeline("--metrics-json", str(metrics))
    assert done.returncode == 0, done.stderr[-6000:]
    return lakeside, json.loads(metrics.read_text()), done.stdout


@pytest.fixture(scope="session")
def package() -> None:
    """Write dist/ganrec_spark.zip, which conf/cluster.yaml ships."""
    subprocess.run([sys.executable, str(REPOSITORY / "scripts" / "package.py")], check=True)


@pytest.fixture(scope="session")
def catalog() -> Iterator[dict[str, str]]:
    with postgresql() as environment:
        yield environment


@pytest.fixture(scope="session")
def master(package: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with spark_cluster(tmp_path_factory.mktemp("cluster") / "spark") as url:
        yield url
