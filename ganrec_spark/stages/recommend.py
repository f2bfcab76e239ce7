"""Choose the blend on validation, blend the members' lists, and give every user n items or a code."""

from ganrec_spark.blend.choosing import choose_trees, choose_weights, proof_of, weight_rows
from ganrec_spark.blend.fusion import fuse_lists
from ganrec_spark.blend.member_lists import (
    accepted_fills,
    fusion_of,
    judged_rows,
    member_lists,
    shipped_popularity,
    users_of_run,
)
from ganrec_spark.blend.published import (
    effect_rows,
    explored_rows,
    listable,
    recommendation_rows,
    served_candidates,
    served_lists,
    unserved_rows,
)
from ganrec_spark.blend.varied import choose_variety
from ganrec_spark.evaluation.asked import asked_users
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.fills.rules import refusal, segment_rows
from ganrec_spark.plan.members import MEMBER_NAMES, TAIL
from ganrec_spark.plan.table import NONE
from ganrec_spark.rules.reading import rule_rows
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write blend_weights, rerank_choices, published_fill_segments, blend_candidates of both phases, recommendations.

    And variety_choices, unserved_users, list_rules, rule_effects, explored_places.
    The blend is chosen on the lists without fill; an accepted fill changes what it reads of sparse users, and is
    published where that is proven to help them.
    """
    settings = context.config.recommend
    popularity = {phase: shipped_popularity(context, phase) for phase in ("choose", "final")}
    fills = (NONE, *accepted_fills(context))
    judged = judged_rows(context).cache()
    blend, choices = choose_trees(context, judged, choose_weights(context, judged), popularity["choose"])
    blend, varieties = choose_variety(context, judged, blend, popularity["choose"])
    judged.unpersist()
    fusions = {
        phase: {fill: fusion_of(context, blend, fill, phase, popularity[phase]) for fill in fills}
        for phase in ("choose", "final")
    }
    proofs = [proof_of(context, fusions["choose"], fill) for fill in fills[1:]]
    broken = {proof.fill: refusal(proof, context.config.gate) for proof in proofs}
    published = next((fill for fill, rule in broken.items() if not rule), NONE)
    rows = context.lake.frame("published_fill_segments", segment_rows(proofs))
    context.lake.write("published_fill_segments", rows)
    context.lake.write("blend_weights", weight_rows(context, blend, fills, published))
    context.lake.write("rerank_choices", context.lake.frame("rerank_choices", choices))
    context.lake.write("variety_choices", context.lake.frame("variety_choices", varieties))
    joined = member_lists(context, asked_users(context), "choose", fills)
    fused_lists = fuse_lists(joined, fusions["choose"], TAIL, settings.n_candidates)
    context.lake.write("blend_candidates", fused_lists, "choose")
    context.lake.write("list_rules", rule_rows(context))
    # Cached: five tables are cut from it.
    served = served_lists(context, fusions["final"], published, users_of_run(context), listable(context)).cache()
    context.lake.write("blend_candidates", served_candidates(served, fills), "final")
    n_rows = context.lake.write("recommendations", recommendation_rows(context, served))
    n_unserved = context.lake.write("unserved_users", unserved_rows(context, served))
    context.lake.write("explored_places", explored_rows(served))
    context.lake.write("rule_effects", effect_rows(context, served))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(MEMBER_NAMES, blend.weights, strict=True))
    reordered = ", reordered by trees" if blend.trees else ""
    reordered += f", {settings.variety} by {settings.variety_by}" if blend.variety else ""
    reached = f"NDCG@{JUDGED_K} {blend.ndcg:.4f} on {blend.n_users} validation users"
    how = reached if blend.n_users else "equal weights, for there are no validation users"
    blended = f"blend of fill '{published}' by {blend.fusion}: {weights}{reordered} ({how})"
    stays_out = "".join(f"; fill '{fill}' stays out: {rule}" for fill, rule in broken.items() if rule)
    return f"{n_rows} recommendations, {n_unserved} users with a code; {blended}{stays_out}"
