"""Rows of table drift: events since the models were trained, against what they were trained on."""

from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.sparsity import bucket_label
from ganrec_spark.learning.drift import BINS, aligned, by_chance, equal_bins, stability_index
from ganrec_spark.learning.experiment import rounded
from ganrec_spark.learning.moments import Floats
from ganrec_spark.run.context import Context


@dataclass(frozen=True)
class Measured:
    """One measure of drift: an index with what chance makes of so few rows, or a share with `by_chance` None."""

    name: str
    value: float | None
    by_chance: float | None
    then: int
    now: int

    @property
    def beyond_chance(self) -> float:
        """Return the index without what chance makes; 0 where nothing was compared."""
        return max(0.0, (self.value or 0.0) - (self.by_chance or 0.0))

    @property
    def row(self) -> tuple[object, ...]:
        """Return the row of table drift."""
        value, chance = (None if one is None else rounded(one) for one in (self.value, self.by_chance))
        return (self.name, value, chance, self.then, self.now)


def measured(context: Context, ratings: DataFrame, before: DataFrame, after: DataFrame) -> list[Measured]:
    """Return all measures. In: ratings that the models were trained on, events until then, events since.

    Impressions and other kinds without a weight are what we show, not what people like: they count as kinds alone.
    """
    counting = [kind for kind, weight in context.config.feedback.kinds.items() if weight > 0]
    liked = after.where(F.col("kind").isin(counting))
    users = liked.groupBy("user_idx").agg(F.count("*").alias("now"))
    items = liked.groupBy("item_idx").agg(F.count("*").alias("now"))
    known_users = ratings.groupBy("user_idx").agg(F.count("*").alias("then"))
    by_item = ratings.groupBy("item_idx").agg(F.count("*").alias("then")).join(items, "item_idx", "full")
    table = by_item.fillna(0).orderBy("item_idx").toPandas()
    then, now = table["then"].to_numpy(), table["now"].to_numpy()
    bucket = bucket_label(F.col("then"), context.config.sparsity.bucket_edges)
    active = known_users.join(users, "user_idx", "left").fillna(0).groupBy(bucket.alias("bucket"))
    levels = active.agg(F.sum("then").alias("then"), F.sum("now").alias("now")).toPandas()
    joined = users.join(known_users, "user_idx", "left")
    counts = joined.agg(F.count("*").alias("n"), F.count_if(F.col("then").isNull()).alias("new")).collect()[0]
    n_users, n_new = counts["n"], counts["new"]
    return [
        _index("items", *_binned(then, now)),
        _index("activity", levels["then"].to_numpy(dtype=np.float64), levels["now"].to_numpy(dtype=np.float64)),
        _index("kinds", *aligned(_by_kind(before), _by_kind(after))),
        Measured("new_users", n_new / n_users if n_users else None, None, known_users.count(), n_users),
        Measured(
            "new_items",
            float(now[then == 0].sum() / now.sum()) if now.sum() else None,
            None,
            int(then.sum()),
            int(now.sum()),
        ),
    ]


def _index(name: str, then: Floats, now: Floats) -> Measured:
    n_then, n_now = int(then.sum()), int(now.sum())
    if not n_then or not n_now:
        return Measured(name, None, None, n_then, n_now)
    return Measured(name, stability_index(then, now), by_chance(len(then), n_then, n_now), n_then, n_now)


def _binned(then: Floats, now: Floats) -> tuple[Floats, Floats]:
    """Return counts by items' bins; new items, which are in none, are told of by their share."""
    bins = equal_bins(then)
    known = bins >= 0
    before, after = (
        np.bincount(bins[known], weights=own[known], minlength=BINS).astype(np.float64) for own in (then, now)
    )
    return before[before > 0], after[before > 0]


def _by_kind(events: DataFrame) -> dict[str, int]:
    return {row.kind: row.n for row in events.groupBy("kind").agg(F.count("*").alias("n")).collect()}
