"""Rank the catalogue by item-item weights, and keep the strongest of them for explanations."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.catalogue import Score, rank_catalogue
from ganrec_spark.recommenders.item_item.scoring import ship_weights
from ganrec_spark.recommenders.item_item.weights import Weights, strongest
from ganrec_spark.run.context import Context


def candidates(
    context: Context,
    ratings: DataFrame,
    users: DataFrame,
    weights: Weights,
    item_idx: NDArray[np.int32],
    half_life: float | None,
) -> DataFrame:
    """Return item_item_candidates: for each user in `users`, the n best items neither in `ratings` nor disliked."""
    disliked = dislikes.of_phase(context.lake.read("known_dislikes"), ratings, str(context.phase))
    score = ship_weights(context.spark, item_idx, weights, half_life)
    own, n = of_listed(context, ratings), context.config.recommend.n_candidates
    return ranked_by(own, users, score, disliked, n)


def ranked_by(
    ratings: DataFrame,
    users: DataFrame,
    score: Score,
    disliked: DataFrame | None,
    n: int,
    run: Mapper = by_tasks,
) -> DataFrame:
    """Return `candidates` by a score of the catalogue."""
    observed = histories(ratings).select("user_idx", F.col("items").alias("seen"))
    observed = dislikes.never_listed(observed, disliked, "seen")
    ranked = rank_catalogue(users.join(observed, "user_idx"), score, n, "seen", run)
    return ranked.select(F.lit(NONE).alias("fill"), "user_idx", "items", "scores")


def weight_rows(context: Context, weights: Weights, item_idx: NDArray[np.int32]) -> DataFrame:
    """Return item_item_weights: of each item, the history items of largest positive weight."""
    places, strengths = strongest(weights, context.config.item_item.stored_neighbours)
    table = {
        "item_idx": pa.array(item_idx, pa.int32()),
        "neighbours": pa.array([item_idx[row] for row in places], pa.list_(pa.int32())),
        "weights": pa.array(strengths, pa.list_(pa.float32())),
    }
    return context.spark.createDataFrame(pa.table(table))
