"""The members' lists beside each other, one row a user, as a fusion reads them; and who judges them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend import rerank
from ganrec_spark.blend.fusion import HISTORY, Fusion
from ganrec_spark.blend.variety import Variety
from ganrec_spark.evaluation.draws import drawn, part
from ganrec_spark.evaluation.segments import with_segments
from ganrec_spark.frames.audiences import lists_of_audiences, with_audience
from ganrec_spark.frames.histories import spread
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.members import LEARN_FROM_FILLS, MEMBER_NAMES, TAIL
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context


@dataclass(frozen=True)
class Blend:
    """How the members' lists are blended: weights [M] in members' order, fusion, NDCG@10 on `n_users` who chose them.

    `trees` are the models that reorder the head, empty where none does: one per fold for lists of phase choose,
    trained without the fold's users, and at last that of all users for phase final. `variety` comes after them.
    """

    weights: NDArray[np.float64]
    fusion: str
    ndcg: float
    member_ndcg: tuple[float, ...]
    n_users: int
    trees: tuple[str, ...] = field(default=(), repr=False)
    variety: Variety | None = None


def accepted_fills(context: Context) -> list[str]:
    """Return the accepted fill, in a list, or an empty list."""
    lists = (context.lake.read(f"{member}_candidates", "choose") for member in LEARN_FROM_FILLS)
    return sorted({row.fill for rows in lists for row in rows.select("fill").distinct().collect()} - {NONE})


def users_of_run(context: Context) -> DataFrame:
    """Return (user_idx) of every user of the run: those with held-out ratings, dislikes or attributes alone, too."""
    tables = ("ratings", "disliked_ratings", "user_attributes")
    return reduce(DataFrame.union, (context.lake.read(name).select("user_idx") for name in tables)).distinct()


def _columns(fill: str) -> dict[str, str]:
    """Return, by member, the column of `member_lists` for a blend: those that learn from fills have one per fill."""
    filled = LEARN_FROM_FILLS if fill != NONE else ()
    return {member: f"{member}_{fill}" if member in filled else member for member in MEMBER_NAMES}


def member_lists(context: Context, users: DataFrame, phase: str, fills: Sequence[str]) -> DataFrame:
    """Return one row per user as the fusions of `fills` read them (blend.fusion.Fusion, `_columns`).

    Users that the tail has no list for get its list for their audience. `alike`, `alike_scores`: the list by attributes
    of those who have no ratings, NULL for the others. `history`: with recommend.variety what the user has rated.
    """
    rows = spread(users).withColumn("fold", part("fold", context.seed, rerank.FOLDS))
    named = {
        column: (member, NONE if column == member else fill)
        for fill in fills
        for member, column in _columns(fill).items()
    }
    for column, (member, variant) in named.items():
        candidates = context.lake.read(f"{member}_candidates", phase).where(F.col("fill") == F.lit(variant))
        listed = candidates.select("user_idx", F.col("items").alias(column), F.col("scores").alias(f"{column}_scores"))
        rows = rows.join(listed, "user_idx", "left")
        if column != member:  # a fill that had no items for anyone in this phase left its recommender without lists
            for suffix in ("", "_scores"):
                rows = rows.withColumn(column + suffix, F.coalesce(column + suffix, member + suffix))
    tails = lists_of_audiences(context.lake.read(f"{TAIL}_candidates", phase))
    shared = tails.select("audience", F.col("items").alias("tail"), F.col("scores").alias("tail_scores"))
    rows = with_audience(rows).join(shared, "audience", "left")
    for suffix, kind in (("", "int"), ("_scores", "float")):
        own = F.coalesce(f"{TAIL}{suffix}", f"tail{suffix}", F.array().cast(f"array<{kind}>"))
        rows = rows.withColumn(f"{TAIL}{suffix}", own)
    alike = context.lake.read("strangers_candidates", phase)
    alike = alike.select("user_idx", F.col("items").alias("alike"), F.col("scores").alias("alike_scores"))
    rows = rows.drop("audience", "tail", "tail_scores").join(alike, "user_idx", "left")
    observed = context.lake.read("merged_ratings", phase).where("observed")
    found = [F.count("*").alias("n_ratings")]
    if context.config.recommend.variety != "none":
        found.append(F.sort_array(F.collect_set("item_idx")).alias(HISTORY))
    return rows.join(observed.groupBy("user_idx").agg(*found), "user_idx", "left")


def judged_rows(context: Context) -> DataFrame:
    """Return the rows of validation users, with relevant (held-out items) and is_sparse.

    Those who judge weights and those who judge trees, apart where there are enough (draws): columns of these names are
    true for them, else NULL. Whose list is by attributes is not among them: nothing is blended for them.
    """
    settings = context.config.recommend
    wanted = {"weights": settings.weight_users, "trees": settings.rerank_users if settings.reranker != "none" else 0}
    rows = relevant_of_run(context)
    for purpose, n in wanted.items():
        users = drawn(rows.select("user_idx"), purpose, context.seed, n).withColumn(purpose, F.lit(True))
        rows = rows.join(users, "user_idx", "left")
    rows = member_lists(context, rows.where("weights OR trees"), "choose", (NONE,)).where("alike IS NULL")
    rows = with_segments(rows, context.lake.read("user_segments"))
    return rows.withColumn("is_sparse", F.array_contains("segments", "sparse")).drop("segments")


def relevant_of_run(context: Context) -> DataFrame:
    """Return (user_idx, relevant): the held-out items of every validation user."""
    return relevant_items(context.lake.read("validation_ratings"))


def shipped_popularity(context: Context, phase: str) -> Shipped:
    """Ship the log of 1 + each item's number of users, which the trees read. Driver memory: a number per item."""
    observed = context.lake.read("merged_ratings", phase).where("observed")
    counts = users_per_item(observed).toPandas()
    popularity = np.zeros(item_slots(context), dtype=np.float32)
    popularity[counts["item_idx"].to_numpy(dtype=np.int64)] = np.log1p(counts["n"].to_numpy(dtype=np.float32))
    return ship(context.spark, popularity=popularity)


def item_slots(context: Context) -> int:
    """Return 1 + the largest item index of the run."""
    last = context.lake.read("ratings").agg(F.max("item_idx").alias("last")).first()
    return 1 + int(last.last) if last is not None and last.last is not None else 0


def fusion_of(context: Context, blend: Blend, fill: str, phase: str, popularity: Shipped) -> Fusion:
    """Return what fuses the phase's lists of a fill: in phase final the model of all users serves every fold."""
    settings = context.config.recommend
    models = blend.trees[: rerank.FOLDS] if phase == "choose" else blend.trees[rerank.FOLDS :] * rerank.FOLDS
    members = tuple(_columns(fill).values())
    constant, depth = settings.fusion_constant, settings.rerank_depth
    return Fusion(members, blend.weights, blend.fusion, constant, depth, popularity, models, blend.variety)
