"""How sparse each user and the matrix are, and whether filling is called for."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Sparsity


@dataclass(frozen=True)
class Items:
    """The items of the training matrix: their number and the Gini coefficient of their counts."""

    n_items: int
    gini: float


def user_sparsity(train: DataFrame, sparsity: Sparsity, n_items: int) -> DataFrame:
    """Return table user_sparsity: one row per user with a training rating."""
    users = train.groupBy("user_idx").agg(F.count("*").cast("int").alias("n_ratings"), F.max("ts").alias("last"))
    newest = F.broadcast(train.agg(F.max("ts").alias("newest")))
    n = F.col("n_ratings")
    return (
        users.join(F.broadcast(_percentiles(users)), "n_ratings")
        .crossJoin(newest)
        .select(
            "user_idx",
            "n_ratings",
            (n / n_items).alias("density"),
            ((F.unix_micros("newest") - F.unix_micros("last")) / 86_400e6).alias("days_since_last"),
            "percentile",
            bucket_label(n, sparsity.bucket_edges).alias("bucket"),
            (n <= sparsity.max_ratings).alias("is_sparse"),
        )
    )


def bucket_label(n: Column, edges: tuple[int, ...]) -> Column:
    """Return the bucket of a number of ratings as text: edges (5, 10) give 1-5, 6-10 and 11+."""
    label = F.lit(f"{edges[-1] + 1}+" if edges else "1+")
    for low, high in reversed(list(zip((0, *edges), edges, strict=False))):
        label = F.when(n <= high, f"{low + 1}-{high}").otherwise(label)
    return label


def rated_items(train: DataFrame) -> Items:
    """Return number and Gini coefficient of the items' rating counts, by their histogram.

    G = 2 * sum_i(i * x_i) / (N * sum x) - (N + 1) / N over counts x sorted ascending, i from 1. Items of equal
    count share a histogram row, so only distinct counts are ever sorted in one place.
    """
    counts = train.groupBy("item_idx").agg(F.count("*").alias("x"))
    histogram = counts.groupBy("x").agg(F.count("*").alias("m"))
    before = F.sum("m").over(Window.orderBy("x").rowsBetween(Window.unboundedPreceding, -1))
    ranked = histogram.withColumn("before", F.coalesce(before, F.lit(0)))
    ranks = F.col("m") * (2 * F.col("before") + F.col("m") + 1) / 2
    row = ranked.agg(
        F.sum("m").alias("n"),
        F.sum(F.col("x") * ranks).alias("weighted"),
        F.sum(F.col("x") * F.col("m")).alias("total"),
    ).first()
    if row is None or not row["n"]:
        return Items(0, 0.0)
    n = int(row["n"])
    return Items(n, 2 * row["weighted"] / (n * row["total"]) - (n + 1) / n)


def decide(n_users: int, n_sparse: int, n_items: int, sparsity: Sparsity) -> tuple[bool, str]:
    """Return whether generators are trained and fills tried, and why, in words."""
    share = f"{n_sparse} of {n_users} users have at most {sparsity.max_ratings} ratings"
    if n_sparse < sparsity.min_sparse_users:
        return False, f"no filling: {share}, fewer than sparsity.min_sparse_users = {sparsity.min_sparse_users}"
    if n_items < 2:
        return False, f"no filling: {share}, but there is only {n_items} item"
    if n_sparse == n_users:
        return True, f"filling is tried: {share}; with no dense users, generators learn from all of them"
    return True, f"filling is tried: {share}"


def _percentiles(users: DataFrame) -> DataFrame:
    """Return (n_ratings, percentile): the share of users with at most as many ratings."""
    histogram = users.groupBy("n_ratings").agg(F.count("*").alias("m"))
    up_to = F.sum("m").over(Window.orderBy("n_ratings").rowsBetween(Window.unboundedPreceding, 0))
    total = F.sum("m").over(Window.partitionBy())
    return histogram.select("n_ratings", (up_to / total).alias("percentile"))
