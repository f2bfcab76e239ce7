"""Ratings of one time in files that benchmarks read by themselves: in random order, as the pipeline takes them."""

import numpy as np
import pandas as pd

from ganrec_spark.seeding import stable_rng


def in_time(ratings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the ratings (user_id, item_id, timestamp) of each user oldest first, those of one time in random order.

    No item of a tie comes first more often than another (frames/time_order.py says why that matters). The same
    table and `seed` give the same order, which is not the pipeline's: these benchmarks make splits of their own.
    """
    canonical = ratings.sort_values(["user_id", "item_id"], kind="stable")
    drawn = canonical.iloc[stable_rng(seed, "ties").permutation(len(canonical))]
    return drawn.sort_values(["user_id", "timestamp"], kind="stable")


def with_ascending_ids_tied(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return ratings whose order may hide ties sorted by item id, with every run of ascending ids at one time.

    A file of sequences without times that was made from ratings of whole seconds may have each second's items in order
    of their ids. Which runs of ascending ids were ties is not to be seen, so all are taken for ties: more order is lost
    than there was to doubt. In: numeric item_id, one rating per user and timestamp.
    """
    ordered = ratings.sort_values(["user_id", "timestamp"], kind="stable")
    same_run = ordered.groupby("user_id")["item_id"].diff() > 0
    return ordered.assign(timestamp=np.cumsum(~same_run.to_numpy()))
