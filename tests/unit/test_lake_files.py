"""The one door to files: the same on a disk and in a store, which fsspec's memory:// stands for here."""

import uuid
from pathlib import Path

import pytest

from ganrec_spark.config import load_config
from ganrec_spark.distributed.scalars import scalars
from ganrec_spark.errors import StoreError
from ganrec_spark.lake_files import (
    delete_folder,
    exists,
    lake_root,
    local_copies,
    make_root,
    mirrored,
    read_file,
    rename_file,
    require_store,
    write_file,
)
from ganrec_spark.models.worker import Worker


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}
    return where[request.param] + "/in a folder"


def test_files_come_and_go(folder: str) -> None:
    file = f"{folder}/deep/one.gz"
    assert read_file(file) is None
    assert not exists(folder)
    for content in (b"one", b"", b"another"):
        write_file(file, content)
        assert read_file(file) == content
    assert exists(file)
    assert exists(folder)
    assert read_file(folder) is None
    rename_file(file, "two")
    assert not exists(file)
    assert read_file(f"{folder}/deep/two") == b"another"
    delete_folder(folder)
    delete_folder(folder)
    assert not exists(f"{folder}/deep/two")


def test_a_crash_while_writing_to_a_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(f"{tmp_path}/a", b"old")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "a.partial").write_bytes(b"ne")
    assert read_file(f"{tmp_path}/a") == b"old"


def test_copies_are_in_order_and_go_at_the_end_and_local_files_stay_where_they_are(tmp_path: Path) -> None:
    store = f"memory://{uuid.uuid4().hex}"
    for name in ("b", "a", "c"):
        write_file(f"{store}/{name}.parquet", name.encode())
        (tmp_path / name).write_bytes(name.encode())
    with local_copies([f"{store}/{name}.parquet" for name in "bac"]) as copies:
        paths = [Path(copy.removeprefix("file://")) for copy in copies]
        assert [path.read_bytes() for path in paths] == [b"b", b"a", b"c"]
    assert not paths[0].parent.exists()
    own = [f"file://{tmp_path}/{name}" for name in "bac"]
    with local_copies(own) as copies:
        assert copies == own
    assert (tmp_path / "a").exists()


def test_a_mirror_shows_what_was_written_and_stays_out_of_the_way_on_a_disk(folder: str) -> None:
    with mirrored(folder) as mirror:
        local = Path(mirror.local)
        (local / "below").mkdir(parents=True, exist_ok=True)
        (local / "below" / "a").write_bytes(b"one")
        mirror.copy()
        assert read_file(f"{folder}/below/a") == b"one"
        (local / "below" / "a").write_bytes(b"one, two")
    assert read_file(f"{folder}/below/a") == b"one, two"
    assert local.exists() == (not folder.startswith("memory"))


def test_scalars_lie_in_a_store_while_training_goes_on() -> None:
    store, second = f"memory://{uuid.uuid4().hex}/tensorboard", Worker()
    with scalars(Worker(), store) as show:
        show(1, {"loss": 0.5})
        assert exists(store)
    second.index = 1
    with scalars(second, f"{store}/second") as show:
        show(1, {"loss": 0.5})
    with scalars(Worker(), None) as show:
        show(1, {"loss": 0.5})
    assert not exists(f"{store}/second")


def test_a_root_is_a_folder_that_is_made_or_a_store_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root(text: str) -> str:
        return lake_root(load_config(overrides=[f"lake.root={text}"], environ={}))

    monkeypatch.chdir(tmp_path)
    assert root("lake") == f"{tmp_path}/lake"
    assert root("s3a://bucket/lake/") == "s3a://bucket/lake"
    make_root(root("deep/lake"))
    assert (tmp_path / "deep" / "lake").is_dir()
    make_root(f"file://{tmp_path}/by/uri")
    require_store(f"file://{tmp_path}/by/uri")
    assert (tmp_path / "by" / "uri").is_dir()
    bucket = uuid.uuid4().hex
    with pytest.raises(StoreError, match=r"lake.root 'memory://.*no such bucket"):
        make_root(f"memory://{bucket}/lake")
    write_file(f"memory://{bucket}/lake/a", b"")
    make_root(f"memory://{bucket}/lake")
    with pytest.raises(StoreError, match=r"expected a store that answers and lets us in, found: .*nosuchscheme"):
        require_store("nosuchscheme://bucket/lake")
