"""Measure every recommender, with and without fill, per segment, with confidence intervals."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.asked import asked_users
from ganrec_spark.evaluation.item_groups import item_groups
from ganrec_spark.evaluation.judged_lists import candidate_lists, item_facts, lists_of_users, measured_users
from ganrec_spark.evaluation.quality import metric_sums
from ganrec_spark.evaluation.segments import rating_error, segment_means, segment_spreads
from ganrec_spark.frames.observed import observed_ratings
from ganrec_spark.run.context import Context

_SPLITS = (("validation", "choose"), ("test", "final"))


def run(context: Context) -> str:
    """Write item_groups, and metrics: lists of phase choose on validation_ratings, of phase final on test_ratings."""
    names = ("recommendations", "ratings", "item_attributes", "attribute_columns")
    context.lake.write("item_groups", item_groups(*map(context.lake.read, names)))
    settings = context.config.evaluate
    parts: list[DataFrame] = []
    found: list[str] = []
    for split, phase in _SPLITS:
        held_out = context.lake.read(f"{split}_ratings")
        n_all = n_users = held_out.select("user_idx").distinct().count()
        if phase == "choose":
            held_out = held_out.join(F.broadcast(asked_users(context)), "user_idx", "left_semi")
            n_users = held_out.select("user_idx").distinct().count()
        found.append(f"{n_users} users in {split}" + (f", drawn from {n_all}" if n_users < n_all else ""))
        if not n_users:
            context.log(f"{split}: no held-out ratings, no metrics")
            continue
        observed = observed_ratings(context, phase)
        users = measured_users(held_out, context.lake.read("user_segments"))
        lists = candidate_lists(context, phase, max(settings.ks))
        facts, n_items = item_facts(context, observed, phase)
        # Cached: means and spreads both come from these few rows, and the pass over the lists is the cost.
        sums = metric_sums(lists_of_users(users, lists), settings.ks, facts).cache()
        means = segment_means(sums, settings.confidence)
        quality = rating_error(context.lake.read("als_quality", phase), n_users)
        rows = reduce(DataFrame.unionByName, (means, segment_spreads(sums, settings.ks, n_items), quality))
        parts.append(rows.withColumn("split", F.lit(split)))
    result = reduce(DataFrame.unionByName, parts) if parts else context.lake.frame("metrics", [])
    written = context.lake.write("metrics", result.coalesce(1))
    return f"{written} metrics; {', '.join(found)}; {_headline(context)}"


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
