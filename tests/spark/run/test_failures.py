"""What breaks under a stage ends in one line that says what to do; broken for real."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.lake.store import Lake
from ganrec_spark.run.failures import explained

RUN = "2026-11-01"


@pytest.fixture
def config(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    rows = "".join(f"u{n % 9},i{n % 7},3,{n}\n" for n in range(63))
    (tmp_path / "a.csv").write_text("user_id,item_id,rating,timestamp\n" + rows)
    return make_config(f"ingest.source={tmp_path / 'a.csv'}")


def data_files(lake: Lake, table: str) -> list[Path]:
    return [Path(url.removeprefix("file://")) for url in lake.data_files(table, RUN)]


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["missing", "cut", "rotten"])
def test_a_damaged_table_names_the_stage_to_run_again(config: Config, run_stages, lake: Lake, damage: str) -> None:
    run_stages(config, "ingest", "attributes", "split")
    for file in data_files(lake, "train_ratings"):
        content = file.read_bytes()
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00" * len(content))
        crc = file.with_name(f".{file.name}.crc")
        crc.unlink(missing_ok=True)
    with pytest.raises(LakeError) as error:
        run_stages(config, "sparsity")
    told = str(error.value)
    assert "table 'train_ratings'" in told
    assert "run stage 'split' again" in told
    assert "\n" not in told
    run_stages(config, "split", "sparsity")


@pytest.fixture
def frozen(lake: Lake) -> Iterator[Callable[[str], None]]:
    """Return a function that makes a table's folder immutable, even for root; skips where the file system cannot."""
    folders: list[Path] = []

    def freeze(table: str) -> None:
        folder = data_files(lake, table)[0].parents[1]
        done = subprocess.run(["chattr", "-R", "+i", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("needs chattr +i: root, and ext4 or the like")
        folders.append(folder)

    yield freeze
    for folder in folders:
        subprocess.run(["chattr", "-R", "-i", folder], check=True)


@pytest.mark.faults
def test_a_lake_that_may_not_be_written_is_one_line(config: Config, run_stages, frozen: Callable[[str], None]) -> None:
    run_stages(config, "ingest", "split")
    frozen("validation_ratings")
    with pytest.raises(LakeError, match=r"stage 'split': a file or folder may not be"):
        run_stages(config, "split")


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ("java.io.IOException: No space left on device", "a disk is full"),
        ("org.sqlite.SQLiteException: [SQLITE_BUSY] The database file is locked", "locked by another process"),
        ("[BUG] Expected sorted snapshot log entries", "clock is behind"),
        ("java.lang.OutOfMemoryError: Java heap space", "memory ran out"),
    ],
)
def test_known_signs(trace: str, words: str) -> None:
    told = explained(OSError(trace), "split")
    assert words in str(told)
    assert "\n" not in str(told)
    assert explained(OSError("something new"), "split") is None
