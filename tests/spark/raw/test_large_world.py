"""A world of any size is the same world however Spark makes it, and of the kind of the small one."""

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.errors import ConfigError
from ganrec_spark.raw.large_world import LargeWorld
from ganrec_spark.raw.world import next_in_series, taste_of_item, taste_of_user

NOVEMBER = 1_793_491_200  # 2026-11-01T00:00:00Z


def test_however_it_is_made_it_is_the_same(spark: SparkSession) -> None:
    world = LargeWorld(users=12_000, items=600, ratings=120_000)  # three blocks
    rows = world.frame(spark)
    assert rows.rdd.getNumPartitions() == 3
    made = rows.toPandas().sort_values(["user_id", "timestamp"], ignore_index=True)
    again = rows.coalesce(1).toPandas().sort_values(["user_id", "timestamp"], ignore_index=True)
    assert made.equals(again)
    other = LargeWorld(users=12_000, items=600, ratings=120_000, seed=8).frame(spark)
    assert other.join(rows, ["user_id", "item_id", "timestamp"]).count() == 0
    # The block is what is drawn alone, so more users change nothing of those before.
    more = LargeWorld(users=17_000, items=600, ratings=170_000).frame(spark)
    known = F.col("user_id").isin([f"u{user:05d}" for user in range(0, 10_000, 97)])
    assert sorted(more.where(known).collect()) == sorted(rows.where(known).collect())


def test_it_is_of_the_kind_of_the_small_one(spark: SparkSession) -> None:
    found = LargeWorld(users=8_000, items=2_000, ratings=130_000).frame(spark).toPandas()
    counts = found.groupby("user_id").size()
    assert len(counts) == 8_000
    assert 0.94 < len(found) / 130_000 < 1.0  # a heavy user does not always come by enough items
    assert counts.min() == 3
    assert 0.55 < (counts <= 10).mean() < 0.75
    assert not found.duplicated(["user_id", "item_id"]).any()
    assert not found.duplicated(["user_id", "timestamp"]).any()
    assert found.timestamp.max() < NOVEMBER
    assert set(found.rating) == {1.0, 2.0, 3.0, 4.0, 5.0}
    own = found.user_id.map(taste_of_user) == found.item_id.map(taste_of_item)
    assert own.mean() > 0.5
    assert found.rating[own].mean() > found.rating[~own].mean() + 0.8
    ordered = found.sort_values(["user_id", "timestamp"])
    following = ordered.item_id.shift(-1)[ordered.user_id == ordered.user_id.shift(-1)]
    expected = ordered.item_id.map(lambda item: next_in_series(item, 2_000))[following.index]
    assert np.mean(following == expected) > 0.2


def test_skew_says_what_the_popular_ones_have(spark: SparkSession) -> None:
    shares = []
    for skew in (0.0, 1.0, 1.5):
        counts = LargeWorld(5_000, 1_000, 50_000, skew).frame(spark).groupBy("item_id").count().toPandas()["count"]
        shares.append(counts.nlargest(20).sum() / counts.sum())
    assert shares[0] < 0.05 < 2 * shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((0, 100, 300), "found 0 users"),
        ((100, 20, 300), "at least 24 items"),
        ((100, 300, 200), "expected 3 to 50 ratings a user of 300 items, found 2.0"),
        ((100, 300, 9_000), "found 90.0"),
        ((100, 300, 900, -1.0), "skew -1"),
    ],
)
def test_sizes_that_are_no_world(sizes: tuple, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LargeWorld(*sizes)
