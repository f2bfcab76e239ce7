"""A fingerprint changes with the code, the settings, the source and the rows read, and says with which."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ganrec_spark
from ganrec_spark.config.load import load_config, restricted
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run import fingerprints
from ganrec_spark.run.fingerprints import differences, fingerprint

SPLIT = STAGE_BY_NAME["split"]
CODE = "from ganrec_spark.run.fingerprints import code_hash; print(code_hash())"


def test_each_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config, other = load_config(environ={}), load_config(overrides=["split.min_ratings=4"], environ={})
    before = fingerprint(config, SPLIT, "file", {"ingest": "a"})
    assert differences(before, fingerprint(config, SPLIT, "file", {"ingest": "a"})) == []
    assert differences(before, fingerprint(other, SPLIT, "file", {"ingest": "a"})) == ["other settings"]
    assert differences(before, fingerprint(config, SPLIT, "new", {"ingest": "a"})) == ["other source files"]
    assert differences(before, fingerprint(config, SPLIT, "new", {"ingest": "a"}), but=["outside"]) == []
    replaced = fingerprint(config, SPLIT, "file", {"ingest": "b"})
    assert differences(before, replaced) == ["rows that have been replaced since"]
    # What an undeclared section says does not count.
    evaluated = load_config(overrides=["evaluate.ks=[3]"], environ={})
    assert fingerprint(evaluated, SPLIT, "file", {"ingest": "a"}) == before
    monkeypatch.setattr(fingerprints, "code_hash", lambda: "other")
    assert differences(before, fingerprint(config, SPLIT, "file", {"ingest": "a"})) == ["another version of the code"]
    assert differences("0123456789abcdef", before) == ["another version of the code"], "a lake of version 0.1"


def test_a_member_is_made_again_for_longer_lists_and_not_for_another_blend() -> None:
    def of(stage: str, *settings: str) -> str:
        return fingerprint(load_config(overrides=settings, environ={}), STAGE_BY_NAME[stage], "", {})

    for member in ("transformer_final", "als_choose", "item_item_final", "popularity_choose", "newcomers_final"):
        assert of(member) == of(
            member,
            "recommend.n=5",
            "recommend.fusion=[ranks]",
            "recommend.variety=diversity",
            "recommend.variety_by=genre",
        )
        assert differences(of(member), of(member, "recommend.n_candidates=77")) == ["other settings"]
    assert of("recommend") != of("recommend", "recommend.fusion=[ranks]")


def test_a_stage_sees_its_keys_and_defaults_elsewhere() -> None:
    given = load_config(overrides=["recommend.n_candidates=77", "recommend.n=5", "als.alpha=[3.0]"], environ={})
    seen, default = restricted(given, ("als", "recommend.n_candidates")), load_config(environ={})
    assert (seen.recommend.n_candidates, seen.recommend.n) == (77, default.recommend.n)
    assert (seen.als, seen.gate) == (given.als, default.gate)
    assert given.recommend.n == 5, "what the stage is given is a copy"


def test_the_code_counts_wherever_it_is_installed(tmp_path: Path) -> None:
    folder = Path(ganrec_spark.__file__).parent
    copy = tmp_path / "copy" / "ganrec_spark"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    zipped = shutil.make_archive(str(tmp_path / "package"), "zip", tmp_path / "copy")

    def told(path: str) -> str:
        code = f"import sys; sys.path.insert(0, {path!r}); {CODE}"
        done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert told(str(tmp_path / "copy")) == told(zipped) == fingerprints.code_hash()
    with (copy / "seeding.py").open("a") as file:
        file.write("# another line\n")
    assert told(str(tmp_path / "copy")) != fingerprints.code_hash()
