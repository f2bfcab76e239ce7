"""Moments of groups of users, added up by Spark."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.learning.moments import Moments


def moments_by(users: DataFrame, groups: Sequence[str], measures: Sequence[str]) -> dict[tuple[str, ...], Moments]:
    """Return the moments of each group, by the values of its columns. In: one row per user and group."""
    pairs = [*combinations_with_replacement(range(len(measures)), 2)]
    values = [F.col(name).cast("double") for name in measures]
    sums = [F.sum(value).alias(f"sum_{place}") for place, value in enumerate(values)]
    products = [F.sum(values[a] * values[b]).alias(f"product_{a}_{b}") for a, b in pairs]
    rows = users.groupBy(*groups).agg(F.count("*").alias("n_users"), *sums, *products).orderBy(*groups).collect()
    found = {}
    for row in rows:
        matrix = np.zeros((len(measures), len(measures)))
        for a, b in pairs:
            matrix[a, b] = matrix[b, a] = row[f"product_{a}_{b}"]
        totals = np.array([row[f"sum_{place}"] for place in range(len(measures))])
        found[tuple(str(row[group]) for group in groups)] = Moments(row["n_users"], totals, matrix)
    return found
