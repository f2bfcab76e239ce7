"""Files stay short enough to be read in one go, and names stay apart."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ganrec_spark"
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_short_and_a_stage_is_thin(module: Path) -> None:
    most = 80 if module.parent.name == "stages" else 300
    assert len(module.read_text(encoding="utf-8").splitlines()) <= most


def test_no_two_public_classes_share_a_name() -> None:
    trees = (ast.parse(module.read_text(encoding="utf-8")) for module in MODULES)
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []
