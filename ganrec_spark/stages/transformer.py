"""Train SASRecs of several seeds on the users' sequences; rank the whole catalogue for users by their mean."""

from ganrec_spark.frames.observed import observed_ratings
from ganrec_spark.recommenders.transformer.candidates import candidates
from ganrec_spark.recommenders.transformer.fit import checkpoint_dir_of, n_workers, train, write_training
from ganrec_spark.recommenders.transformer.item_starts import better_start
from ganrec_spark.recommenders.transformer.plans import make_plans
from ganrec_spark.recommenders.transformer.training import SasRecPlan, TrainedSasRec
from ganrec_spark.recommenders.transformer.warm_start import lost, published_plans
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import delete_checkpoints


def run(context: Context) -> str:
    """Write transformer_checkpoints, transformer_history and transformer_candidates of the phase.

    Phase choose stops early on validation NDCG@10; phase final trains as many epochs on the longer sequences or, where
    these are hardly longer, goes on from phase choose. Models that were given up in phase choose rank nothing. Both go
    on from the published run's weights where warm_start.when says so and validation does not object.
    """
    sequences, ratings = context.lake.read("user_sequences"), observed_ratings(context)
    plans = make_plans(context, sequences, ratings)
    warm, why = published_plans(context, plans) if plans and context.phase == "choose" else ([], "")
    trained = train(context, warm or plans) if plans else []
    if warm and (why := lost(warm, trained)):
        warm, trained = [], train(context, plans)
    plans = warm or plans
    write_training(context, plans, trained)
    if context.phase == "choose":
        plans, trained = _of_better_start(plans, trained)
    states = [model.state for model in trained if not model.given_up]
    if states:
        ranked = candidates(context, plans[0], states, sequences, ratings)
    else:
        ranked = context.lake.frame("transformer_candidates", [])
    n_lists = context.lake.write("transformer_candidates", ranked)
    delete_checkpoints(checkpoint_dir_of(context))
    if not trained:
        return f"no candidates; not trained: {_why_not(context)}"
    told = f"{'; '.join(map(_told, plans, trained))} on {n_workers(context)} workers"
    return f"lists for {n_lists} users; {told}{f'; trained anew: {why}' if why else ''}"


def _of_better_start(
    plans: list[SasRecPlan], trained: list[TrainedSasRec]
) -> tuple[list[SasRecPlan], list[TrainedSasRec]]:
    models = {plan.name: model for plan, model in zip(plans, trained, strict=True)}
    reached = {name: max(own.validated(), default=0.0) for name, own in models.items() if not own.given_up}
    better = better_start(plans, reached)
    return better, [models[plan.name] for plan in better]


def _why_not(context: Context) -> str:
    known = context.phase == "final" and context.lake.read("transformer_history", phase="choose").limit(1).count()
    return "phase choose gave up" if known else "no user has two items in sequence"


def _told(plan: SasRecPlan, model: TrainedSasRec) -> str:
    ndcg = max((value for _, name, value in model.history if name == "validation_ndcg"), default=None)
    judged = "" if ndcg is None else f", validation NDCG@10 {ndcg:.4f}"
    source = f"run {plan.base_run_id}" if plan.base_run_id else "phase choose"
    start = f"went on from {source}, " if plan.start else ""
    start += f"item start {plan.item_start:g}, " if plan.item_start else ""
    settled = f"{start}adversary radius {plan.adversary_radius:g}, {model.epoch} epochs kept{judged} ({model.stopped})"
    return f"{settled}, {model.seconds_per_epoch:.1f} s an epoch"
