"""The documentation holds together: links lead somewhere, and every table and key has its place."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from ganrec_spark.config.sections import Config
from ganrec_spark.plan.tables import EDITIONS, TABLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    generated = {"tables.md", "keys.md"}  # by scripts/make_docs.py
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (page.parent / target).exists()]
    assert [target for target in missing if target not in generated] == []


def test_every_key_has_a_row(make_docs: ModuleType) -> None:
    page = make_docs.keys_page(*((ROOT / "conf" / name).read_text() for name in ("default.yaml", "models.yaml")))
    for name, section in Config().__class__.model_fields.items():
        own = "".join(part.split("\n#")[0] for part in page.split(f"### {name}\n")[1:])
        assert isinstance(section.annotation, type)
        assert issubclass(section.annotation, BaseModel)
        for key in section.annotation.model_fields:
            assert f"| `{key}` |" in own, f"{name}.{key}"


def test_keys_keep_their_values_and_words(make_docs: ModuleType) -> None:
    head = "als:   # ALS\n  # All of them.\n  alpha: [1, 2]  # how\n    # much\n"
    text = head + '  uri: "a#b"   # where\n  list:  # of\n    - "#x"\n'
    page = make_docs.keys_of(text)
    assert "### als\n\nALS All of them.\n" in page
    assert "| `alpha` | `[1, 2]` | how much |" in page
    assert '| `uri` | `"a#b"` | where |' in page
    assert '| `list` | `"#x"` | of |' in page


def test_every_table_and_column_has_a_row(make_docs: ModuleType) -> None:
    page = make_docs.tables_page()
    for table in (*TABLES, *EDITIONS):
        own = page.split(f"## {table.name}\n")[1].split("\n## ")[0]
        assert [column.name for column in table.columns if f"| `{column.name}` |" not in own] == []


def test_links_out_of_the_docs_become_words(make_docs: ModuleType) -> None:
    text = "[plan](../ganrec_spark/plan.py), [here](adr/1.md#x), [web](https://a/b), [up](../results.md)"
    assert make_docs.inside(text, Path()) == "plan, [here](adr/1.md#x), [web](https://a/b), up"
    assert make_docs.inside("[up](../results.md)", Path("adr")) == "[up](../results.md)"
