"""The folder of a test is its tier, and its file is what one of several workers takes as a whole."""

from pathlib import Path
from typing import Any

import pytest

import ganrec_spark  # noqa: F401  (before NumPy: it chooses the kernels)

# For all tiers alike, so that one session and one published run serve them all.
pytest_plugins = ("spark.fixtures", "e2e.fixtures")
TESTS = Path(__file__).parent
# In the order they run: what fails fast comes first.
TIERS = ("unit", "architecture", "airflow", "spark", "distributed", "e2e", "long", "cluster")
# One of several workers begins with what takes long, so that nobody waits for it at the end.
OF_SEVERAL = ("long", "e2e", "spark", "distributed", "airflow", "architecture", "unit", "cluster")
# Their tests look at one published run, which takes minutes to make; those of the second file publish it again.
SHARING = ("tests/e2e/test_pipeline.py", "tests/e2e/test_errors.py", "tests/long/test_killed_drivers.py")


def _tier(item: pytest.Item) -> str:
    folder = item.path.relative_to(TESTS).parts[0]
    if folder not in TIERS:
        raise pytest.UsageError(f"{item.path}: expected in one of tests/{{{','.join(TIERS)}}}, found in '{folder}'")
    return folder


# First, because pytest's own -m looks at the markers in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(_tier(item))
    items.sort(key=lambda item: (TIERS.index(_tier(item)), item.nodeid.startswith(SHARING[1])))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not item.nodeid.startswith(SHARING), OF_SEVERAL.index(_tier(item))))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return SHARING[0] if file in SHARING else file

    return ByFile(config, log)
