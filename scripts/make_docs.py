"""Gather what the documentation site is built from: docs/, and the pages that follow from the code.

    .venv/bin/python scripts/make_docs.py FOLDER

tables.md is every table and column as plan/tables.py declares them, keys.md every key as conf/default.yaml and
conf/models.yaml explain it.
Links that lead out of docs/ are for readers of the checkout; on the site they become plain text.
"""

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ganrec_spark.plan.table import Table
from ganrec_spark.plan.tables import EDITIONS, PUBLISHED_VIEWS, TABLES

ROOT = Path(__file__).resolve().parent.parent
_SCOPES = {
    "run": "rows are replaced whole when their run is repeated",
    "append": "rows are only ever added",
    "events": "rows are only ever added, each once",
    "pointer": "one row for all runs",
}


def main(folder: Path) -> None:
    """Write the pages into `folder`, from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    (folder / "tables.md").write_text(tables_page(), encoding="utf-8")
    texts = [(ROOT / "conf" / name).read_text(encoding="utf-8") for name in ("default.yaml", "models.yaml")]
    (folder / "keys.md").write_text(keys_page(*texts), encoding="utf-8")
    for page in folder.rglob("*.md"):
        page.write_text(inside(page.read_text(encoding="utf-8"), page.parent.relative_to(folder)), encoding="utf-8")


def inside(text: str, folder: Path) -> str:
    """Return the page's text with links that leave docs/ as their words; `folder` is the page's, below docs/."""

    def kept(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        if not target or "://" in target:
            return link[0]
        depth = len(folder.parts)
        for part in Path(target).parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                return link["words"]
        return link[0]

    return re.sub(r"(?<!!)\[(?P<words>[^\]]+)\]\((?P<target>[^)\s]+)\)", kept, text)


def tables_page() -> str:
    """Return the page of tables: what a row means, its key, and every column with type and meaning."""
    views = "\n".join(f"- `{view}`: the published rows of `{table}`" for view, table in PUBLISHED_VIEWS.items())
    head = (
        "# Tables\n\nReaders query the views; they show all of the published run, or none of it. Every table also has "
        "the columns `run_id` and, where it says *by phase*, `phase`.\n\n"
    )
    return head + views + "\n\n" + "\n".join(_table(table) for table in (*TABLES, *EDITIONS))


def _table(table: Table) -> str:
    by_phase = ", by phase" if table.phased else ""
    key = ", ".join(f"`{name}`" for name in table.key)
    lines = [
        f"## {table.name}\n",
        f"One row is {table.grain}. Key: {key}; {_SCOPES[table.scope]}{by_phase}.\n",
        "| column | type | meaning |",
        "|---|---|---|",
        *(f"| `{column.name}` | {column.type} | {_cell(column.comment)} |" for column in table.columns),
        "",
    ]
    return "\n".join(lines)


def keys_page(operator: str, models: str) -> str:
    """Return the page of keys, section by section, from the texts of conf/default.yaml and conf/models.yaml."""
    head = (
        "# Keys\n\nDefaults and meaning of every key. Layers: defaults < `--config` file < environment "
        "(`GANREC_SPARSITY__MAX_RATINGS=5`) < `--set sparsity.max_ratings=5`.\n\n"
    )
    return (
        f"{head}## What an operator decides\n\n{keys_of(operator)}\n## What a data scientist tunes\n\n{keys_of(models)}"
    )


def keys_of(text: str) -> str:
    """Return the sections of one file."""
    sections: list[_Section] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        code, words = _code_and_words(line)
        indent = len(line) - len(line.lstrip())
        entry = re.match(r"^\s*([\w.\-]+):(.*)$", code)
        if entry and not indent:
            sections.append(_Section(entry[1], [words]))
        elif entry:
            parents = [*(parent for parent in parents if parent[0] < indent), (indent, entry[1])]
            sections[-1].rows.append([".".join(name for _, name in parents), entry[2].strip(), words])
        elif sections and (not sections[-1].rows or (words and indent <= 2)):
            sections[-1].words.append(words)
        elif sections:
            row = sections[-1].rows[-1]
            item = code.strip().removeprefix("- ")
            row[1], row[2] = f"{row[1]} {item}".strip(), f"{row[2]} {words}".strip()
    return "\n".join(map(str, sections))


@dataclass
class _Section:
    name: str
    words: list[str]
    rows: list[list[str]] = field(default_factory=list)  # key, default, meaning

    def __str__(self) -> str:
        lines = [
            f"### {self.name}\n",
            f"{' '.join(self.words).strip()}\n",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        for key, value, words in self.rows:
            lines.append(f"| `{key}` | {f'`{_cell(value)}`' if value else ''} | {_cell(words)} |")
        return "\n".join(lines) + "\n"


def _code_and_words(line: str) -> tuple[str, str]:
    """Return a line of YAML without its comment, and the comment."""
    for place in (match.start() for match in re.finditer(r"(?:^|\s)#", line)):
        if line[:place].count('"') % 2 == 0:
            return line[:place], line[place:].strip().removeprefix("#").strip()
    return line, ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
