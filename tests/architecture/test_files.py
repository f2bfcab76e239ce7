"""Files stay short enough to be read in one go, and names stay apart."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ganrec_spark"
MODULES = sorted(PACKAGE.rglob("*.py"))
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_a_module_is_short_and_a_stage_is_thin(module: Path) -> None:
    assert lines(module) <= (80 if module.parent.name == "stages" else 300)


@pytest.mark.parametrize("module", sorted((ROOT / "benchmarks").glob("*.py")), ids=named)
def test_a_benchmark_is_short(module: Path) -> None:
    assert lines(module) <= 300


@pytest.mark.parametrize("decision", DECISIONS, ids=named)
def test_a_decision_is_short(decision: Path) -> None:
    assert lines(decision) <= 40, "measurements go to docs/studies/"


def test_the_readme_is_short() -> None:
    assert lines(ROOT / "README.md") <= 130


def test_no_two_public_classes_share_a_name() -> None:
    trees = (ast.parse(module.read_text(encoding="utf-8")) for module in MODULES)
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []
