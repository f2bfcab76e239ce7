"""Rank items by their number of observed users: the baseline, and the list for users without history."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.context import Context
from ganrec_spark.distributed.ranking import Score, histories, rank_catalogue
from ganrec_spark.distributed.ship import Shipped, ship
from ganrec_spark.fills import NONE

ANYONE = -1  # user_idx of the list for users without history


def run(context: Context) -> str:
    """Write popularity_candidates; generated rows are never counted."""
    observed = context.lake.read("merged_ratings").where("source = 'observed'")
    counts = user_counts(observed)
    users = histories(observed).unionByName(anyone(context))
    score = by_popularity(ship(context.spark, counts=counts))
    ranked = rank_catalogue(users, score, context.config.recommend.n_candidates)
    n_lists = context.lake.write("popularity_candidates", ranked.withColumn("fill", F.lit(NONE)))
    share = counts.max() / counts.sum() if counts.sum() else 0.0
    return f"{n_lists} lists over {int((counts > 0).sum())} items; the most popular has {share:.1%} of all ratings"


def user_counts(observed: DataFrame) -> NDArray[np.float32]:
    """Return the number of distinct users by item index, [item slots], 0 where nobody rated."""
    counted = observed.groupBy("item_idx").agg(F.countDistinct("user_idx").alias("n")).toArrow()
    items = counted.column("item_idx").to_numpy()
    counts = np.zeros(int(items.max()) + 1 if len(items) else 0, dtype=np.float32)
    counts[items] = counted.column("n").to_numpy()
    return counts


def anyone(context: Context) -> DataFrame:
    """Return the one row (user_idx -1, no items) whose list serves users without history."""
    schema = "user_idx int, items array<int>, ratings array<float>"
    return context.spark.createDataFrame([(ANYONE, [], [])], schema)


def by_popularity(shipped: Shipped) -> Score:
    """Return the score of every item for a block of users: its count; unrated items are not listed."""

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        counts = shipped["counts"]
        row = np.where(counts > 0, counts, np.float32(-np.inf))
        return np.tile(row, (block.num_rows, 1))

    return score
