"""Checkpoints: as files whole or not at all, as rows in order."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ganrec_spark.training import checkpoints as room
from ganrec_spark.training.checkpoints import checkpoint_rows, delete_checkpoints, file_checkpoints


def test_last_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    checkpoints = file_checkpoints(str(tmp_path / "deep" / "folder"), "vae.pt")
    assert checkpoints.load() is None
    checkpoints.save(b"one")
    checkpoints.save(b"two")
    assert checkpoints.load() == b"two"
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["vae.pt"]


def test_a_crash_while_writing_leaves_the_last_whole_one(tmp_path: Path) -> None:
    checkpoints = file_checkpoints(str(tmp_path), "vae.pt")
    checkpoints.save(b"whole")
    (tmp_path / "vae.pt.partial").write_bytes(b"ha")
    assert checkpoints.load() == b"whole"


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"?" + whole[1:], lambda _: b""]
)
def test_a_damaged_one_is_set_aside_and_training_starts_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = file_checkpoints(str(tmp_path), "vae.pt")
    checkpoints.save(b"a state of some length")
    damaged = damage((tmp_path / "vae.pt").read_bytes())
    (tmp_path / "vae.pt").write_bytes(damaged)
    assert checkpoints.load() is None
    assert (tmp_path / "vae.pt.damaged").read_bytes() == damaged
    assert "vae.pt: damaged, set aside" in caplog.text
    checkpoints.save(b"again")
    assert checkpoints.load() == b"again"


def test_a_uri_is_as_good_as_a_path_and_deleting_twice_is_no_error(tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/run"
    file_checkpoints(folder, "agn.pt").save(b"x")
    assert (tmp_path / "run" / "agn.pt").exists()
    assert file_checkpoints(str(tmp_path / "run"), "agn.pt").load() == b"x"
    delete_checkpoints(folder)
    delete_checkpoints(folder)
    assert not (tmp_path / "run").exists()


def test_a_state_goes_into_rows_and_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CHUNK_BYTES", 4)
    rows = list(checkpoint_rows({"model": "a", "epoch": 3}, b"0123456789"))
    assert [(part, bytes(content)) for _, part, content in rows] == [(0, b"0123"), (1, b"4567"), (2, b"89")]
    assert {json.loads(card)["epoch"] for card, _, _ in rows} == {3}
