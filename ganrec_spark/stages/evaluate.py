"""Measure every recommender, with and without fill, per segment, with confidence intervals."""

from functools import reduce
from statistics import NormalDist

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.metrics import self_information
from ganrec_spark.evaluation.quality import catalogue_spread, metric_sums
from ganrec_spark.frames.observed import observed_ratings, relevant_items, users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.pipeline import MEMBERS
from ganrec_spark.recommenders.popularity import ANYONE
from ganrec_spark.run.context import Context

_RECOMMENDERS = ("popularity", *MEMBERS, "blend")
_SPLITS = (("validation", "choose"), ("test", "final"))


def run(context: Context) -> str:
    """Write table metrics: lists of phase choose on validation_ratings, of phase final on test_ratings."""
    settings = context.config.evaluate
    parts: list[DataFrame] = []
    found: list[str] = []
    for split, phase in _SPLITS:
        held_out = context.lake.read(f"{split}_ratings")
        n_users = held_out.select("user_idx").distinct().count()
        found.append(f"{n_users} users in {split}")
        if not n_users:
            context.log(f"{split}: no held-out ratings, no metrics")
            continue
        observed = observed_ratings(context, phase)
        users = judged_users(held_out, context.lake.read("user_sparsity"))
        lists = candidate_lists(context, phase, max(settings.ks))
        facts, n_items = _item_facts(context, observed, phase)
        # Cached: means and spreads both come from these few rows, and the pass over the lists is the cost.
        sums = metric_sums(lists_of_users(users, lists), settings.ks, facts).cache()
        means = segment_means(sums, settings.confidence)
        quality = rating_error(context.lake.read("als_quality", phase), n_users)
        rows = reduce(DataFrame.unionByName, (means, segment_spreads(sums, settings.ks, n_items), quality))
        parts.append(rows.withColumn("split", F.lit(split)))
    result = reduce(DataFrame.unionByName, parts) if parts else context.lake.frame("metrics", [])
    written = context.lake.write("metrics", result.coalesce(1))
    return f"{written} metrics; {', '.join(found)}; {_headline(context)}"


def judged_users(held_out: DataFrame, sparsity: DataFrame) -> DataFrame:
    """Return (user_idx, relevant, bucket, is_sparse) of every user with held-out ratings.

    bucket and is_sparse are NULL for users without a training rating. Held-out items that no training row names
    count as relevant, though no recommender can list them.
    """
    return relevant_items(held_out).join(sparsity.select("user_idx", "bucket", "is_sparse"), "user_idx", "left")


def candidate_lists(context: Context, phase: str, n: int) -> DataFrame:
    """Return (recommender, fill, user_idx, items): the first n candidates of every recommender in the phase."""
    return reduce(
        DataFrame.unionByName,
        [
            context.lake.read(f"{recommender}_candidates", phase).select(
                F.lit(recommender).alias("recommender"), "fill", "user_idx", F.slice("items", 1, n).alias("items")
            )
            for recommender in _RECOMMENDERS
        ],
    )


def lists_of_users(users: DataFrame, lists: DataFrame) -> DataFrame:
    """Return one row per judged user, recommender and fill, with the user's list.

    A user without a list gets the recommender's list for anyone, if it has one, else an empty list, which scores 0.
    """
    plain = [(name, "none") for name in _RECOMMENDERS]
    every = users.sparkSession.createDataFrame(plain, "recommender string, fill string")
    names = every.unionByName(lists.select("recommender", "fill")).distinct()
    anyone = lists.where(F.col("user_idx") == ANYONE).select("recommender", "fill", F.col("items").alias("anyone"))
    empty = F.array().cast("array<int>")
    return (
        users.crossJoin(F.broadcast(names))
        .join(lists, ["user_idx", "recommender", "fill"], "left")
        .join(F.broadcast(anyone), ["recommender", "fill"], "left")
        .withColumn("items", F.coalesce("items", "anyone", empty))
        .drop("anyone")
    )


def _item_facts(context: Context, observed: DataFrame, phase: str) -> tuple[Shipped, int]:
    """Return popularity and neighbours of items, for novelty and diversity, and the size of the catalogue.

    The catalogue is every item with an observed rating in the phase.
    """
    per_item = users_per_item(observed).toPandas()
    stored = context.lake.read("item_item_weights", phase).where("fill = 'none'")
    # Driver memory: catalogue x item_item.stored_neighbours integers; nothing here grows with users.
    neighbours = stored.select("item_idx", "neighbours").orderBy("item_idx").toPandas()
    rated, weighed = (frame["item_idx"].to_numpy(dtype=np.int64) for frame in (per_item, neighbours))
    indices = np.concatenate([np.empty(0, dtype=np.int32), *neighbours["neighbours"]]).astype(np.int32)
    slots = 1 + max(int(items.max(initial=-1)) for items in (rated, weighed, indices))
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


