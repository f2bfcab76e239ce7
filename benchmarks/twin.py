"""cgan's twin: the same network from the same start, by the same seeds and batches, without the critic.

What its lists and fills lack to cgan's is what the adversary adds. The pipeline has no use for it.
"""

from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.fills.generate import FillPlan, generate
from ganrec_spark.fills.sources import ship_sources
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.runner import stage_context
from ganrec_spark.stages import train_generator
from ganrec_spark.training.checkpoints import delete_checkpoints

OF, NAME = "cgan", "cgan_twin"
# By generator its card and state, as fills.sources.load_checkpoints returns them.
Checkpoints = dict[str, tuple[dict[str, Any], bytes]]


def trained(lake: Lake, config: Config, run_id: str) -> Checkpoints:
    """Train the twin on the run's rows; return it under cgan's name."""
    context = stage_context(lake, config, STAGE_BY_NAME["train_generator"], run_id)
    settings = context.config.generator.model_copy(update={"kinds": (OF,), "cgan_critic_weight": 0.0})
    changed = context.config.model_copy(update={"generator": settings})
    twin = replace(context, config=changed, work_dir=f"{context.work_dir}/{NAME}")
    checkpoint_dir = f"{twin.work_dir}/checkpoints"
    ((card, result),) = train_generator.trained(twin, checkpoint_dir)
    delete_checkpoints(checkpoint_dir)
    return {OF: (card, result["state"])}


def generated(
    lake: Lake,
    config: Config,
    twin: Checkpoints,
    observed: DataFrame,
    users: DataFrame,
    wanted: list[FillPlan],
    disliked: DataFrame | None = None,
) -> DataFrame:
    """Return rows of generated_ratings, by the twin as by cgan: the same noise, the same draws, its own name."""
    sources = ship_sources(lake.spark, observed, twin, {OF})
    temperature, seed = config.augment.temperature, config.run.seed
    rows = generate(lake.spark, observed, users, sources, wanted, temperature, seed, disliked=disliked)
    named = F.concat(F.lit(NAME), F.substring("fill", len(OF) + 1, 64))
    return rows.withColumns({"fill": named, "generator": F.lit(NAME)})
