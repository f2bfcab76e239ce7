"""The final lists: seen and forbidden items taken out, members and reasons in words, the source's ids."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend.fusion import Fusion, serve
from ganrec_spark.blend.member_lists import item_slots, member_lists, users_of_run
from ganrec_spark.blend.serving import NO_REASON
from ganrec_spark.errors import InputError
from ganrec_spark.frames.observed import users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.members import MEMBER_NAMES, TAIL
from ganrec_spark.raw.rules import id_text
from ganrec_spark.raw.sources import explained, read_column
from ganrec_spark.run.context import Context

_TAIL_BIT = 1 << MEMBER_NAMES.index(TAIL)


def served_lists(context: Context, fusions: Mapping[str, Fusion], published: str) -> DataFrame:
    """Return one row per user of the run: the final list with members and explanations (blend.fusion.serve)."""
    observed = context.lake.read("merged_ratings", "final").where("observed")
    seen = observed.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("seen"))
    # An item that nobody likes is in no list anyway.
    liked = observed.select("item_idx").distinct()
    disliked = context.lake.read("disliked_ratings").join(liked, "item_idx", "left_semi").groupBy("user_idx")
    refused = disliked.agg(F.sort_array(F.collect_set("item_idx")).alias("disliked"))
    rows = member_lists(context, users_of_run(context), "final", tuple(fusions))
    rows = rows.join(seen, "user_idx", "left").join(refused, "user_idx", "left")
    settings = context.config.recommend
    facts = _catalogue(context, observed)
    return serve(rows, fusions, published, TAIL, settings.n, settings.n_candidates, facts)


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


def _catalogue(context: Context, observed: DataFrame) -> Shipped:
    """Ship the arrays of blend.serving.Catalogue. Driver memory: a few numbers per item, nothing per user."""
    settings, lake = context.config.recommend, context.lake
    counts = users_per_item(observed)
    popular = counts.orderBy(F.col("n").desc(), "item_idx").toPandas()["item_idx"].to_numpy(dtype=np.int32)
    slots = item_slots(context)
    allowed = np.zeros(slots, dtype=np.bool_)
    allowed[popular] = True
    if settings.available_items is not None:
        allowed &= _marked(named_items(context, settings.available_items, "available_items"), slots)
    if settings.blocked_items is not None:
        allowed &= ~_marked(named_items(context, settings.blocked_items, "blocked_items"), slots)
    stored = lake.read("item_item_weights", "final")
    pairs = stored.select("item_idx", F.explode(F.arrays_zip("neighbours", "weights")).alias("pair"))
    helpful = pairs.select("item_idx", "pair.*").where("weights > 0")
    table = helpful.orderBy("item_idx", F.col("weights").desc(), "neighbours").toPandas()
    lengths = np.bincount(table["item_idx"].to_numpy(dtype=np.int64), minlength=slots)
    return ship(
        context.spark,
        popular=popular,
        allowed=allowed,
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        neighbours=table["neighbours"].to_numpy(dtype=np.int32),
    )


def named_items(context: Context, source: str, key: str) -> NDArray[np.int64]:
    """Return the indices of the items named in a file or table with a column item_id, read as the ratings' ids are.

    Ids of items that nobody rated yet do not matter. Raises InputError where there are ids and none is known.
    """
    try:
        listed = read_column(context.spark, source, "item_id", f"check recommend.{key}")
    except InputError as error:
        raise InputError(f"recommend.{key}: {error}") from error
    kind = listed.schema["item_id"].dataType
    named = listed.select(id_text(F.col("item_id"), kind, "item_id").alias("item_id")).where("item_id <> ''").distinct()
    with explained(source, f"check recommend.{key}"):
        known = context.lake.read("items").join(named, "item_id").select("item_idx").toPandas()
        n_named = named.count()
    if not len(known) and (n_named or key == "available_items"):
        found = ", ".join(repr(row.item_id) for row in named.orderBy("item_id").limit(3).collect()) or "none"
        raise InputError(
            f"recommend.{key} '{source}': expected ids of items as the ratings have them, found {n_named} ids "
            "and none of "
            f"them among the items: {found}; compare them with table items"
        )
    say = context.log if len(known) == n_named else context.warn
    say(f"recommend.{key}: {len(known)} of {n_named} ids are items of this lake")
    return known["item_idx"].to_numpy(dtype=np.int64)


def _marked(indices: NDArray[np.int64], slots: int) -> NDArray[np.bool_]:
    marked = np.zeros(slots, dtype=np.bool_)
    marked[indices[indices < slots]] = True
    return marked


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
    filled_up = F.when(F.col("bits") == 0, F.lit(TAIL))
    return F.filter(F.array(*names, filled_up), lambda name: name.isNotNull())


def _popular_only() -> Column:
    return F.col("bits").bitwiseAND(F.lit(~_TAIL_BIT)) == 0


def _reason() -> Column:
    explained = F.when(F.col("because_idx") != NO_REASON, "history").otherwise("similar_users")
    return F.when(_popular_only(), "popular").otherwise(explained)


def unserved_rows(context: Context, served: DataFrame) -> DataFrame:
    """Return the users with fewer than n items; what they could be given stands in recommendations all the same."""
    n = context.config.recommend.n
    code = F.when(F.col("n_unseen") < n, "too_few_items").otherwise("blocked")
    short = served.where(F.size("items") < n).select("user_idx", code.alias("code"), "n_available")
    return short.join(context.lake.read("users").select("user_id", "user_idx"), "user_idx")
