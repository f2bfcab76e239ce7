"""Write each user's history as fixed-length lists in equal, shuffled row groups for training's workers."""

from pyspark.sql import functions as F

from ganrec_spark.frames.padded import padded_histories, with_row_groups
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write user_rows: one file with one Parquet row group per row_group."""
    config, length = context.config, context.config.parquet.length
    sparsity = context.lake.read("user_sparsity").select("user_idx", F.col("is_sparse").cast("int").alias("is_sparse"))
    users, n_users, groups = with_row_groups(sparsity, config.parquet, config.distributed.workers, length, context.seed)
    histories = padded_histories(context.lake.read("train_ratings"), length, context.seed)
    context.lake.write("user_rows", histories.join(users, "user_idx"))
    message = f"{n_users} users in {groups} row groups of lists of {length}"
    if groups < config.distributed.workers:
        message += f"; too few users for {config.distributed.workers} workers, lower distributed.workers"
    return message
