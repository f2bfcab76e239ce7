"""Per-user NDCG of ranked lists, in Spark SQL: what choices are made by."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def user_ndcg(lists: DataFrame, relevant: DataFrame, k: int) -> DataFrame:
    """Return (user_idx, ndcg): NDCG@k with binary gains of every user who has held-out items.

    In: `lists` one row per user (user_idx, items best first); `relevant` one row per held-out user and item.
    A held-out user without a list gets 0. The ideal list has min(k, number of held-out items) hits
    (Jarvelin & Kekalainen 2002).
    """
    hits = (
        lists.select("user_idx", F.posexplode(F.slice("items", 1, k)).alias("position", "item_idx"))
        .join(relevant.select("user_idx", "item_idx"), ["user_idx", "item_idx"])
        .groupBy("user_idx")
        .agg(F.sum(1 / F.log2(F.col("position") + 2)).alias("dcg"))
    )
    counts = relevant.groupBy("user_idx").agg(F.count("*").cast("int").alias("n_relevant"))
    ideal = F.aggregate(
        F.sequence(F.lit(1), F.least("n_relevant", F.lit(k))), F.lit(0.0), lambda total, rank: total + 1 / F.log2(rank + 1)
    )
    return counts.join(hits, "user_idx", "left").select(
        "user_idx", (F.coalesce("dcg", F.lit(0.0)) / ideal).alias("ndcg")
    )


def mean_ndcg(lists: DataFrame, relevant: DataFrame, k: int) -> float:
    """Return the mean of `user_ndcg` over held-out users; 0 where there are none."""
    row = user_ndcg(lists, relevant, k).agg(F.avg("ndcg").alias("ndcg")).first()
    return float(row.ndcg) if row is not None and row.ndcg is not None else 0.0