def _segments() -> Column:
    """Return the segments that a group of users counts in; users without a training rating are the `cold` ones."""
    density = F.when(F.col("is_sparse"), F.lit("sparse")).otherwise(F.lit("dense"))
    warm = F.array(F.lit("all"), density, F.concat(F.lit("bucket:"), "bucket"))
    return F.explode(F.when(F.col("bucket").isNull(), F.array(F.lit("all"), F.lit("cold"))).otherwise(warm))


def segment_means(sums: DataFrame, confidence: float) -> DataFrame:
    """Return the mean of every per-user metric by segment with its normal interval over users.

    In: metric_sums. The interval is mean +- z * standard deviation / sqrt(n); NULL for a single user.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    keys = ("recommender", "fill", "segment", "metric", "k")
    totals = (
        sums.where("item_idx IS NULL")
        .withColumn("segment", _segments())
        .groupBy(*keys)
        .agg(F.sum("n").alias("n"), F.sum("total").alias("total"), F.sum("squares").alias("squares"))
        .where("n > 0")
    )
    mean = F.col("total").cast("double") / F.col("n")
    squares = F.col("squares").cast("double")
    variance = F.greatest(F.lit(0.0), squares - F.col("n") * mean * mean) / (F.col("n") - 1)
    half = F.when(F.col("n") > 1, F.lit(z) * F.sqrt(variance / F.col("n")))
    return totals.select(
        *keys,
        mean.alias("value"),
        (mean - half).alias("ci_low"),
        (mean + half).alias("ci_high"),
        F.col("n").alias("n_users"),
    )


def segment_spreads(sums: DataFrame, ks: tuple[int, ...], n_items: int) -> DataFrame:
    """Return coverage and gini of the lists of each segment's users, over a catalogue of `n_items`.

    In: metric_sums of `ks`. Out: rows in the form of `segment_means`, without interval.
    """
    groups = ("recommender", "fill", "segment")
    keys = (*groups, "k")
    lists = segment_means(sums, 0.95).where("metric = 'recall'").select(*keys, "n_users")
    listed = sums.where("metric = 'listed'").withColumn("segment", _segments())
    # How often each item is in the first k: NULL, which no list collects, where only below.
    within = [F.sum(F.when(F.col("k") <= k, F.col("n"))).alias(f"within_{k}") for k in ks]
    per_item = listed.groupBy(*groups, "item_idx").agg(*within)
    collected = per_item.groupBy(*groups).agg(*(F.collect_list(f"within_{k}").alias(f"within_{k}") for k in ks))
    each = F.array(*(F.struct(F.lit(k).alias("k"), F.col(f"within_{k}").alias("counts")) for k in ks))
    counts = collected.select(*groups, F.explode(each).alias("cut")).select(*groups, "cut.k", "cut.counts")
    empty = F.array().cast("array<bigint>")
    every = lists.join(counts, list(keys), "left").withColumn("counts", F.coalesce("counts", empty))
    unbounded = F.lit(None).cast("double")
    return catalogue_spread(every, n_items).withColumn("ci_low", unbounded).withColumn("ci_high", unbounded)


def rating_error(quality: DataFrame, n_users: int) -> DataFrame:
    """Return the rows of als_quality (RMSE of explicit ratings) as metrics with k = 0."""
    unbounded = F.lit(None).cast("double")
    return quality.select(
        F.lit("als").alias("recommender"),
        "fill",
        F.lit("all").alias("segment"),
        F.col("name").alias("metric"),
        F.lit(0).alias("k"),
        "value",
        unbounded.alias("ci_low"),
        unbounded.alias("ci_high"),
        F.lit(n_users).alias("n_users"),
    )


def _headline(context: Context) -> str:
    """Return NDCG@10 (or the nearest k) of the blend and popularity on the best split there is, in words."""
    k = min(context.config.evaluate.ks, key=lambda cut: abs(cut - 10))
    rows = (
        context.lake.read("metrics")
        .where((F.col("metric") == "ndcg") & (F.col("k") == k) & (F.col("segment") == "all"))
        .where(F.col("recommender").isin("blend", "popularity"))
        .orderBy(F.col("split").asc(), "recommender", "fill")
        .collect()
    )
    split = rows[0].split if rows else "none"
    texts = [f"{row.recommender} ({row.fill}) {row.value:.4f}" for row in rows if row.split == split]
    return f"NDCG@{k} on {split}: {', '.join(texts) or 'nothing to measure'}"
