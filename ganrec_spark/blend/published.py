"""The final lists: seen and forbidden items taken out, members and reasons in words, the source's ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend.fusion import Fusion
from ganrec_spark.blend.member_lists import item_slots, member_lists
from ganrec_spark.blend.served import NEW_COLUMNS, Serving, serve
from ganrec_spark.blend.serving import ALIKE_BIT, NEW_BIT, NO_REASON, POPULARITY_BIT
from ganrec_spark.experiment.arms import with_arms
from ganrec_spark.experiment.explore import exploration_of
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.observed import users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.members import ATTRIBUTES, MEMBER_NAMES, NEW_ITEM, NEWCOMERS, POPULARITY, TAIL
from ganrec_spark.rules.keeping import bits
from ganrec_spark.rules.shipped import ShippedRules, rules_set, ship_rules, with_barred
from ganrec_spark.run.context import Context

_TAIL_BIT = 1 << MEMBER_NAMES.index(TAIL)


@dataclass(frozen=True)
class Listable:
    """What serving knows of all items: shipped facts and rules, and the items (item_idx) that lists could have."""

    facts: Shipped
    rules: ShippedRules
    items: DataFrame


def served_lists(
    context: Context,
    fusions: Mapping[str, Fusion],
    published: str,
    users: DataFrame,
    known: Listable,
    run: Mapper = by_tasks,
) -> DataFrame:
    """Return one row per user (user_idx): the final list with members and explanations (blend.served.serve)."""
    observed = context.lake.read("merged_ratings", "final").where("observed")
    seen = observed.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("seen"))
    # An item that nobody likes is in no list anyway.
    disliked = context.lake.read("disliked_ratings").join(known.items, "item_idx", "left_semi").groupBy("user_idx")
    refused = disliked.agg(F.sort_array(F.collect_set("item_idx")).alias("disliked"))
    settings, experiment = context.config.recommend, context.config.experiment
    forbidden, rules = context.lake.read("list_rules"), known.rules
    rows = member_lists(context, users, "final", tuple(fusions))
    rows = rows.join(seen, "user_idx", "left").join(refused, "user_idx", "left")
    if settings.new_item_slots:
        new = context.lake.read("newcomers_candidates", "final")
        rows = rows.join(new.select("user_idx", "items", "scores").toDF("user_idx", *NEW_COLUMNS), "user_idx", "left")
    rows = with_arms(with_barred(rows, forbidden, rules, known.items), context.lake.read("users"), experiment)
    listed = {arm.name: arm.lists for arm in experiment.arms}
    drawn = exploration_of(context.config, context.run_id)
    slots = settings.new_item_slots
    how = Serving(published, TAIL, settings.n, settings.n_candidates, listed, rules, drawn, slots)
    return serve(rows, fusions, how, known.facts, run)


def served_candidates(served: DataFrame, fills: Sequence[str]) -> DataFrame:
    """Return (fill, user_idx, items, scores): the candidates of each fill's blend beside the final lists."""
    each = F.posexplode(F.arrays_zip("candidates", "candidate_scores")).alias("place", "blend")
    names = F.array(*(F.lit(fill) for fill in fills))
    return served.select("user_idx", each).select(
        F.element_at(names, F.col("place") + 1).alias("fill"),
        "user_idx",
        F.col("blend.candidates").alias("items"),
        F.col("blend.candidate_scores").alias("scores"),
    )


def listable(context: Context) -> Listable:
    """Ship the arrays of blend.serving.Catalogue, and the rules. Driver memory: a few numbers per item."""
    observed, forbidden = (
        context.lake.read("merged_ratings", "final").where("observed"),
        context.lake.read("list_rules"),
    )
    counts = users_per_item(observed)
    popular = counts.orderBy(F.col("n").desc(), "item_idx").toPandas()["item_idx"].to_numpy(dtype=np.int32)
    stored = context.lake.read("item_item_weights", "final").select("item_idx", "neighbours", "weights")
    items, new = observed.select("item_idx").distinct(), np.empty(0, dtype=np.int64)
    if context.config.recommend.new_item_slots:
        alike = context.lake.read("newcomers_weights", "final").select(*stored.columns)
        stored, items = stored.unionByName(alike), items.unionByName(alike.select("item_idx"))
        new = alike.select("item_idx").toPandas()["item_idx"].to_numpy(dtype=np.int64)
    slots = max(item_slots(context), 1 + int(new.max(initial=-1)))
    catalogue = np.zeros(slots, dtype=np.bool_)
    catalogue[popular] = catalogue[new] = True
    allowed, rules = ship_rules(context.spark, context.config.rules, forbidden, catalogue)
    pairs = stored.select("item_idx", F.explode(F.arrays_zip("neighbours", "weights")).alias("pair"))
    helpful = pairs.select("item_idx", "pair.*").where("weights > 0")
    table = helpful.orderBy("item_idx", F.col("weights").desc(), "neighbours").toPandas()
    lengths = np.bincount(table["item_idx"].to_numpy(dtype=np.int64), minlength=slots)
    facts = ship(
        context.spark,
        popular=popular,
        allowed=allowed,
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        neighbours=table["neighbours"].to_numpy(dtype=np.int32),
    )
    return Listable(facts, rules, items)


