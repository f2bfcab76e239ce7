"""The one order of a user's ratings in time, ties included: for the split, sequences and fills alike."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def tie(seed: int) -> Column:
    """Return, of a row of (user_idx, item_idx), its place among the user's ratings of one time: a hash of both.

    Ratings of one second have no order. Whatever stood in for one, such as the item's index, would be a pattern that
    a model of sequences learns and a test by the last rating rewards: the held-out item would be the largest of its
    tie. A hash that starts from run.seed is the same wherever it is asked for, and says nothing.
    """
    return F.xxhash64(F.lit("tie"), F.lit(seed), F.col("user_idx"), F.col("item_idx"))
