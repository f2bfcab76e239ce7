"""Whose lists phase choose makes: those who judge what is made of them, and those whose lists may be fills."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.evaluation.draws import drawn
from ganrec_spark.run.context import Context


def asked_users(context: Context) -> DataFrame:
    """Return (user_idx) of the users who judge lists of phase choose, one row each.

    Of those with validation ratings the draws for the blend's weights and for its trees: all of them, where
    recommend.weight_users or recommend.rerank_users is as many, else at most as many as both together. Nobody reads
    the lists of others.
    """
    settings = context.config.recommend
    held_out = context.lake.read("validation_ratings").select("user_idx").distinct()
    weights = drawn(held_out, "weights", context.seed, settings.weight_users)
    trees = drawn(held_out, "trees", context.seed, settings.rerank_users)
    return weights.union(trees).distinct()


def of_listed(context: Context, rows: DataFrame, may_fill: bool = False) -> DataFrame:
    """Return the rows (user_idx, ...) of the users whom a recommender makes lists for in this phase: in final all.

    In phase choose those of `asked_users` and, if its lists may be fills (`may_fill`), sparse users where filling is
    called for.
    """
    if context.phase != "choose":
        return rows
    listed = asked_users(context)
    profile = context.lake.read("matrix_profile").first() if may_fill else None
    if profile is not None and profile.fill_wanted:
        sparse = context.lake.read("user_sparsity").where("is_sparse").select("user_idx")
        return rows.join(listed.union(sparse).distinct(), "user_idx", "left_semi")
    return rows.join(F.broadcast(listed), "user_idx", "left_semi")
