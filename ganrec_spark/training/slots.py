"""Whether Spark has a slot for every worker at once."""

import time

from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.errors import TrainingError

_POLL_SECONDS = 0.5


def require_slots(spark: SparkSession, config: Distributed) -> None:
    """Wait for executors on a cluster; a local master has all the slots it will ever have.

    Raises TrainingError where there are fewer than workers, or where Spark may not start all tasks of a stage at once.
    """
    context = spark.sparkContext
    local = str(context.master).startswith("local") and not str(context.master).startswith("local-cluster")
    dynamic = context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true"
    if dynamic and config.launcher == "torchrun":
        raise TrainingError(
            "distributed.launcher: torchrun starts workers in a barrier stage, which Spark refuses under dynamic "
            "allocation, found spark.dynamicAllocation.enabled=true; set it to false (spark.profiles.training), or "
            "distributed.launcher to horovod"
        )
    deadline = time.monotonic() + (0 if local or dynamic else config.start_timeout_seconds)
    while (slots := _slots(spark)) < config.workers:
        if time.monotonic() >= deadline:
            if dynamic:
                return  # executors come with the tasks; Horovod's own start time-out guards the wait
            raise TrainingError(
                f"distributed.workers: {config.workers} workers need as many task slots at once, Spark has {slots} "
                f"(master {context.master}); lower distributed.workers to {max(slots, 1)}, or give Spark more cores "
                f"(spark.master=local[{config.workers}], or more executors)"
            )
        time.sleep(_POLL_SECONDS)


def _slots(spark: SparkSession) -> int:
    java_context = spark.sparkContext._jsc.sc()
    profile = java_context.resourceProfileManager().defaultResourceProfile()
    return int(java_context.maxNumConcurrentTasks(profile))
