"""Let every generator and rule propose items for the sparse users, never a rated one: the fills to try."""

from ganrec_spark.fills.generate import generate
from ganrec_spark.fills.ratings import accepted_fill
from ganrec_spark.fills.sources import (
    listed_source,
    load_checkpoints,
    ship_sources,
    unfilled_lists,
    wanted_fills,
)
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.observed import observed_ratings
from ganrec_spark.plan.members import MAY_FILL
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write generated_ratings; in phase final only those of the fill that the gate accepted."""
    observed = observed_ratings(context)
    checkpoints = load_checkpoints(context.lake.read("generator_checkpoints"))
    wanted = wanted_fills(context.config.augment, list(checkpoints))
    if context.phase == "final":
        accepted = accepted_fill(context.lake.read("gate_decisions"))
        wanted = [plan for plan in wanted if plan.name == accepted]
        if not wanted:
            context.lake.write("generated_ratings", context.lake.frame("generated_ratings", []))
            return "the gate accepted no fill: nothing is generated"
    sources = ship_sources(context.spark, observed, checkpoints, {plan.generator for plan in wanted})
    listing = [member for member in MAY_FILL if any(plan.generator == member for plan in wanted)]
    sources |= {member: listed_source(context, member) for member in listing}
    sparse_users = context.lake.read("user_sparsity").where("is_sparse").select("user_idx")
    listed = {member: unfilled_lists(context, member) for member in listing}
    disliked = dislikes.of_phase(context.lake.read("known_dislikes"), observed, str(context.phase))
    temperature = context.config.augment.temperature
    generated = generate(
        context.spark, observed, sparse_users, sources, wanted, temperature, context.seed, listed, disliked
    )
    n_rows = context.lake.write("generated_ratings", generated)
    return f"{n_rows} generated ratings in {len(wanted)} fills: {', '.join(plan.name for plan in wanted)}"
