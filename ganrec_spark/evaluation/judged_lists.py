"""What is measured: the lists that every recommender has for those with held-out ratings, and facts on items."""

from functools import reduce

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.metrics import self_information
from ganrec_spark.evaluation.segments import with_segments
from ganrec_spark.evaluation.split import COLD_ITEMS
from ganrec_spark.frames.audiences import lists_of_audiences, with_audience
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.members import NEWCOMERS, RECOMMENDERS
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context


def measured_users(held_out: DataFrame, segments: DataFrame) -> DataFrame:
    """Return (user_idx, relevant, segments) of every user with held-out ratings; `segments` is table user_segments.

    Held-out items that no training row names count as relevant, though no recommender can list them.
    """
    return with_segments(relevant_items(held_out), segments)


def candidate_lists(context: Context, phase: str, n: int) -> DataFrame:
    """Return (recommender, fill, user_idx, items): the first n candidates of every recommender in the phase.

    Where whole items are held out, too, for no recommender knows one of them, those of newcomers.
    """

    def lists(name: str, fill: Column) -> DataFrame:
        rows = context.lake.read(f"{name}_candidates", phase)
        return rows.select(F.lit(name).alias("recommender"), fill, "user_idx", F.slice("items", 1, n).alias("items"))

    found = [lists(name, F.col("fill")) for name in RECOMMENDERS]
    if context.config.split.protocol == COLD_ITEMS:
        found.append(lists(NEWCOMERS, F.lit(NONE).alias("fill")))
    return reduce(DataFrame.unionByName, found)


def lists_of_users(users: DataFrame, lists: DataFrame) -> DataFrame:
    """Return one row per judged user, recommender and fill, with the user's list.

    A user without a list gets the recommender's list for the user's audience or, without one, an empty list, scored 0.
    """
    plain = [(name, "none") for name in RECOMMENDERS]
    every = users.sparkSession.createDataFrame(plain, "recommender string, fill string")
    names = every.unionByName(lists.select("recommender", "fill")).distinct()
    shared = lists_of_audiences(lists).withColumnRenamed("items", "shared")
    empty = F.array().cast("array<int>")
    return (
        with_audience(users)
        .crossJoin(F.broadcast(names))
        .join(lists, ["user_idx", "recommender", "fill"], "left")
        .join(shared, ["recommender", "fill", "audience"], "left")
        .withColumn("items", F.coalesce("items", "shared", empty))
        .drop("audience", "shared")
    )


def item_facts(context: Context, observed: DataFrame, phase: str) -> tuple[Shipped, int]:
    """Return popularity and neighbours of items, for novelty and diversity, and the size of the catalogue.

    The catalogue is every item with an observed rating in the phase.
    """
    per_item = users_per_item(observed).toPandas()
    stored = context.lake.read("item_item_weights", phase)
    # Driver memory: catalogue x item_item.stored_neighbours integers; nothing here grows with users.
    neighbours = stored.select("item_idx", "neighbours").orderBy("item_idx").toPandas()
    rated, weighed = (frame["item_idx"].to_numpy(dtype=np.int64) for frame in (per_item, neighbours))
    indices = np.concatenate([np.empty(0, dtype=np.int32), *neighbours["neighbours"]]).astype(np.int32)
    new = np.empty(0, dtype=np.int64)
    if context.config.split.protocol == COLD_ITEMS:
        known = context.lake.read("newcomers_weights", phase).select("item_idx").toPandas()
        new = known["item_idx"].to_numpy(dtype=np.int64)
    slots = 1 + max(int(items.max(initial=-1)) for items in (rated, weighed, indices, new))
    counts, lengths = np.zeros(slots, dtype=np.int64), np.zeros(slots, dtype=np.int64)
    counts[rated] = per_item["n"].to_numpy()
    lengths[weighed] = [len(row) for row in neighbours["neighbours"]]
    facts = ship(
        context.spark,
        information=self_information(counts, observed.select("user_idx").distinct().count()),
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        indices=indices,
    )
    return facts, int(np.count_nonzero(counts))
