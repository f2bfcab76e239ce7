"""Rows of policy_estimates: what each recommender would have earned at the places whose items were drawn.

Only drawn places say what another choice would have earned there: what is not drawn was always shown. A policy's choice
at a drawn place is its best item that does not stand above it, so the context (user, what stands above) is the log's
own and the propensity given it is exact: nothing has to be assumed of how items of a list act on each other.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.learning.estimates import SHOWN, PolicyValue, doubly_robust, item_lifts, place_rates, shown, snips
from ganrec_spark.learning.experiment import bounds, rounded
from ganrec_spark.learning.moments import Moments
from ganrec_spark.learning.seen import ShownLists
from ganrec_spark.learning.summed import moments_by
from ganrec_spark.plan.members import RECOMMENDERS
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context

FOLDS = 2
# Expected events that an item's lift begins with (estimates.item_lifts).
PRIOR = 5.0
_SHOWN = "shown"
_SUMS = (
    "weighted",
    "weight",
    "square",
    "residual",
    "doubt",
    "expected",
    "one",
    "reward",
)  # in the order of learning.estimates


def drawn_places(seen: ShownLists, kind: str) -> DataFrame:
    """Return one row per drawn exposure: run_id, user_idx, rank, item_idx, propensity, reward, above, fold.

    `above`: the items that stand above it. `reward`: 1 where there was an event of the kind.
    """
    events = seen.events.where(F.col("kind") == kind).select(
        "edition", "user_idx", "item_idx", F.lit(1.0).alias("reward")
    )
    lists = seen.exposures.groupBy("edition", "user_idx").agg(
        F.collect_list(F.struct("rank", "item_idx")).alias("places")
    )
    above = F.transform(F.filter("places", lambda one: one["rank"] < F.col("rank")), lambda one: one["item_idx"])
    drawn = seen.exposures.where("propensity < 1").join(lists, ["edition", "user_idx"])
    drawn = drawn.withColumn("above", above).join(events, ["edition", "user_idx", "item_idx"], "left")
    fold = F.pmod(F.xxhash64(F.lit("policies"), "user_idx"), F.lit(FOLDS)).cast("int")
    names = ("run_id", "user_idx", "rank", "item_idx", "propensity", "reward", "above", "fold")
    return drawn.fillna({"reward": 0.0}).withColumn("fold", fold).select(*names)


def modelled(context: Context, drawn: DataFrame) -> tuple[list[list[float]], DataFrame]:
    """Return the rates by fold and rank - 1, and (fold, item_idx, lift): the reward model, fitted on the other folds.

    Driver memory: two numbers per drawn item and fold.
    """
    sums = drawn.groupBy("fold", "rank").agg(F.sum("reward").alias("earned"), F.count("*").alias("n")).toPandas()
    n_ranks = int(sums["rank"].max())
    earned, seen = np.zeros((FOLDS, n_ranks)), np.zeros((FOLDS, n_ranks))
    at = (sums["fold"].to_numpy(), sums["rank"].to_numpy() - 1)
    earned[at], seen[at] = sums["earned"], sums["n"]
    rates = place_rates(earned, seen).tolist()
    per_item = drawn.withColumn("foreseen", _rate(rates)).groupBy("fold", "item_idx")
    table = per_item.agg(F.sum("reward").alias("earned"), F.sum("foreseen").alias("foreseen")).toPandas()
    items, places = np.unique(table["item_idx"].to_numpy(), return_inverse=True)
    sums_of = {name: np.zeros((FOLDS, len(items))) for name in ("earned", "foreseen")}
    for name, own in sums_of.items():
        own[table["fold"].to_numpy(), places] = table[name]
    lifts = item_lifts(sums_of["earned"], sums_of["foreseen"], PRIOR)
    columns = {
        "fold": np.repeat(np.arange(FOLDS, dtype=np.int32), len(items)),
        "item_idx": np.tile(items.astype(np.int32), FOLDS),
        "lift": lifts.ravel(),
    }
    return rates, context.spark.createDataFrame(pa.table(columns))


def _rate(rates: list[list[float]]) -> Column:
    table = F.array(*(F.array(*(F.lit(rate) for rate in own)) for own in rates))
    return F.get(F.get(table, F.col("fold")), F.col("rank") - 1)


def choices(context: Context, drawn: DataFrame) -> DataFrame:
    """Return `drawn` once for each policy and fill that had a list for the user, with its `choice`.

    The first of its candidates that does not stand above; a policy whose candidates all do has no row there.
    """
    runs = [row.run_id for row in drawn.select("run_id").distinct().collect()]
    parts = []
    for policy in RECOMMENDERS:
        rows = context.lake.read_runs(f"{policy}_candidates").where(
            (F.col("phase") == "final") & F.col("run_id").isin(runs)
        )
        best = rows.select("run_id", "fill", "user_idx", "items", F.lit(policy).alias("policy"))
        parts.append(drawn.join(best, ["run_id", "user_idx"]))
    every = parts[0]
    for part in parts[1:]:
        every = every.unionByName(part)
    choice = F.get(F.array_except("items", "above"), F.lit(0))
    return every.withColumn("choice", choice).where("choice IS NOT NULL").drop("items", "above")


def sums_by_policy(chosen: DataFrame, rates: list[list[float]], lifts: DataFrame) -> dict[tuple[str, str], Moments]:
    """Return the moments over users of estimates.user_sums by (policy, fill)."""

    def model(item: str) -> Column:
        return F.least(F.lit(1.0), _rate(rates) * F.coalesce(F.col(f"lift_{item}"), F.lit(1.0)))

    rows = chosen
    for item in ("item_idx", "choice"):
        own = lifts.select("fold", F.col("item_idx").alias(item), F.col("lift").alias(f"lift_{item}"))
        rows = rows.join(F.broadcast(own), ["fold", item], "left")
    weight = F.when(F.col("item_idx") == F.col("choice"), 1 / F.col("propensity")).otherwise(F.lit(0.0))
    rows = rows.select(
        "policy",
        "fill",
        "user_idx",
        weight.alias("weight"),
        "reward",
        model("item_idx").alias("own"),
        model("choice").alias("expected"),
    )
    rows = rows.withColumns(
        {
            "weighted": F.col("weight") * F.col("reward"),
            "square": F.col("weight") ** 2,
            "residual": F.col("weight") * (F.col("reward") - F.col("own")),
            "doubt": F.col("weight") ** 2 * F.col("own") * (1 - F.col("own")),
            "one": F.lit(1.0),
        }
    )
    per_user = rows.groupBy("policy", "fill", "user_idx").agg(*(F.sum(name).alias(name) for name in _SUMS))
    found = moments_by(per_user, ("policy", "fill"), _SUMS)
    return {(policy, fill): own for (policy, fill), own in found.items()}


def policy_rows(context: Context, seen: ShownLists) -> list[tuple[object, ...]]:
    """Return the rows of table policy_estimates; none where nothing was drawn."""
    drawn = drawn_places(seen, context.config.learn.kind).cache()
    if drawn.isEmpty():
        drawn.unpersist()
        return []
    rates, lifts = modelled(context, drawn)
    itself = drawn.select(
        "*", F.lit(_SHOWN).alias("policy"), F.lit(NONE).alias("fill"), F.col("item_idx").alias("choice")
    )
    chosen = choices(context, drawn)
    sums = sums_by_policy(chosen.unionByName(itself.drop("above")), rates, lifts)
    drawn.unpersist()
    rows = [_row(_SHOWN, NONE, "observed", shown(sums[_SHOWN, NONE]), sums[_SHOWN, NONE])]
    for (policy, fill), own in sums.items():
        if policy != _SHOWN:
            rows.append(_row(policy, fill, "snips", snips(own), own))
            rows.append(_row(policy, fill, "doubly_robust", doubly_robust(own), own))
    return rows


def _row(policy: str, fill: str, estimator: str, value: PolicyValue, sums: Moments) -> tuple[object, ...]:
    numbers = (
        *bounds(value.estimate),
        rounded(value.effective),
        *bounds(value.support),
        round(float(sums.sums[SHOWN])),
        sums.n,
    )
    return (policy, fill, estimator, *numbers, "; ".join(caveats(value)))


def caveats(value: PolicyValue) -> Sequence[str]:
    """Return in words why an estimate says little, or of what it does not speak."""
    told = []
    if value.estimate.too_wide:
        told.append("the interval is too wide to mean anything")
    if value.lacks_support:
        told.append(
            f"at least {1 - value.support.high:.0%} of its choices could not have been drawn: nothing is known of them"
        )
    return told
