"""What a member is stands in plan/members.py: no second list of them is kept by hand."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganrec_spark.config.sections import Config
from ganrec_spark.plan import phased
from ganrec_spark.plan.members import COLOURS, MEMBER_NAMES, MEMBERS, Member
from ganrec_spark.plan.pipeline import STAGE_BY_NAME, STAGES
from ganrec_spark.plan.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ganrec_spark", "benchmarks", "airflow_dags", "jobs", "scripts")
DECLARED = ROOT / "ganrec_spark" / "plan" / "members.py"


def literals(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield line and texts of every tuple, list, set, dictionary (its keys) and Literal in the code."""
    for node in ast.walk(tree):
        entries: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            entries = [*node.elts]
        elif isinstance(node, ast.Dict):
            entries = [*node.keys]
        texts = [one.value for one in entries if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if texts and isinstance(node, ast.expr):
            yield node.lineno, texts


def member_of(text: str) -> str | None:
    """Return the member that a text is the name or the table of lists of."""
    name = text.removesuffix("_candidates")
    return name if name in MEMBER_NAMES else None


def hand_kept(source: str) -> list[int]:
    """Return the lines of literals that name two members or more."""
    found = [(line, {member_of(text) for text in texts} - {None}) for line, texts in literals(ast.parse(source))]
    return [line for line, members in found if len(members) > 1]


def test_members_are_listed_in_one_place() -> None:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")) if file != DECLARED]
    found = {str(file.relative_to(ROOT)): hand_kept(file.read_text(encoding="utf-8")) for file in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_comments_of_tables_do_not_list_them_by_hand() -> None:
    text = (ROOT / "ganrec_spark" / "plan" / "tables.py").read_text(encoding="utf-8")
    names = "|".join(MEMBER_NAMES)
    assert re.findall(rf"\b(?:{names})\b(?:,| or) (?:{names})\b.*", text) == []


@pytest.mark.parametrize(
    "source",
    ['TUNED = ("als", "item_item")', 'COLOURS = {"als": 1, "blend": 2, "trending": 3}',
     'rules: Literal["popularity", "item_item", "transformer"]', 'reads = ["als_candidates", "trending_candidates"]'],
)  # fmt: skip
def test_a_list_that_comes_back_is_found(source: str) -> None:
    assert hand_kept(source) == [1]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_what_is_declared_is_there(member: Member) -> None:
    assert member.section is None or member.section in Config.model_fields
    table = f"{member.name}_candidates"
    assert {stage.phase for stage in STAGES if table in stage.writes} == {"choose", "final"}
    if member.tuned_in:
        assert member.tuned_in in STAGE_BY_NAME
        assert importlib.util.find_spec(f"ganrec_spark.recommenders.{member.name}.tuning") is not None
    if member.may_fill:
        order = [stage.name for stage in STAGES]
        (first, _) = (stage.name for stage in STAGES if table in stage.writes)
        assert order.index(first) < order.index("augment_choose")


def test_names_and_colours_are_of_one_each() -> None:
    assert len(set(MEMBER_NAMES)) == len(MEMBERS)
    assert len(set(COLOURS.values())) == len(COLOURS) == len(MEMBERS) + 2
    assert {f"{name}_candidates" for name in COLOURS} <= {table.name for table in TABLES}


def test_plain_stages_follow_from_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fills = Member("a", "#000000", doc="A."), Member("b", "#111111", "B.", "als", chooses=True, may_fill=True)
    others = (member for member in MEMBERS if member.doc is None)
    monkeypatch.setattr(phased, "MEMBERS", (*others, plain, fills))
    (stage,) = phased.plain_stages("choose", before_fills=False)
    assert (stage.name, stage.module, stage.config) == ("a_choose", "a", phased.of_lists("choose"))
    assert stage.reads == ("merged_ratings", "known_dislikes", "validation_ratings")
    assert stage.writes == ("a_candidates",)
    (choose,), (final,) = (phased.plain_stages(phase, before_fills=True) for phase in ("choose", "final"))
    # Whose lists are made, and those whose lists may be fills.
    own = ("validation_ratings", "user_sparsity", "matrix_profile")
    assert choose.reads == ("train_ratings", "known_dislikes", *own)
    assert final.reads == ("train_ratings", "validation_ratings", "known_dislikes", "b_choices")
    assert choose.writes == final.writes == ("b_choices", "b_candidates")
    assert choose.config == ("als", *phased.of_lists("choose"))
