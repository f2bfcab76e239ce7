"""Train the generators of implicit feedback, all in one launch of the workers."""

from typing import Any, cast

from ganrec_spark.fills.training import card_of, described, make_plans, train_generators
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import checkpoint_rows, delete_checkpoints
from ganrec_spark.training.launcher import train_distributed


def run(context: Context) -> str:
    """Write generator_checkpoints and generator_history; return which generators were trained, and how they fared."""
    checkpoint_dir = f"{context.work_dir}/checkpoints"
    found = trained(context, checkpoint_dir)
    chunks = [
        (card["generator"], card["version"], *row)
        for card, result in found
        for row in checkpoint_rows(card, result["state"])
    ]
    history = [(result["kind"], *row) for _, result in found for row in result["history"]]
    context.lake.write("generator_checkpoints", context.lake.frame("generator_checkpoints", chunks))
    context.lake.write("generator_history", context.lake.frame("generator_history", history))
    delete_checkpoints(checkpoint_dir)
    return "; ".join(described(context, card) for card, _ in found)


def trained(context: Context, checkpoint_dir: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each generator's card and what fills.training.train_generators says of it.

    A training that was stopped goes on from what it left in `checkpoint_dir`.
    """
    plans = make_plans(context, context.lake.read("user_rows"), context.lake.read("train_ratings"))
    results = train_distributed(
        context.spark,
        train_generators,
        context.config.distributed,
        n_models=len(plans),
        plans=plans,
        urls=context.lake.data_files("user_rows"),
        batch_size=context.config.generator.batch_size,
        checkpoint_dir=checkpoint_dir,
        tensorboard_dir=f"{context.work_dir}/tensorboard",
        reader=context.config.distributed.reader,
    )
    found = [(plan, cast(dict[str, Any], results[plan.kind])) for plan in plans]
    return [(card_of(context, plan, result), result) for plan, result in found]