def explored_rows(served: DataFrame) -> DataFrame:
    """Return (user_idx, rank, item_idx, propensity) of the places that were drawn, in the form of explored_places."""
    places = F.posexplode(F.arrays_zip("items", "propensities")).alias("position", "entry")
    rank = (F.col("position") + 1).alias("rank")
    rows = served.select("user_idx", places).where("entry.propensities < 1")
    return rows.select(
        "user_idx", rank, F.col("entry.items").alias("item_idx"), F.col("entry.propensities").alias("propensity")
    )


def effect_rows(context: Context, served: DataFrame) -> DataFrame:
    """Return in the form of rule_effects how many lists each rule that is set changed."""
    names = rules_set(context.config.rules)
    counts = [F.count_if(F.col("changed").bitwiseAND(F.lit(bits([rule]))) > 0).alias(rule) for rule in names]
    found = served.agg(*counts).collect()[0].asDict() if names else {}
    return context.lake.frame("rule_effects", list(found.items()))


def recommendation_rows(context: Context, served: DataFrame) -> DataFrame:
    """Return one row per user and listed item, with the source's ids, in the form of table recommendations."""
    zipped = F.posexplode(F.arrays_zip("items", "scores", "members", "because")).alias("position", "entry")
    rows = served.select("user_idx", zipped).select(
        "user_idx",
        (F.col("position") + 1).alias("rank"),
        F.col("entry.items").alias("item_idx"),
        F.col("entry.scores").alias("score"),
        F.col("entry.members").alias("bits"),
        F.col("entry.because").alias("because_idx"),
    )
    users = context.lake.read("users").select("user_id", "user_idx")
    items = context.lake.read("items").select("item_id", "item_idx")
    because = items.select(F.col("item_id").alias("because_item_id"), F.col("item_idx").alias("because_idx"))
    rows = rows.withColumn("because_idx", F.when(_popular_only(), F.lit(NO_REASON)).otherwise(F.col("because_idx")))
    named = rows.join(users, "user_idx").join(items, "item_idx").join(because, "because_idx", "left")
    return named.withColumn("members", _member_names()).withColumn("reason", _reason()).drop("bits", "because_idx")


def _member_names() -> Column:
    names = [
        F.when(F.col("bits").bitwiseAND(F.lit(1 << bit)) > 0, F.lit(member)) for bit, member in enumerate(MEMBER_NAMES)
    ]
    others = {0: TAIL, POPULARITY_BIT: POPULARITY, ALIKE_BIT: ATTRIBUTES, NEW_BIT: NEWCOMERS}
    filled_up = F.coalesce(*(F.when(F.col("bits") == bits, F.lit(name)) for bits, name in others.items()))
    return F.filter(F.array(*names, filled_up), lambda name: name.isNotNull())


def _popular_only() -> Column:
    return F.col("bits").bitwiseAND(F.lit(~(_TAIL_BIT | POPULARITY_BIT))) == 0


def _reason() -> Column:
    explained = F.when(F.col("because_idx") != NO_REASON, "history").otherwise("similar_users")
    others = F.when(F.col("bits") == ALIKE_BIT, ATTRIBUTES).when(F.col("bits") == NEW_BIT, NEW_ITEM)
    return F.when(_popular_only(), "popular").otherwise(F.coalesce(others, explained))


def unserved_rows(context: Context, served: DataFrame) -> DataFrame:
    """Return the users with fewer than n items; what they could be given stands in recommendations all the same."""
    n = context.config.recommend.n
    code = F.when(F.col("n_unseen") < n, "too_few_items").otherwise("blocked")
    short = served.where(F.size("items") < n).select("user_idx", code.alias("code"), "n_available")
    return short.join(context.lake.read("users").select("user_id", "user_idx"), "user_idx")
