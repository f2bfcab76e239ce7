"""Make fills from what stages have left in the lake: checkpoints of generators, members' lists, observed ratings."""

from pyspark.sql import DataFrame

from ganrec_spark.fills.generate import FillPlan, generate
from ganrec_spark.fills.sources import listed_source, load_checkpoints, ship_sources, unfilled_lists, wanted_fills
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.observed import observed_ratings
from ganrec_spark.plan.members import MAY_FILL
from ganrec_spark.run.context import Context


def planned_fills(context: Context) -> list[FillPlan]:
    """Return the fills that the configuration wants, by the generators that are trained and the rules."""
    rows = context.lake.read("generator_checkpoints").select("generator").distinct().orderBy("generator").collect()
    return wanted_fills(context.config.augment, [row.generator for row in rows])


def made_fills(context: Context, plans: list[FillPlan], users: DataFrame, phase: str) -> DataFrame:
    """Return the rows of these fills for `users` (user_idx), as table generated_ratings has them, in a phase."""
    observed, kinds = observed_ratings(context, phase), {plan.generator for plan in plans}
    checkpoints = load_checkpoints(context.lake.read("generator_checkpoints"))
    sources = ship_sources(context.spark, observed, checkpoints, kinds)
    listing = [member for member in MAY_FILL if member in kinds]
    sources |= {member: listed_source(context, member, phase) for member in listing}
    listed = {member: unfilled_lists(context, member, phase) for member in listing}
    disliked = dislikes.of_phase(context.lake.read("known_dislikes"), observed, phase)
    temperature = context.config.augment.temperature
    return generate(context.spark, observed, users, sources, plans, temperature, context.seed, listed, disliked)
