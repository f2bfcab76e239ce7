"""The pipeline as plain data: the stages in the order they run, what each reads and writes.

Start here, then read tables.py. Imports nothing heavy, so Airflow can parse it in milliseconds.

Two phases run the same code (docs/adr/0002-two-phases.md): in `choose` models see train_ratings and are judged
on validation_ratings; in `final` they are fitted again on train + validation with what was chosen, or go on
(docs/adr/0024-phase-final-goes-on.md).
"""

from ganrec_spark.plan.members import MAY_FILL, MEMBER_NAMES, RECOMMENDERS, list_tables
from ganrec_spark.plan.phased import after_fills_stages, before_fills_stages
from ganrec_spark.plan.stage import Stage

STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest",
        "ingest",
        "Validate the raw ratings, quarantine bad rows with a reason, give every id its dense index.",
        ("feedback_events",),
        ("ratings", "disliked_ratings", "rejected_ratings", "pseudonyms", "users", "items", "known_events"),
        ("ingest", "feedback"),
    ),
    Stage(
        "split",
        "split",
        "Hold out each user's validation and test ratings by the configured protocol.",
        ("ratings", "disliked_ratings"),
        ("train_ratings", "validation_ratings", "test_ratings", "known_dislikes"),
        ("split",),
    ),
    Stage(
        "sparsity",
        "sparsity",
        "Count how sparse each user and the matrix are, and decide whether filling is called for.",
        ("train_ratings",),
        ("user_sparsity", "user_segments", "matrix_profile"),
        ("sparsity",),
    ),
    Stage(
        "als_setting",
        "als_setting",
        "Choose ALS's setting on validation users, without fill, for the gate and the recommender alike.",
        ("train_ratings", "validation_ratings", "known_dislikes", "next_run"),
        ("als_choices", "als_unfilled_factors"),
        ("als", "warm_start"),
        "choose",
        profile="scoring",
    ),
    *before_fills_stages("choose"),
    Stage(
        "user_rows",
        "user_rows",
        "Write each user's history as fixed-length lists in equal, shuffled row groups for Petastorm.",
        ("train_ratings", "user_sparsity"),
        ("user_rows",),
        ("parquet", "distributed"),
    ),
    Stage(
        "train_generator",
        "train_generator",
        "Train the generators of implicit feedback by Horovod on Spark.",
        ("user_rows", "train_ratings", "validation_ratings", "als_choices"),
        ("generator_checkpoints", "generator_history"),
        ("generator", "distributed", "als"),
        needs_sparse_users=True,
        profile="training",
    ),
    Stage(
        "augment_choose",
        "augment",
        "Apply every generator to the sparse users' histories: the fills to try, never a rated item.",
        (
            "train_ratings",
            "known_dislikes",
            "user_sparsity",
            "generator_checkpoints",
            "transformer_checkpoints",
            *list_tables(MAY_FILL),
        ),
        ("generated_ratings",),
        ("augment",),
        "choose",
        needs_sparse_users=True,
        profile="scoring",
    ),
    Stage(
        "gate",
        "gate",
        "Keep a fill only if it provably helps sparse users' lists by ALS on validation data and harms no one's.",
        (
            "generated_ratings",
            "train_ratings",
            "validation_ratings",
            "known_dislikes",
            "user_segments",
            "als_choices",
            "als_unfilled_factors",
            "arm_differences",  # of earlier runs: what people did with lists that a fill had a part in
        ),
        ("gate_decisions", "gate_segments", "als_filled_factors"),
        ("gate", "merge", "als"),
        needs_sparse_users=True,
        profile="scoring",
    ),
    *after_fills_stages("choose"),
    *before_fills_stages("final"),
    Stage(
        "augment_final",
        "augment",
        "Apply the accepted generator to the longer histories of train + validation.",
        (
            "train_ratings",
            "validation_ratings",
            "known_dislikes",
            "user_sparsity",
            "generator_checkpoints",
            "transformer_checkpoints",
            *list_tables(MAY_FILL),
            "gate_decisions",
        ),
        ("generated_ratings",),
        ("augment",),
        "final",
        needs_sparse_users=True,
        profile="scoring",
    ),
    *after_fills_stages("final"),
    Stage(
        "recommend",
        "recommend",
        "Choose the blend on validation, exclude what users saw, write n items or a reason code.",
        (
            *list_tables(MEMBER_NAMES),
            "item_item_weights",
            "merged_ratings",
            "validation_ratings",
            "user_segments",
            "ratings",  # who is a user of this run; what they rated is not looked at
            "disliked_ratings",
            "users",
            "items",
            "exposures",  # of earlier runs, and what came of them: items that were shown in vain
            "feedback_events",
        ),
        (
            "blend_weights",
            "rerank_choices",
            "published_fill_segments",
            "blend_candidates",
            "recommendations",
            "unserved_users",
            "list_rules",
            "rule_effects",
            "explored_places",
        ),
        ("recommend", "gate", "experiment", "explore", "rules"),
        profile="scoring",
    ),
    Stage(
        "evaluate",
        "evaluate",
        "Measure every recommender, with and without fill, per segment, with confidence intervals.",
        (
            "train_ratings",
            "validation_ratings",
            "test_ratings",
            "user_segments",
            "als_quality",
            "item_item_weights",
            *list_tables(RECOMMENDERS),
        ),
        ("metrics",),
        ("evaluate",),
    ),
    Stage(
        "publish",
        "publish",
        "Check this run's rows, then point the published views at it in one commit, or refuse.",
        (
            "recommendations",
            "unserved_users",
            "metrics",
            "gate_decisions",
            "users",
            "items",
            "ratings",
            "rejected_ratings",
            "list_rules",
            "rule_effects",
            "explored_places",
        ),
        (
            "publish_checks",
            "rule_checks",
            "exposures",
            "recommendations_editions",
            "unserved_users_editions",
            "metrics_editions",
            "gate_decisions_editions",
            "current_run",
        ),
        ("publish", "recommend", "experiment", "explore", "rules"),
    ),
    Stage(
        "report",
        "report",
        "Draw one static HTML page: what was published, how good it is, what was refused, and the figures.",
        (
            "ratings",
            "train_ratings",
            "user_sparsity",
            "matrix_profile",
            "rejected_ratings",
            "generator_history",
            "generator_checkpoints",
            "transformer_history",
            "gate_decisions",
            "published_fill_segments",
            "metrics",
            "blend_weights",
            "publish_checks",
            "recommendations",
            "unserved_users",
        ),
        (),
        ("report", "publish", "experiment"),
    ),
)

# What goes round beside the daily run, whenever there is feedback: it reads what all runs have left, and nothing of its
# own run has to be there. Stages of the pipeline may read what it left of earlier runs.
LOOP_STAGES: tuple[Stage, ...] = (
    Stage(
        "learn",
        "learn",
        "Measure what people did with their lists: arms, policies, drift; decide what to do next.",
        (
            "exposures",
            "feedback_events",
            "stage_log",  # when a run began to read what its models were trained on
            "ratings",
            "user_segments",
            "blend_weights",
            *list_tables(RECOMMENDERS),
        ),
        ("feedback_metrics", "arm_differences", "policy_estimates", "drift", "next_run"),
        ("learn", "experiment", "feedback", "sparsity"),
    ),
)

STAGE_BY_NAME = {stage.name: stage for stage in (*STAGES, *LOOP_STAGES)}
