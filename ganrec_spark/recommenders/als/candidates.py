"""Rank the catalogue by vectors of ALS, and say how far explicit predictions are off."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.recommenders.als.factors import AlsFactors, by_factors
from ganrec_spark.recommenders.catalogue import Best, rank_by
from ganrec_spark.run.context import Context


def user_vectors(written: DataFrame, fill: str) -> DataFrame:
    """Return (user_idx, factors) of one fill from als_factors."""
    rows = written.where((F.col("fill") == fill) & (F.col("side") == "user"))
    return rows.select(F.col("idx").alias("user_idx"), "factors")


def candidates(
    context: Context, seen: DataFrame, vectors: DataFrame, fitted: AlsFactors, n: int, fill: str
) -> DataFrame:
    """Return als_candidates of one fill: for each user with a vector, the n best items not in `seen`."""
    return ranked_by(seen, vectors, by_factors(context.spark, fitted), n, fill)


def ranked_by(seen: DataFrame, vectors: DataFrame, best: Best, n: int, fill: str, run: Mapper = by_tasks) -> DataFrame:
    """Return `candidates` by what finds the best items of vectors."""
    ranked = rank_by(seen.join(vectors, "user_idx"), best, n, run=run)
    return ranked.select(F.lit(fill).alias("fill"), "user_idx", "items", "scores")


def error_rows(context: Context, written: DataFrame, fills: list[str]) -> list[tuple[str, str, float]]:
    """Return the rows of als_quality: explicit ALS's RMSE on validation, in phase choose only.

    Ratings of users or items that have no vector are left out; without any there is no row.
    """
    if context.config.als.implicit or context.phase != "choose":
        return []
    held_out = context.lake.read("validation_ratings")
    rows = []
    for fill in fills:
        sides = written.where(F.col("fill") == fill)
        users = sides.where("side = 'user'").select(F.col("idx").alias("user_idx"), F.col("factors").alias("u"))
        items = sides.where("side = 'item'").select(F.col("idx").alias("item_idx"), F.col("factors").alias("i"))
        product = F.aggregate(F.zip_with("u", "i", lambda u, i: u * i), F.lit(0.0), lambda total, x: total + x)
        error = F.sqrt(F.avg(F.pow(F.col("rating") - product, F.lit(2.0))))
        found = held_out.join(users, "user_idx").join(items, "item_idx").agg(error.alias("rmse")).first()
        if found is not None and found["rmse"] is not None:
            rows.append((fill, "rmse", round(float(found["rmse"]), 12)))
    return rows
