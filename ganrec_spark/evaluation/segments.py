"""Metrics by segment of users: means with intervals, and how widely a segment's lists spread."""

import re
from collections.abc import Iterable
from statistics import NormalDist

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.quality import catalogue_spread

BUCKET = "bucket:"
_FIRST = ("all", "sparse", "dense", "cold")


def user_segments(sparsity: DataFrame) -> DataFrame:
    """Return table user_segments from table user_sparsity: whether each user is sparse, and the bucket."""
    density = F.when(F.col("is_sparse"), F.lit("sparse")).otherwise(F.lit("dense"))
    own = F.array(density, F.concat(F.lit(BUCKET), "bucket"))
    return sparsity.select("user_idx", F.explode(own).alias("segment"))


def in_order(segments: Iterable[str]) -> list[str]:
    """Return the segments' names as they are shown: all, sparse, dense, cold, buckets, other groups of users."""

    def place(name: str) -> tuple[int, int, str]:
        if name in _FIRST:
            return _FIRST.index(name), 0, name
        least = re.match(rf"{BUCKET}(\d+)", name)
        return len(_FIRST) + (least is None), int(least[1]) if least else 0, name

    return sorted(set(segments), key=place)


def with_segments(users: DataFrame, segments: DataFrame) -> DataFrame:
    """Return `users` with a column `segments`, an array: `all`, then those of table user_segments in order of name.

    Users whom the table does not name, who have no training rating, are the `cold` ones.
    """
    own = segments.groupBy("user_idx").agg(F.sort_array(F.collect_set("segment")).alias("segments"))
    named = F.coalesce("segments", F.array(F.lit("cold")))
    return users.join(own, "user_idx", "left").withColumn("segments", F.concat(F.array(F.lit("all")), named))


def segment_means(sums: DataFrame, confidence: float) -> DataFrame:
    """Return the mean of every per-user metric by segment with its normal interval over users.

    In: metric_sums. The interval is mean +- z * standard deviation / sqrt(n); NULL for a single user.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    keys = ("recommender", "fill", "segment", "metric", "k")
    totals = (
        sums.where("item_idx IS NULL")
        .withColumn("segment", F.explode("segments"))
        .groupBy(*keys)
        .agg(F.sum("n").alias("n"), F.sum("total").alias("total"), F.sum("squares").alias("squares"))
        .where("n > 0")
    )
    mean = F.col("total").cast("double") / F.col("n")
    squares = F.col("squares").cast("double")
    variance = F.greatest(F.lit(0.0), squares - F.col("n") * mean * mean) / (F.col("n") - 1)
    half = F.when(F.col("n") > 1, F.lit(z) * F.sqrt(variance / F.col("n")))
    return totals.select(
        *keys,
        mean.alias("value"),
        (mean - half).alias("ci_low"),
        (mean + half).alias("ci_high"),
        F.col("n").alias("n_users"),
    )


def segment_spreads(sums: DataFrame, ks: tuple[int, ...], n_items: int) -> DataFrame:
    """Return coverage and gini of the lists of each segment's users, over a catalogue of `n_items`.

    In: metric_sums of `ks`. Out: rows in the form of `segment_means`, without interval.
    """
    groups = ("recommender", "fill", "segment")
    keys = (*groups, "k")
    lists = segment_means(sums, 0.95).where("metric = 'recall'").select(*keys, "n_users")
    listed = sums.where("metric = 'listed'").withColumn("segment", F.explode("segments"))
    # How often each item is in the first k: NULL, which no list collects, where only below.
    within = [F.sum(F.when(F.col("k") <= k, F.col("n"))).alias(f"within_{k}") for k in ks]
    per_item = listed.groupBy(*groups, "item_idx").agg(*within)
    collected = per_item.groupBy(*groups).agg(*(F.collect_list(f"within_{k}").alias(f"within_{k}") for k in ks))
    each = F.array(*(F.struct(F.lit(k).alias("k"), F.col(f"within_{k}").alias("counts")) for k in ks))
    counts = collected.select(*groups, F.explode(each).alias("cut")).select(*groups, "cut.k", "cut.counts")
    empty = F.array().cast("array<bigint>")
    every = lists.join(counts, list(keys), "left").withColumn("counts", F.coalesce("counts", empty))
    unbounded = F.lit(None).cast("double")
    return catalogue_spread(every, n_items).withColumn("ci_low", unbounded).withColumn("ci_high", unbounded)


def rating_error(quality: DataFrame, n_users: int) -> DataFrame:
    """Return the rows of als_quality (RMSE of explicit ratings) as metrics with k = 0."""
    unbounded = F.lit(None).cast("double")
    return quality.select(
        F.lit("als").alias("recommender"),
        "fill",
        F.lit("all").alias("segment"),
        F.col("name").alias("metric"),
        F.lit(0).alias("k"),
        "value",
        unbounded.alias("ci_low"),
        unbounded.alias("ci_high"),
        F.lit(n_users).alias("n_users"),
    )
