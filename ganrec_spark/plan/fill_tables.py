"""Tables of fills: the generators, what they generated, what the gate found, and what recommenders learn from."""

from ganrec_spark.plan.members import FILL_RULES, in_words
from ganrec_spark.plan.table import CHECKPOINT, HISTORY, RATING, Table, columns

_FILL = {"candidate": "fill"}

_SEGMENTS = """
    fill string: its name
    segment string: all, sparse, dense, bucket:6-10, ...
    n_users int: users of the segment
    lift double: relative change of their NDCG@k; 0.05 is 5 % better
    ci_low double: lower bound of its interval, paired bootstrap over users
    ci_high double: upper bound
"""

_GENERATED = f"""
    fill string: generator and strategy, such as cgan_top3
    user_idx int: dense index of the user
    item_idx int: dense index of an item that the user has not rated
    position int: rank of the item within the fill, from 1
    confidence double: generator's score mapped to (0, 1]; 1 is the user's surest item
    generator string: agn, vae, cgan, {in_words(sorted(FILL_RULES))}
    strategy string: top (best n) or sample (n drawn by Gumbel-top-k)
    generator_version string: version of the checkpoint, or of the rule
    seed bigint: seed of the user's draw
"""

FILL_TABLES: tuple[Table, ...] = (
    Table(
        "generator_checkpoints",
        "one chunk of a trained generator",
        ("generator", "part"),
        columns("generator string: agn, vae or cgan\n" + CHECKPOINT),
    ),
    Table("generator_history", "one training value", ("model", "epoch", "name"), columns(HISTORY)),
    Table(
        "generated_ratings",
        "one generated item for one sparse user in one fill; in phase choose of those users by whom fills are screened",
        ("fill", "user_idx", "item_idx"),
        columns(_GENERATED),
        phased=True,
        renamed=_FILL,
    ),
    Table(
        "finalist_ratings",
        "one generated item for one sparse user, any of them, in one fill that the gate confirms",
        ("fill", "user_idx", "item_idx"),
        columns(_GENERATED),
    ),
    Table(
        "gate_decisions",
        "one fill and what the gate found",
        ("fill",),
        columns("""
            fill string: fill that was judged; none is the pipeline without fill
            level string: screen (users folded in, item factors fixed) or confirm (model fitted again)
            sparse_ndcg_before double: NDCG@k of sparse validation users without fill
            sparse_ndcg_after double: the same with the fill
            sparse_lift double: relative change of sparse users' NDCG@k; 0.05 is 5 % better
            sparse_ci_low double: lower bound of sparse_lift's interval, paired bootstrap over users
            sparse_ci_high double: upper bound
            overall_lift double: relative change of all users' NDCG@k
            overall_ci_low double: lower bound of overall_lift's interval
            overall_ci_high double: upper bound
            coverage_ratio double: distinct recommended items with fill / without
            n_sparse_users int: sparse validation users who confirm; what is at level screen, others have judged
            n_users int: validation users who confirm
            accepted boolean: true for the one fill that the run uses
            verdict string: accepted or the rule that refused it
            reason string: the verdict in words, with the numbers
        """),
        renamed=_FILL,
    ),
    Table(
        "gate_segments",
        "one segment of the confirming validation users and what a confirmed fill does to their lists by ALS",
        ("fill", "segment"),
        columns(_SEGMENTS),
        renamed=_FILL,
    ),
    Table(
        "published_fill_segments",
        "one segment of the confirming validation users and what the accepted fill does to the blend's lists",
        ("fill", "segment"),
        columns(_SEGMENTS),
        renamed=_FILL,
    ),
    Table(
        "merged_ratings",
        "one observed or accepted generated rating that recommenders learn from",
        ("user_idx", "item_idx"),
        columns(
            RATING
            + """observed boolean: true for what a user rated, false for what a fill generated; for ever
            fill string: none for observed rows, else the fill that the row is of"""
        ),
        phased=True,
        sorted_by=("user_idx",),
    ),
)
