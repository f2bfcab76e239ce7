"""What the gate has to know of earlier runs: which fills people were worse off with."""

from pyspark.sql import functions as F

from ganrec_spark.lake.publication import earlier_runs, run_ids
from ganrec_spark.learning.decision import FillFeedback, refused_fills
from ganrec_spark.learning.moments import Estimate
from ganrec_spark.run.context import Context

# Of table arm_differences: rows of a fill, its name behind it; the segment that a fill serves, and what counts there.
OF_FILL, SERVED, DECIDES = "fill:", "sparse", "rate"


def refused_by_feedback(context: Context) -> dict[str, str]:
    """Return fill -> reason of the fills that this run's gate may not accept (learning.decision.refused_fills)."""
    cooldown = context.config.gate.cooldown_runs
    rows = earlier_runs(context.lake.read_runs("arm_differences"), context.run_id)
    harmful = rows.where(F.col("lists").startswith(OF_FILL) & F.col("significant") & (F.col("value") < 0))
    found = harmful.where((F.col("segment") == SERVED) & (F.col("metric") == DECIDES)).collect()
    if not found or not cooldown:
        return {}
    gates = run_ids(earlier_runs(context.lake.read_runs("gate_decisions"), context.run_id))
    learnt = [
        FillFeedback(row.run_id, row.lists.removeprefix(OF_FILL), Estimate(row.value, row.ci_low, row.ci_high))
        for row in found
    ]
    return refused_fills(learnt, gates, cooldown)
