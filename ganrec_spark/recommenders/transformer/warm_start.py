"""Go on from the published run's weights, where its networks are those that this run would train."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.training import SasRecPlan, TrainedSasRec
from ganrec_spark.run.context import Context
from ganrec_spark.run.warm_start import LEAST_SHARE, cannot_judge, own_base, told_apart
from ganrec_spark.training.checkpoints import stored_checkpoints

# Of phase choose, where validation keeps the best one. Phase final has more to learn, for the ratings that it alone
# knows are those nearest to what people do next, but no more than the network had that it goes on from (ADR 45).
WARM_EPOCHS, WARM_FINAL_EPOCHS = 3, 10
_Stored = dict[str, tuple[dict[str, Any], bytes]]


def published_plans(context: Context, plans: list[SasRecPlan]) -> tuple[list[SasRecPlan], str]:
    """Return the plans of phase choose, made to go on from the published run's, or none and why in words.

    Validation judges every epoch of the few that they train. Empty words: nobody asked.
    """
    base = own_base(context)
    if base.run_id is None:
        return [], base.why
    stored = _stored(context, base.run_id, "choose")
    why = next(filter(None, (_other(plan, stored) for plan in plans)), "")
    why = f"run {base.run_id}{why}" if why else cannot_judge(context, base.run_id)
    if why or plans[0].judges is None:
        return [], why or "no user can judge"
    return [
        replace(
            plan,
            start=stored[plan.name][1],
            epochs=min(plan.epochs, WARM_EPOCHS),
            validate_every=1,
            base_run_id=base.run_id,
            reference=float(stored[plan.name][0]["reference"]),
        )
        for plan in plans
    ], ""


def lost(plans: list[SasRecPlan], trained: list[TrainedSasRec]) -> str:
    """Return in words how far the networks that went on fell behind those that they come from; empty: not too far."""
    now = float(np.mean([max(model.validated(), default=0.0) for model in trained]))
    then = float(np.mean([plan.reference for plan in plans]))
    if not all(model.given_up for model in trained) and now >= LEAST_SHARE * then:
        return ""
    return (
        f"going on from run {plans[0].base_run_id} reached validation NDCG@10 {now:.4f}, less than {LEAST_SHARE:.0%} "
        f"of the {then:.4f} when last trained anew"
    )


def published_states(context: Context, shape: Shape) -> tuple[str | None, dict[str, tuple[bytes, int]]]:
    """Return the run that phase choose of this one went on from, or None, and what of it phase final goes on from.

    By model: its state dict of phase final, and for how many epochs. Those of the shape, but for n_items; none of a run
    that this stage may not go on from now.
    """
    allowed = own_base(context).run_id
    cards = context.lake.read("transformer_checkpoints", phase="choose").where("part = 0").select("card").collect()
    bases = {json.loads(row.card).get("base_run_id") for row in cards} - {None}
    if not bases:
        return None, {}
    (base,) = bases
    stored = _stored(context, base, "final") if base == allowed else {}
    expected = shape.as_dict() | {"n_items": 0}
    return base, {
        name: (state, min(int(card["epoch"]), WARM_FINAL_EPOCHS))
        for name, (card, state) in stored.items()
        if card["shape"] | {"n_items": 0} == expected
    }


def _stored(context: Context, run_id: str, phase: str) -> _Stored:
    chunks: DataFrame = context.lake.read_runs("transformer_checkpoints")
    chunks = chunks.where((F.col("run_id") == run_id) & (F.col("phase") == phase)).orderBy("version", "part")
    return {card["model"]: (card, state) for card, state in stored_checkpoints(chunks.toLocalIterator())}


def _other(plan: SasRecPlan, stored: _Stored) -> str:
    if plan.name not in stored:
        return f" has no network {plan.name}"
    card = stored[plan.name][0]
    if "reference" not in card:
        return " was made by an earlier version"
    if card["reference"] < plan.floor:
        return f"'s network {plan.name} is below popularity"
    told = told_apart(_described(card), plan.shape.as_dict() | {"adversary_radius": plan.adversary_radius})
    return f"'s network has other settings ({told})" if told else ""


def _described(card: dict[str, Any]) -> dict[str, Any]:
    """Return what must not differ: all of the shape but the number of items, which the start sees to, and the loss."""
    shape = {key: value for key, value in card["shape"].items() if key != "n_items"}
    return shape | {"adversary_radius": card["adversary_radius"]}
