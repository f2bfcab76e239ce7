"""What a publication shows: one row for each listed item, with the arm that listed it and the chance that it did."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.errors import LakeError
from ganrec_spark.experiment.arms import arm_column
from ganrec_spark.plan.members import NEW_ITEM
from ganrec_spark.run.context import Context


def require_one_execution(context: Context) -> None:
    """Raise LakeError where a drawn place has another item than the list: recommend's tables are of two executions."""
    drawn, listed = context.lake.read("explored_places"), context.lake.read("recommendations")
    elsewhere = drawn.join(listed, ["user_idx", "rank", "item_idx"], "left_anti").count()
    if elsewhere:
        raise LakeError(
            f"table 'explored_places', run '{context.run_id}': expected items of recommendations, found {elsewhere} "
            "places with others; run stage recommend again"
        )


def exposure_rows(context: Context) -> DataFrame:
    """Return (user_idx, rank, item_idx, arm, propensity, place) of what stage recommend listed."""
    listed, drawn = context.lake.read("recommendations"), context.lake.read("explored_places")
    rows = listed.join(drawn.drop("item_idx"), ["user_idx", "rank"], "left")
    arm = arm_column(F.col("user_id"), context.config.experiment)
    propensity = F.coalesce("propensity", F.lit(1.0)).alias("propensity")
    kind = F.when(F.col("reason") == NEW_ITEM, NEW_ITEM).when(F.col("propensity").isNotNull(), "drawn")
    place = F.coalesce(kind, F.lit("ranked")).alias("place")
    return rows.select("user_idx", "rank", "item_idx", arm.alias("arm"), propensity, place)
