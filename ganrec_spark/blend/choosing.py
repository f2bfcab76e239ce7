"""Choose the blend on validation users: fusion and weights, trees, and whether a fill reaches what is published."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend import rerank
from ganrec_spark.blend.fusion import Fusion, fused_systems, grid_values, rerank_examples
from ganrec_spark.blend.member_lists import Blend, fusion_of, member_lists, relevant_of_run
from ganrec_spark.blend.weights import bagged, tried_settings
from ganrec_spark.evaluation.asked import asked_users
from ganrec_spark.evaluation.bootstrap import bonferroni, poisson_weights
from ganrec_spark.evaluation.draws import SCREENING_PARTS, part
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.evaluation.segments import with_segments
from ganrec_spark.fills.lift import added_up, segment_lifts, system_sums
from ganrec_spark.fills.rules import Judgement, refusal, words
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.plan.members import MEMBER_NAMES, TAIL
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed

_RESAMPLES = 200


def choose_weights(context: Context, judged: DataFrame) -> Blend:
    """Return the fusion and the weights that resamples of validation users choose by NDCG@10 (blend.weights.bagged).

    Equal weights where nobody is held out.
    """
    settings, rows = context.config.recommend, judged.where("weights")

    def graded(fusion: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return grid_values(rows, MEMBER_NAMES, weights, fusion, settings.fusion_constant, JUDGED_K)

    tried = [
        tried_settings(len(MEMBER_NAMES), settings.weight_step, partial(graded, fusion)) for fusion in settings.fusion
    ]
    n_users = len(tried[0][1])
    if not n_users:
        return Blend(tried[0][0][0], settings.fusion[0], 0.0, (0.0,) * len(MEMBER_NAMES), 0)
    resampled = poisson_weights(np.arange(n_users), _RESAMPLES, stable_seed(context.seed, "weights"))[:, 1:]
    place, weights = bagged(tried, resampled)
    fusion, (grid, found) = settings.fusion[place], tried[place]
    corners = [int(np.flatnonzero(grid[:, member] == 1)[0]) for member in range(len(MEMBER_NAMES))]
    alone = tuple(round(float(found[:, corner].mean()), 12) for corner in corners)
    ndcg = round(float(graded(fusion, weights[None, :]).mean()), 12)
    best = found.mean(axis=0).max()
    context.log(f"by {fusion}: validation NDCG@{JUDGED_K} {ndcg:.4f}, the best of {len(grid)} tried {best:.4f}")
    return Blend(weights, fusion, ndcg, alone, n_users)


def proof_of(context: Context, fusions: Mapping[str, Fusion], fill: str) -> Judgement:
    """Return what a fill does to the blend's lists of the asked users who confirmed it at the gate.

    They did not screen it, and the blend was chosen without it. The rule is the gate's, its intervals those of as many
    finalists as it may have.
    """
    gate = context.config.gate
    users = relevant_of_run(context).join(F.broadcast(asked_users(context)), "user_idx", "left_semi")
    users = users.where(part("gate", context.seed, SCREENING_PARTS) != 0)
    lists = member_lists(context, users, "choose", tuple(fusions))
    rows = with_segments(lists, context.lake.read("user_segments"))
    systems = fused_systems({name: fusions[name] for name in (NONE, fill)}, TAIL, gate.k)
    totals = added_up(system_sums(rows, systems, gate.k, gate.bootstrap_samples, context.seed))
    before, after = totals[NONE, "sparse"], totals[fill, "sparse"]
    proof = Judgement(
        fill,
        level="confirm",
        segments=segment_lifts(totals, NONE, fill, bonferroni(gate.confidence, gate.finalists)),
        coverage_ratio=after.n_listed / max(1, before.n_listed),
    )
    broken = refusal(proof, gate)
    told = f"sparse users {words(proof.sparse)}" if proof.sparse else "no sparse users"
    context.log(f"fill '{fill}' in the blend: {told}: {f'not published, {broken}' if broken else 'published'}")
    return proof


def choose_trees(
    context: Context, judged: DataFrame, blend: Blend, popularity: Shipped
) -> tuple[Blend, list[tuple[object, ...]]]:
    """Return the blend with trees where they are provably better on validation users that they did not learn from."""
    settings = context.config.recommend
    if settings.reranker == "none" or not blend.n_users:
        return blend, []
    rows = judged.where("trees")
    counts = rows.agg(F.count("*").alias("users"), F.count_if("is_sparse").alias("sparse")).first()
    fusion = fusion_of(context, blend, NONE, "choose", popularity)
    examples = rerank_examples(rows, fusion)
    n_hits = len(examples.fold)
    if counts is None or np.bincount(examples.fold, minlength=rerank.FOLDS).min() < settings.rerank_min_hits:
        context.log(
            f"not reordered by trees, for only {n_hits} validation users have a held-out item "
            f"among their {settings.rerank_depth} first (recommend.rerank_min_hits {settings.rerank_min_hits} a fold)"
        )
        return blend, []
    seed = stable_seed(context.seed, "rerank") % 2**31
    models, changes = rerank.cross_fit(examples, settings.rerank_trees, seed, JUDGED_K)
    found = rerank.verdict(changes, examples.is_sparse, counts["users"], counts["sparse"], 0.95)
    context.log(
        f"trees change NDCG@{JUDGED_K} by {found.change:+.4f} (at least {found.low:+.4f}), "
        f"of sparse users by {found.sparse_change:+.4f}: {'taken' if found.accepted else 'not taken'}"
    )
    final = rerank.train(examples, settings.rerank_trees, seed) if found.accepted else ""
    gains = rerank.gains(final, MEMBER_NAMES) if found.accepted else {}
    row = (NONE, counts["users"], n_hits, found.change, found.low, found.sparse_change, found.accepted)
    choices: list[tuple[object, ...]] = [(*row, json.dumps(gains), final)]
    if not found.accepted:
        return blend, choices
    return replace(blend, ndcg=round(blend.ndcg + found.change, 12), trees=(*models, final)), choices


def weight_rows(context: Context, blend: Blend, fills: Sequence[str], published: str) -> DataFrame:
    """Return the rows of blend_weights: each member's weight, with what it and the blend reach on validation."""
    reached = [(blend.ndcg, alone) for alone in blend.member_ndcg]
    return context.lake.frame(
        "blend_weights",
        [
            (fill, member, float(weight), blend.fusion, *(judged if fill == NONE else (None, None)), fill == published)
            for fill in fills
            for member, weight, judged in zip(MEMBER_NAMES, blend.weights, reached, strict=True)
        ],
    )
