"""How a generated item becomes a rating: the one rule that gate and merge share."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.plan.table import NONE


def fill_ratings(generated: DataFrame, observed: DataFrame, weight: float, keep: tuple[str, ...] = ()) -> DataFrame:
    """Return (user_idx, item_idx, rating, ts), and the columns `keep`, of generated rows.

    rating = weight * confidence * mean observed rating, so `weight` is relative to a typical observed rating
    whatever the source's scale. ts is the user's first observed time: a fill is older than what was observed.
    Pairs that were observed are dropped: an observed rating always wins.
    """
    mean_rating = F.broadcast(observed.agg(F.avg("rating").alias("mean_rating")))
    first_seen = observed.groupBy("user_idx").agg(F.min("ts").alias("ts"))
    unseen = generated.join(observed.select("user_idx", "item_idx"), ["user_idx", "item_idx"], "left_anti")
    return (
        unseen.join(first_seen, "user_idx")
        .crossJoin(mean_rating)
        .select(
            *keep,
            "user_idx",
            "item_idx",
            (F.lit(weight) * F.col("confidence") * F.col("mean_rating")).alias("rating"),
            "ts",
        )
    )


def kept_by_others(plain: DataFrame, sparsity: DataFrame, fill: str) -> DataFrame:
    """Return the lists of `plain`, without fill, of all users but sparse ones, as those of `fill`.

    A fill is made for sparse users and proven for them. Everyone else keeps the list that they have without it, so that
    it cannot harm them. In: lists, one row per user, and user_sparsity.
    """
    sparse = sparsity.where("is_sparse").select("user_idx")
    return plain.join(sparse, "user_idx", "left_anti").withColumn("fill", F.lit(fill)).select(*plain.columns)


def accepted_fill(decisions: DataFrame) -> str | None:
    """Return the fill that the gate accepted, or None. In: gate_decisions."""
    row = decisions.where(F.col("accepted") & (F.col("fill") != NONE)).select("fill").first()
    return None if row is None else str(row["fill"])


def fill_variants(merged: DataFrame) -> list[str]:
    """Return the fills that ALS is fitted on: none, and the accepted one if there is one. In: merged_ratings."""
    rows = merged.where(F.col("fill") != NONE).select("fill").distinct().orderBy("fill").collect()
    return [NONE, *(str(row["fill"]) for row in rows)]


def of_variant(merged: DataFrame, fill: str) -> DataFrame:
    """Return the rows of merged_ratings that belong to one variant: observed rows and those of `fill`."""
    return merged.where(F.col("fill").isin(NONE, fill))
