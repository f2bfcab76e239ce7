"""No row is lost or doubled: Petastorm's thread pool, as published, loses some in up to a third of all passes.

All holds of both readers, and they give the same batches.
"""

import typing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ganrec_spark.config.cluster import Reader
from ganrec_spark.errors import TrainingError
from ganrec_spark.training.reader import read_batches, read_once

ROWS, GROUPS = 20_000, 14
READERS = typing.get_args(Reader)

by_every_reader = pytest.mark.parametrize("reader", READERS)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return files as Iceberg lays them out: partition folders whose columns are in the files as well."""
    return write(tmp_path_factory.mktemp("rows"), ROWS, GROUPS)


def write(folder: Path, rows: int, groups: int) -> list[str]:
    files = []
    for group, users in enumerate(np.array_split(np.arange(rows, dtype=np.int32), groups)):
        file = folder / "run_id=2026-11-01" / f"row_group={group}" / "00000-data.parquet"
        file.parent.mkdir(parents=True)
        columns = {
            "run_id": pa.array(["2026-11-01"] * len(users)),
            "row_group": pa.array(np.full(len(users), group, dtype=np.int32)),
            "user_idx": pa.array(users),
            "items": pa.array(list(np.stack([users, users + 1, users + 2], axis=1)), pa.list_(pa.int32())),
        }
        pq.write_table(pa.table(columns), file)
        files.append(f"file://{file}")
    return files


@by_every_reader
def test_a_pass_of_all_shards_has_every_row_once(urls: list[str], reader: Reader) -> None:
    for workers in (1, 2, 4) * 10:
        shards = []
        for worker in range(workers):
            with read_once(urls, ["user_idx"], worker, workers, reader) as groups:
                shards.append(np.concatenate([group["user_idx"].numpy() for group in groups]))
        assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(ROWS))


@by_every_reader
def test_every_pass_of_the_endless_stream_has_every_row_of_the_shard_once(urls: list[str], reader: Reader) -> None:
    shard = np.concatenate([users for group, users in enumerate(np.array_split(np.arange(ROWS), GROUPS)) if group % 2])
    passes = 20
    with read_batches(urls, ["user_idx", "items"], 128, worker=1, workers=2, seed=3, reader=reader) as batches:
        stream = []
        for batch in batches:
            assert (batch["items"] == batch["user_idx"][:, None] + np.arange(3, dtype=np.int32)).all()
            assert batch["items"].shape == (128, 3)
            stream.append(batch["user_idx"].numpy())
            if 128 * len(stream) >= passes * len(shard):
                break
    rounds = np.concatenate(stream)[: passes * len(shard)].reshape(passes, len(shard))
    assert (np.sort(rounds, axis=1) == shard).all()
    assert not (rounds[0] == rounds[1]).all()


@by_every_reader
def test_order_follows_from_the_seed(urls: list[str], reader: Reader) -> None:
    def first(seed: int) -> list[int]:
        with read_batches(urls, ["user_idx"], 5_000, seed=seed, reader=reader) as batches:
            return [user for _ in range(6) for user in next(batches)["user_idx"].tolist()]

    assert first(0) == first(0)
    assert first(0) != first(1)


@by_every_reader
def test_batches_may_be_larger_than_the_shard(tmp_path: Path, reader: Reader) -> None:
    with read_batches(write(tmp_path, 3, 1), ["user_idx"], 7, reader=reader) as batches:
        assert sorted(next(batches)["user_idx"].tolist())[-1] == 2
        assert len(next(batches)["user_idx"]) == 7


@by_every_reader
def test_fewer_row_groups_than_workers_is_said(tmp_path: Path, reader: Reader) -> None:
    few = write(tmp_path, 10, 2)
    said = pytest.raises(TrainingError, match=r"3 workers.*parquet\.row_groups")
    with said, read_batches(few, ["items"], 2, 0, 3, reader=reader):
        pass
    with pytest.raises(TrainingError, match="found none"), read_batches([], ["items"], 2, reader=reader):
        pass


def test_readers_give_the_same_batches(tmp_path: Path) -> None:
    urls = write(tmp_path, 1_000, 13)
    # As other writers have it: several row groups in one file.
    pq.write_table(pq.read_table(urls[3].removeprefix("file://")), urls[3].removeprefix("file://"), row_group_size=20)
    columns = ["user_idx", "items"]
    for workers, seed in ((1, 0), (2, 0), (3, 7)):
        for worker in range(workers):
            both = []
            for reader in READERS:
                with read_batches(urls, columns, 77, worker, workers, seed, reader) as batches:
                    both.append([next(batches) for _ in range(40)])
                with read_once(urls, columns, worker, workers, reader) as groups:
                    both[-1] += list(groups)
            for petastorms, pyarrows in zip(*both, strict=True):
                for name in columns:
                    assert petastorms[name].dtype == pyarrows[name].dtype
                    assert torch.equal(petastorms[name], pyarrows[name])


def test_lists_of_several_lengths_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"items": [[1, 2], [3]]}), tmp_path / "ragged.parquet")
    said = pytest.raises(TrainingError, match=r"ragged\.parquet, column 'items': expected lists of one length")
    with said, read_once([f"file://{tmp_path}/ragged.parquet"], ["items"], reader="pyarrow") as groups:
        next(groups)
