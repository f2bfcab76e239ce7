"""Rank items by their number of users: of all time, the baseline, and lately, for everyone without a history."""

import json
from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.evaluation.choice import simplest
from ganrec_spark.evaluation.draws import drawn
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.audiences import audience_rows
from ganrec_spark.frames.histories import histories
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.popularity import ndcg_alike, orders, rank_alike, recent_counts
from ganrec_spark.run.context import Context

_ALL_TIME = 0  # place of the setting without a half-life, which is popularity itself
HalfLife = float | None  # days
Seen = Callable[[DataFrame], DataFrame]  # from users' ratings, (user_idx, items): what is never listed of these users


def run(context: Context) -> str:
    """Write popularity_candidates, trending_choices and trending_candidates; generated rows are never counted."""
    lake, n = context.lake, context.config.recommend.n_candidates
    observed = lake.read("merged_ratings").where("observed")
    half_lives = tried_half_lives(context)
    item_idx, counts = recent_counts(observed, half_lives)
    shipped = ship(context.spark, **orders(item_idx, counts, counts[_ALL_TIME]))
    disliked = dislikes.of_phase(lake.read("known_dislikes"), observed, str(context.phase))

    def seen(own: DataFrame) -> DataFrame:
        return dislikes.never_listed(histories(own).select("user_idx", "items"), disliked)

    chosen = len(half_lives) - 1
    if context.phase == "choose":
        chosen = best_half_life(context, observed, seen, shipped, half_lives)
    users = seen(of_listed(context, observed))
    users = users.unionByName(audience_rows(users))
    for name, setting in (("popularity", _ALL_TIME), ("trending", chosen)):
        ranked = rank_alike(users, shipped, setting, n)
        n_lists = lake.write(f"{name}_candidates", ranked.withColumn("fill", F.lit(NONE)))
    total = counts[_ALL_TIME].sum()
    share = counts[_ALL_TIME].max() / total if total else 0.0
    how = "all time" if half_lives[chosen] is None else f"a half-life of {half_lives[chosen]:g} days"
    return f"{n_lists} lists over {len(item_idx)} items; the first has {share:.1%} of all ratings; trending by {how}"


def tried_half_lives(context: Context) -> list[HalfLife]:
    """Return all time first, then, in phase choose, every half-life, longest first, in phase final the chosen one."""
    if context.phase == "choose":
        return [None, *sorted(context.config.trending.half_life_days, reverse=True)]
    chosen = context.lake.read("trending_choices", phase="choose").where("chosen")
    context.lake.write("trending_choices", chosen)
    return [None, json.loads(chosen.collect()[0]["parameters"])["half_life_days"]]


def best_half_life(context: Context, observed: DataFrame, seen: Seen, shipped: Shipped, tried: list[HalfLife]) -> int:
    """Return the place of the half-life that validation chooses by NDCG@10; write trending_choices.

    It is the longest within one standard error of the best (evaluation.choice.simplest), all time first of all. Users
    without history judge, too. Without validation users ndcg is NULL.
    """
    judges = drawn(relevant_items(context.lake.read("validation_ratings")), "trending", context.seed)
    own = observed.join(F.broadcast(judges.select("user_idx")), "user_idx", "left_semi")
    found = ndcg_alike(judges, seen(own), shipped, JUDGED_K)
    best = simplest(dict(enumerate(found))) if found.size else _ALL_TIME
    means: list[float | None] = found.mean(axis=1).tolist() if found.size else [None] * len(tried)
    rows = [
        (json.dumps({"half_life_days": half_life}), mean, place == best)
        for place, (half_life, mean) in enumerate(zip(tried, means, strict=True))
    ]
    context.lake.write("trending_choices", context.lake.frame("trending_choices", rows))
    return best
