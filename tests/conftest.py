"""One rule for all tests: the folder is the tier. Fixtures live in the conftest.py of each folder."""

from pathlib import Path

import pytest

import ganrec_spark  # noqa: F401  (before NumPy: it chooses the kernels)

TESTS = Path(__file__).parent
# In the order they run: what fails fast comes first.
TIERS = ("unit", "architecture", "airflow", "spark", "distributed", "e2e", "cluster")


def _tier(item: pytest.Item) -> str:
    folder = item.path.relative_to(TESTS).parts[0]
    if folder not in TIERS:
        raise pytest.UsageError(f"{item.path}: expected in one of tests/{{{','.join(TIERS)}}}, found in '{folder}'")
    return folder


# First, because pytest's own -m looks at the markers in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(_tier(item))
    items.sort(key=lambda item: TIERS.index(_tier(item)))
