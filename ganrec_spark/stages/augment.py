"""Let every generator and rule propose items for sparse users, never a rated one: the fills to try."""

from ganrec_spark.fills.gate import first_to_screen
from ganrec_spark.fills.made import made_fills, planned_fills
from ganrec_spark.fills.ratings import accepted_fill
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write generated_ratings: in phase choose all fills, for those users alone whom the gate screens them by.

    In phase final those of the fill that the gate accepted, for all sparse users.
    """
    plans = planned_fills(context)
    sparse_users = context.lake.read("user_sparsity").where("is_sparse").select("user_idx")
    if context.phase == "choose":
        held_out = context.lake.read("validation_ratings").select("user_idx").distinct()
        able = held_out.join(sparse_users, "user_idx", "left_semi")
        users = first_to_screen(able, context.config.gate.screen_users, context.seed)
    else:
        accepted, users = accepted_fill(context.lake.read("gate_decisions")), sparse_users
        plans = [plan for plan in plans if plan.name == accepted]
        if not plans:
            context.lake.write("generated_ratings", context.lake.frame("generated_ratings", []))
            return "the gate accepted no fill: nothing is generated"
    n_rows = context.lake.write("generated_ratings", made_fills(context, plans, users, str(context.phase)))
    return f"{n_rows} generated ratings in {len(plans)} fills: {', '.join(plan.name for plan in plans)}"
