"""Items that a user was shown often enough without a click: they make room for others."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.feedback.rules import IMPRESSION
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.run.context import Context

NO_ANSWER = (IMPRESSION, "dislike", "hide")  # any other kind of event, whatever it is called, is one


def shown_in_vain(exposures: DataFrame, feedback: DataFrame, times: int) -> DataFrame:
    """Return (user_idx, item_idx): the pairs that were shown `times` times or more, and never clicked.

    In: exposures (run_id, user_idx, item_idx) of what was published, and feedback (user_idx, item_idx, kind). An item
    was shown once in every run that listed it to the user; of users whose clients tell of impressions, once for each of
    these. An event of another kind than NO_ANSWER counts whenever it came.
    """
    pairs = ("user_idx", "item_idx")
    seen = feedback.where(F.col("kind") == IMPRESSION)
    told = seen.groupBy(*pairs).agg(F.count("*").alias("times"))
    silent = exposures.join(seen.select("user_idx").distinct(), "user_idx", "left_anti")
    listed = silent.groupBy(*pairs).agg(F.count_distinct("run_id").alias("times"))
    answered = feedback.where(~F.col("kind").isin(*NO_ANSWER)).select(*pairs).distinct()
    often = told.unionByName(listed).where(F.col("times") >= times).select(*pairs)
    return often.join(answered, [*pairs], "left_anti")


def tired_pairs(context: Context, times: int) -> DataFrame:
    """Return what was shown in vain until this run: by earlier runs' published editions, and the feedback so far."""
    earlier = [
        (one.run_id, part)
        for one in context.lake.lake.publications()
        for part in one.parts
        if RunId.parse(one.run_id) < RunId.parse(context.run_id)
    ]
    shown = context.spark.createDataFrame(list(dict.fromkeys(earlier)), "run_id string, edition string")
    exposures = context.lake.read_runs("exposures").join(F.broadcast(shown), ["run_id", "edition"], "left_semi")
    feedback = context.lake.read_log("feedback_events").where(F.col("ts") < F.lit(context.as_of))
    return shown_in_vain(exposures, feedback, times)
