"""docs/adding-a-recommender.md, done as it says: its blocks in a copy of the package make a member of the blend."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-recommender.md"
COPIED = ("ganrec_spark", "conf", "tests", "pyproject.toml")


def blocks() -> list[tuple[str, str]]:
    """Return the title and the text of every block of the page that has a title."""
    found = re.findall(
        r'^```\w+ title="([^"\n]+)"\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [(title, text) for title, text in found]


def put(folder: Path, title: str, text: str) -> None:
    """Do with a block what its title says: a new file, or `FILE, before LINE` or `FILE, after LINE` in an old one."""
    name, _, place = title.partition(", ")
    file = folder / name
    if not place:
        file.parent.mkdir(parents=True, exist_ok=True)
        assert not file.exists(), f"{name} is there already"
        file.write_text(text, encoding="utf-8")
        return
    where, _, words = place.partition(" ")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    (found,) = (number for number, line in enumerate(lines) if line.strip().startswith(words))
    lines.insert(found + (where == "after"), text)
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for title, text in blocks():
        put(folder, title, text)
    return folder


def run(checkout: Path, *command: str) -> str:
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, **python},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_a_member_is_one_declaration_and_less_than_a_hundred_lines() -> None:
    sizes = {title: len(text.splitlines()) for title, text in blocks()}
    assert sum(size for title, size in sizes.items() if "members.py" in title) == 1
    own = [size for title, size in sizes.items() if "recommenders/chain" in title or "stages/" in title]
    assert sum(own) < 100


def test_the_rules_of_the_code_base_hold_with_it(checkout: Path) -> None:
    tests = ("tests/architecture/test_pipeline.py", "tests/architecture/test_members.py")
    more = ("tests/unit/config/test_config.py", "tests/unit/recommenders/chain")
    run(checkout, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *more)
    contracts = run(checkout, str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert "recommenders do not know each other KEPT" in contracts
    run(checkout, str(Path(sys.executable).parent / "ruff"), "check", "--no-cache", ".")
    run(checkout, str(Path(sys.executable).parent / "ruff"), "format", "--no-cache", "--check", ".")


def test_it_has_lists_a_weight_metrics_and_its_place_in_lists_and_report(checkout: Path, tmp_path: Path) -> None:
    output = run(checkout, sys.executable, "tests/e2e/added.py", str(tmp_path))
    *summary, last = output.splitlines()
    found = json.loads(last)
    assert found["members"] == ["als", "item_item", "transformer", "trending", "chain"]
    assert found["lists"] == 60
    # Everyone walks the circle: what comes next is certain, and nobody else knows.
    assert found["ndcg"]["chain"] == 1.0
    assert found["weights"].keys() == set(found["members"])
    assert found["weights"]["chain"] > 0.1  # of equally good settings the most even: the others' lists are empty
    assert found["first"]["chain"] == 60
    assert found["report"] >= 2
    assert sum(line.startswith("chain ") for line in summary) == 2  # validation and test
