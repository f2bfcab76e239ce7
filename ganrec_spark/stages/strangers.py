"""Rank for people without a rating what people with the same attributes rate, where validation says that it helps."""

import json

from ganrec_spark.attributes.features import Features, features_of
from ganrec_spark.evaluation.asked import of_listed
from ganrec_spark.evaluation.choice import in_words
from ganrec_spark.recommenders.popularity import recent_counts
from ganrec_spark.recommenders.strangers.fit import Learned, best_of, candidates, judged, learned, unrated
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write strangers_candidates of the phase, and in phase choose strangers_choices."""
    lake, config, choosing = context.lake, context.config, context.phase == "choose"
    features = features_of(lake, "user", config.strangers.max_features)
    if not features.names:
        lake.write("strangers_candidates", lake.frame("strangers_candidates", []))
        if choosing:
            lake.write("strangers_choices", lake.frame("strangers_choices", [(_in_json(None), None, True)]))
        return "no attributes of users that may be used"
    observed = lake.read("merged_ratings").where("observed")
    setting = json.loads(lake.read("trending_choices").where("chosen").collect()[0]["parameters"])
    counts = recent_counts(observed, [None, setting["half_life_days"]])
    model = learned(features, observed, *counts, context.seed)
    shrinkage = choose(context, features, model) if choosing else chosen(context)
    ranked, told = lake.frame("strangers_candidates", []), "they help by no more than chance"
    if shrinkage is not None:
        users = of_listed(context, unrated(features, observed))
        ranked = candidates(users, model, shrinkage, config.recommend.n_candidates)
        told = in_words({"shrinkage": shrinkage})
    n_lists = lake.write("strangers_candidates", ranked)
    return f"{n_lists} lists for people without a rating; {len(features.names)} features: {told}"


def choose(context: Context, features: Features, model: Learned) -> float | None:
    """Return the shrinkage that validation chooses by NDCG@10; None: attributes are not used. Write strangers_choices.

    Without users who have attributes and held-out ratings ndcg is NULL.
    """
    lake, wanted = context.lake, context.config.strangers.shrinkage
    tried = (None, *sorted(wanted, reverse=True))
    observed = lake.read("merged_ratings").where("observed")
    found = judged(features, observed, lake.read("validation_ratings"), model, tried, context.seed)
    best = best_of(found)
    rows = [
        (_in_json(shrinkage), float(own.mean()) if len(own) else None, shrinkage == best)
        for shrinkage, own in found.items()
    ]
    lake.write("strangers_choices", lake.frame("strangers_choices", rows))
    return best


def chosen(context: Context) -> float | None:
    """Return the shrinkage that phase choose has chosen; None: attributes are not used."""
    row = context.lake.read("strangers_choices", "choose").where("chosen").collect()[0]
    shrinkage: float | None = json.loads(row["parameters"])["shrinkage"]
    return shrinkage


def _in_json(shrinkage: float | None) -> str:
    return json.dumps({"shrinkage": shrinkage})
