"""Users' rows of X, the matrix that item-item models read, in Spark and on the driver."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.frames.histories import histories, lists
from ganrec_spark.frames.sorted_here import sorted_here

_FURTHEST_RATING = 2.0  # standard deviations


def profiles(ratings: DataFrame, rating_slope: float = 0.0, moments: DataFrame | None = None) -> DataFrame:
    """Return (user_idx, items, ratings): each user's row of X, sorted by item; one row per user.

    In: observed ratings, one row per user and item. X is binary (Steck 2019), or 1 + rating_slope * z, z the rating's
    standard deviations from the mean of all, at most 2 either way. `moments`: of what is all, where that is more than
    these ratings.
    """
    facts = F.broadcast(rating_moments(ratings) if moments is None else moments)
    deviation = F.sqrt(F.greatest(F.col("square") - F.col("mean") * F.col("mean"), F.lit(0.0)))
    z = (F.col("rating") - F.col("mean")) / deviation
    inside = F.greatest(F.lit(-_FURTHEST_RATING), F.least(F.lit(_FURTHEST_RATING), z))
    value = 1 + rating_slope * F.when(deviation > 0, inside).otherwise(0.0)
    return histories(ratings.crossJoin(facts).select("user_idx", "item_idx", value.alias("rating")))


def rating_moments(ratings: DataFrame) -> DataFrame:
    """Return the one row (mean, square): the means of the ratings and of their squares."""
    return ratings.agg(F.avg("rating").alias("mean"), F.avg(F.col("rating") * F.col("rating")).alias("square"))


def item_axis(ratings: DataFrame) -> NDArray[np.int32]:
    """Return the indices of all items that are rated, ascending: the axis [I] of the item-item matrices."""
    items = sorted_here(ratings.select("item_idx").distinct(), "item_idx")
    return np.asarray(items.column("item_idx"), dtype=np.int32)


def profile_matrix(
    block: pa.RecordBatch, item_idx: NDArray[np.int32], half_life: float | None = None, column: str = "ratings"
) -> sparse.csr_array:
    """Return a block of `profiles` as X [B users, I items]; items that are not on the axis are left out.

    With a `half_life` an item of that age, of `with_ages`, counts half. `column` names the values, stored even if 0.
    """
    items = lists(block, "items")
    flat = np.concatenate(items) if items else np.empty(0, np.int32)
    values = np.concatenate(lists(block, column)) if items else np.empty(0, np.float32)
    if half_life is not None and items:
        values = values * 0.5 ** (np.concatenate(lists(block, "ages")) / half_life)
    rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
    columns = np.searchsorted(item_idx, flat)
    known = columns < len(item_idx)
    known[known] = item_idx[columns[known]] == flat[known]
    shape = (len(items), len(item_idx))
    return sparse.csr_array((values[known].astype(np.float64), (rows[known], columns[known])), shape=shape)
