"""What users were shown and left alone: what of it a phase knows, and how it counts against an item (docs/adr/0046)."""

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.frames.dislikes import with_vectors

# An impression is ignored once so much time has passed: a click belongs to what was shown just before it.
PATIENCE = timedelta(days=1)
_PAIR = ("user_idx", "item_idx")


def of_phase(known: DataFrame, observed: DataFrame, phase: str) -> DataFrame | None:
    """Return (user_idx, item_idx, times): what a phase knows to have been ignored, None where there is nothing.

    In: known_ignored, and the phase's observed ratings. Rated pairs are left out, and so are users or items without a
    rating above 0: there is no vector of ALS that they could move.
    """
    rows = known.where("part = 'train'") if phase == "choose" else known
    if rows.isEmpty():
        return None
    return left_alone(with_vectors(rows, observed), observed)


def left_alone(rows: DataFrame, observed: DataFrame) -> DataFrame:
    """Return (user_idx, item_idx, times) of rows of known_ignored, one row per pair that is not rated."""
    rows = rows.join(observed.select(*_PAIR), [*_PAIR], "left_anti")
    return rows.groupBy(*_PAIR).agg(F.sum("times").alias("times"))


def against(ignored: DataFrame, weight: float, typical: Column) -> DataFrame:
    """Return the pairs as ratings for implicit ALS: preference 0, `weight` of a `typical` rating for each time.

    They have no time (NULL): a half-life does not make them weaker.
    """
    rating = (F.lit(-weight) * typical * F.col("times")).alias("rating")
    return ignored.select(*_PAIR, rating, F.lit(None).cast("timestamp").alias("ts"))


def learned(
    ratings: DataFrame, observed: DataFrame, ignored: DataFrame | None, weight: float, implicit: bool
) -> DataFrame:
    """Return `ratings` with what was ignored among them, as implicit ALS takes it; as they are where `weight` is 0.

    Beside a generated rating of the same pair it stands as a second row: each of them says something.
    """
    if ignored is None or not weight or not implicit:
        return ratings
    typical = F.broadcast(observed.agg(F.avg(F.abs("rating")).alias("typical")))
    rows = against(ignored.crossJoin(typical), weight, F.col("typical"))
    return ratings.unionByName(rows, allowMissingColumns=True)
