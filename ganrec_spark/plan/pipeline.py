"""The pipeline as plain data: the stages in the order they run, what each reads and writes.

Start here, then read tables.py. Imports nothing heavy, so Airflow can parse it in milliseconds.

Two phases run the same code (docs/adr/0002-two-phases.md): in `choose` models see train_ratings and are judged
on validation_ratings; in `final` they are fitted again on train + validation with what was chosen, or go on
(docs/adr/0024-phase-final-goes-on.md).
"""

from dataclasses import dataclass

from ganrec_spark.plan.members import MAY_FILL, MEMBER_NAMES, MEMBERS, RECOMMENDERS, Member, list_tables

PHASES = ("choose", "final")


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline, run by `ganrec_spark.stages.<module>.run`.

    `config` names the configuration sections that may change the stage's result; the stage sees no others.
    `needs_sparse_users` stages are skipped (and say so) where matrix_profile calls for no filling.
    `profile` tells a cluster what the stage needs: sql, training or scoring.
    """

    name: str
    module: str
    doc: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    config: tuple[str, ...]
    phase: str | None = None
    needs_sparse_users: bool = False
    profile: str = "sql"


def _held_in(phase: str) -> tuple[str, ...]:
    return ("train_ratings",) if phase == "choose" else ("train_ratings", "validation_ratings")


def plain_stages(phase: str, before_fills: bool) -> tuple[Stage, ...]:
    """Return the stages of one phase of the members that keep no tables but their lists, and what they chose.

    Module stages.<name> reads the phase's ratings and, to choose, those held out or what phase choose chose. A member
    that may fill knows observed ratings alone, for it comes before the fills, and so before merge.
    """
    declared = [member for member in MEMBERS if member.doc and member.may_fill == before_fills]
    return tuple(_plain_stage(member, member.doc or "", phase) for member in declared)


def _plain_stage(member: Member, doc: str, phase: str) -> Stage:
    ratings = _held_in(phase) if member.may_fill else ("merged_ratings",)
    choices = (f"{member.name}_choices",) if member.chooses else ()
    chosen_by = ("validation_ratings",) if choices and phase == "choose" else choices
    sections = ("recommend",) if member.section is None else (member.section, "recommend")
    return Stage(
        f"{member.name}_{phase}",
        member.name,
        doc,
        (*ratings, "known_dislikes", *chosen_by),
        (*choices, *list_tables([member.name])),
        sections,
        phase,
        profile="scoring",
    )


def _before_fills(phase: str) -> tuple[Stage, ...]:
    """Return the stages of one phase that come before augment, for what they rank first may be a fill for the others.

    The Transformer's, and those of plain members that may fill.
    """
    return (
        Stage(
            f"sequences_{phase}",
            "sequences",
            "Order each user's observed items in time, in equal row groups for Petastorm.",
            _held_in(phase),
            ("user_sequences",),
            ("partition", "transformer", "distributed"),
            phase,
        ),
        Stage(
            f"transformer_{phase}",
            "transformer",
            "Train SASRec through Horovod and Petastorm and rank the whole catalogue for every user.",
            (
                "user_sequences",
                "known_dislikes",
                "train_ratings",
                "validation_ratings",  # choose: who judges; final: history
                *(() if phase == "choose" else ("transformer_history", "transformer_checkpoints")),
            ),
            ("transformer_checkpoints", "transformer_history", "transformer_candidates"),
            ("transformer", "recommend", "distributed"),
            phase,
            profile="training",
        ),
        *plain_stages(phase, before_fills=True),
    )


def _phased(phase: str) -> tuple[Stage, ...]:
    """Return merge and the other recommenders of one phase; the data behind them differs, the code does not."""
    return (
        Stage(
            f"merge_{phase}",
            "merge",
            "Join observed ratings with the accepted fill.",
            (*_held_in(phase), "gate_decisions", "generated_ratings"),
            ("merged_ratings",),
            ("merge",),
            phase,
        ),
        Stage(
            f"popularity_{phase}",
            "popularity",
            "Rank items by their observed users, of all time (the baseline) and lately (for users without history).",
            ("merged_ratings", "known_dislikes", "validation_ratings" if phase == "choose" else "trending_choices"),
            ("popularity_candidates", "trending_choices", "trending_candidates"),
            ("trending", "recommend") if phase == "choose" else ("recommend",),
            phase,
            profile="scoring",
        ),
        Stage(
            f"als_{phase}",
            "als",
            "Fit ALS on the merged ratings and rank the whole catalogue for every user.",
            (
                "merged_ratings",
                "known_dislikes",
                "user_sparsity",
                "als_choices",
                *(("als_unfilled_factors", "als_filled_factors", "validation_ratings") if phase == "choose" else ()),
            ),
            ("als_factors", "als_quality", "als_candidates"),
            ("als", "recommend"),
            phase,
            profile="scoring",
        ),
        Stage(
            f"item_item_{phase}",
            "item_item",
            "Fit EASE, RP3beta and GF-CF, and rank the whole catalogue for every user by the best on validation.",
            ("merged_ratings", "known_dislikes", "validation_ratings" if phase == "choose" else "item_item_choices"),
            ("item_item_weights", "item_item_choices", "item_item_candidates"),
            ("item_item", "recommend"),
            phase,
            profile="scoring",
        ),
        *plain_stages(phase, before_fills=False),
    )


STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest",
        "ingest",
        "Validate the raw ratings, quarantine bad rows with a reason, give every id its dense index.",
        (),
        ("ratings", "disliked_ratings", "rejected_ratings", "pseudonyms", "users", "items"),
        ("ingest",),
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
        ("train_ratings", "validation_ratings", "known_dislikes"),
        ("als_choices", "als_unfilled_factors"),
        ("als",),
        "choose",
        profile="scoring",
    ),
    *_before_fills("choose"),
    Stage(
        "partition",
        "partition",
        "Write each user's history as fixed-length lists in equal, shuffled row groups for Petastorm.",
        ("train_ratings", "user_sparsity"),
        ("user_rows",),
        ("partition", "distributed"),
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
        "Apply every generator to the sparse users' histories: candidate fills, never a rated item.",
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
        ),
        ("gate_decisions", "gate_segments", "als_filled_factors"),
        ("gate", "merge", "als"),
        needs_sparse_users=True,
        profile="scoring",
    ),
    *_phased("choose"),
    *_before_fills("final"),
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
    *_phased("final"),
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
        ),
        (
            "blend_weights",
            "rerank_choices",
            "published_fill_segments",
            "blend_candidates",
            "recommendations",
            "unserved_users",
        ),
        ("recommend", "gate"),
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
        ),
        (
            "publish_checks",
            "recommendations_editions",
            "unserved_users_editions",
            "metrics_editions",
            "gate_decisions_editions",
            "current_run",
        ),
        ("publish", "recommend"),
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
        ("report", "publish"),
    ),
)

STAGE_BY_NAME = {stage.name: stage for stage in STAGES}
