"""Metrics by segment of users: means with intervals, and how widely a segment's lists spread."""

from statistics import NormalDist

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.quality import catalogue_spread


def _segments() -> Column:
    """Return the segments that a group of users counts in; users without a training rating are the `cold` ones."""
    density = F.when(F.col("is_sparse"), F.lit("sparse")).otherwise(F.lit("dense"))
    warm = F.array(F.lit("all"), density, F.concat(F.lit("bucket:"), "bucket"))
    return F.explode(F.when(F.col("bucket").isNull(), F.array(F.lit("all"), F.lit("cold"))).otherwise(warm))


def segment_means(sums: DataFrame, confidence: float) -> DataFrame:
    """Return the mean of every per-user metric by segment with its normal interval over users.

    In: metric_sums. The interval is mean +- z * standard deviation / sqrt(n); NULL for a single user.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    keys = ("recommender", "fill", "segment", "metric", "k")
    totals = (
        sums.where("item_idx IS NULL")
        .withColumn("segment", _segments())
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
    listed = sums.where("metric = 'listed'").withColumn("segment", _segments())
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
