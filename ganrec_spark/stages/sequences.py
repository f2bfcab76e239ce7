"""Write each user's observed ratings of the phase as a sequence in time, in equal row groups for training's workers."""

from ganrec_spark.frames.observed import observed_ratings
from ganrec_spark.frames.padded import padded_histories, with_row_groups
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write user_sequences of the phase: of train, in phase final with validation; generated rows never enter."""
    config, length = context.config, context.config.transformer.max_length
    observed = observed_ratings(context)
    users, n_users, groups = with_row_groups(
        observed.select("user_idx").distinct(), config.parquet, config.distributed.workers, length, context.seed
    )
    histories = padded_histories(observed, length, context.seed).select("user_idx", "length", "items")
    context.lake.write("user_sequences", histories.join(users, "user_idx"))
    return f"{n_users} sequences in {groups} row groups"
