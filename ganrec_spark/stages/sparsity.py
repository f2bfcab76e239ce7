"""Count how sparse each user and the matrix are, and decide whether filling is called for."""

from pyspark.sql import functions as F

from ganrec_spark.evaluation.groups import with_groups
from ganrec_spark.evaluation.segments import user_segments
from ganrec_spark.evaluation.sparsity import decide, rated_items, user_sparsity
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write user_sparsity, user_segments and the one row of matrix_profile.

    Raises InputError where sparsity.group_by names a column that users do not have.
    """
    train, sparsity = context.lake.read("train_ratings"), context.config.sparsity
    items = rated_items(train)
    n_users = context.lake.write("user_sparsity", user_sparsity(train, sparsity, items.n_items))
    segments = user_segments(context.lake.read("user_sparsity"))
    if sparsity.group_by:
        segments = with_groups(segments, context.lake.read("user_attributes"), sparsity.group_by)
    context.lake.write("user_segments", segments)
    totals = context.lake.read("user_sparsity").agg(F.sum("n_ratings"), F.sum(F.col("is_sparse").cast("int"))).first()
    n_ratings, n_sparse = (int(total or 0) for total in totals) if totals else (0, 0)
    wanted, reason = decide(n_users, n_sparse, items.n_items, sparsity)
    density = n_ratings / (n_users * items.n_items) if n_ratings else 0.0
    profile = (n_users, items.n_items, n_ratings, density, items.gini, n_sparse, wanted, reason)
    context.lake.write("matrix_profile", context.lake.frame("matrix_profile", [profile]))
    return f"{n_users} users x {items.n_items} items, density {density:.3%}, item Gini {items.gini:.2f}; {reason}"
