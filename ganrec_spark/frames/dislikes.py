"""Ratings that mean dislike: which of them a phase knows, and how they count against an item (docs/adr/0035)."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_COLUMNS = ("user_idx", "item_idx", "rating", "ts")


def of_phase(known: DataFrame, observed: DataFrame, phase: str) -> DataFrame | None:
    """Return (user_idx, item_idx, rating, ts) of the dislikes that a phase knows, None where there is none.

    In: known_dislikes, and the phase's observed ratings. Dislikes of users or items without a rating above 0 are left
    out: there is no vector of ALS that they could move.
    """
    rows = known.where("part = 'train'") if phase == "choose" else known
    if rows.isEmpty():
        return None
    return with_vectors(rows, observed).select(*_COLUMNS)


def with_vectors(pairs: DataFrame, observed: DataFrame) -> DataFrame:
    """Return the pairs of users and items that have a rating above 0, each of any other one: ALS has their vectors."""
    liked = observed.where("rating > 0")
    for key in ("user_idx", "item_idx"):
        pairs = pairs.join(liked.select(key).distinct(), key, "left_semi")
    return pairs


def never_listed(users: DataFrame, dislikes: DataFrame | None, seen: str = "items") -> DataFrame:
    """Return the users with what they dislike added to the list column `seen`; just as they are without dislikes.

    What is published never lists it either, so settings and weights are chosen by lists like the published ones.
    """
    if dislikes is None:
        return users
    own = dislikes.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("disliked"))
    joined = users.join(own, "user_idx", "left")
    both = F.when(F.col("disliked").isNull(), F.col(seen)).otherwise(F.array_union(seen, "disliked"))
    return joined.withColumn(seen, both).drop("disliked")


def learned(
    ratings: DataFrame, observed: DataFrame, dislikes: DataFrame | None, weight: float, implicit: bool
) -> DataFrame:
    """Return `ratings` with the dislikes among them, as ALS takes them; just as they are where `weight` is 0.

    Implicit: the rating is -weight * mean |observed rating|, whatever the source's scale; ALS, as MLlib, takes it for
    preference 0. Explicit ALS predicts ratings, so dislikes are taken as they are. Events of dislike have no
    rating (NULL) and no weight.
    """
    if dislikes is None or not weight:
        return ratings
    against = dislikes.where(F.col("rating").isNotNull())
    if implicit:
        typical = F.broadcast(observed.agg(F.avg(F.abs("rating")).alias("typical")))
        rating = (F.lit(-weight) * F.col("typical")).alias("rating")
        against = against.crossJoin(typical).select("user_idx", "item_idx", rating, "ts")
    return ratings.unionByName(against, allowMissingColumns=True)
