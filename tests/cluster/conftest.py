"""One cluster and one catalog that the tests of this tier share, and a local run to compare with."""

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from cluster.services import postgresql, spark_cluster
from e2e.lakeside import REPOSITORY


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
    folder = tmp_path_factory.mktemp("cluster") / "spark"
    with spark_cluster(folder) as url:
        yield url
    assert not folder.exists()
    assert [process for process in psutil.process_iter(["cmdline"]) if url in (process.info["cmdline"] or [])] == []
