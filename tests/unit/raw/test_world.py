from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ganrec_spark.raw.world import next_in_series, taste_of_item, taste_of_user, write_world

NOVEMBER = 1_793_491_200  # 2026-11-01T00:00:00Z


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("world") / "ratings.parquet"
    assert write_world(path, users=800, items=400) == pq.read_metadata(path).num_rows
    return pq.read_table(path).to_pandas()


def test_same_arguments_give_the_same_file(tmp_path: Path):
    for name in ("a", "b"):
        write_world(tmp_path / name, users=30, items=40)
    write_world(tmp_path / "c", users=30, items=40, seed=8)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_most_users_are_sparse_and_a_few_are_heavy(world):
    counts = world.groupby("user_id").size()
    assert len(counts) == 800
    assert counts.min() == 3
    assert 0.55 < (counts <= 10).mean() < 0.75
    assert 0.05 < (counts > 40).mean() < 0.15
    popularity = world.groupby("item_id").size().sort_values(ascending=False)
    assert popularity.iloc[0] > 5 * popularity.median()


def test_nobody_rates_an_item_twice_or_two_at_once_or_in_the_future(world):
    assert not world.duplicated(["user_id", "item_id"]).any()
    assert not world.duplicated(["user_id", "timestamp"]).any()
    assert world.timestamp.max() < NOVEMBER
    assert set(world.rating) == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_taste_shows_in_what_is_rated_and_how_high(world):
    own = world.user_id.map(taste_of_user) == world.item_id.map(taste_of_item)
    assert own.mean() > 0.5  # by chance it would be 1/8
    assert world.rating[own].mean() > world.rating[~own].mean() + 0.8


def test_a_series_is_followed_in_order_of_time(world):
    ordered = world.sort_values(["user_id", "timestamp"])
    following = ordered.item_id.shift(-1)[ordered.user_id == ordered.user_id.shift(-1)]
    expected = ordered.item_id.map(lambda item: next_in_series(item, 400))[following.index]
    assert np.mean(following == expected) > 0.2


def test_a_series_ends_where_it_began():
    assert next_in_series("i0004", 20) == "i0012"
    assert next_in_series("i0012", 20) == "i0004"


def test_a_world_smaller_than_a_heavy_user_still_ends(tmp_path: Path):
    assert write_world(tmp_path / "tiny", users=20, items=10) >= 60
