"""How a generated item becomes a rating: the one rule that gate and merge share."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

NONE = "none"


def fill_ratings(generated: DataFrame, observed: DataFrame, weight: float, keep: tuple[str, ...] = ()) -> DataFrame:
    """Return (user_idx, item_idx, rating, ts, preference), and the columns `keep`, of generated rows.

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
            "preference",
        )
    )


def fill_variants(merged: DataFrame, learns_from_fill: bool) -> list[str]:
    """Return the fills that a recommender is fitted on: none, and the accepted one where it learns from fills.

    In: merged_ratings. `learns_from_fill`: the recommender is in merge.fill_members.
    """
    if not learns_from_fill:
        return [NONE]
    rows = merged.where(F.col("fill") != NONE).select("fill").distinct().orderBy("fill").collect()
    return [NONE, *(str(row["fill"]) for row in rows)]


def of_variant(merged: DataFrame, fill: str) -> DataFrame:
    """Return the rows of merged_ratings that belong to one variant: observed rows and those of `fill`."""
    return merged.where(F.col("fill").isin(NONE, fill))
