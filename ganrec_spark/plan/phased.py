"""The stages that run in both phases: those of the recommenders, the fills between them."""

from ganrec_spark.plan.members import MEMBERS, Member, list_tables
from ganrec_spark.plan.stage import Stage

# All that members read of how lists are blended: how long theirs are, and whose phase choose makes (evaluation.asked).
LIST_LENGTH, ASKED = "recommend.n_candidates", ("recommend.weight_users", "recommend.rerank_users")
_MAY_BE_FILLED = ("user_sparsity", "matrix_profile")
_KNOWN_OF_ITEMS = ("item_attributes", "item_vectors", "attribute_columns")


def of_lists(phase: str) -> tuple[str, ...]:
    """Return the keys of section recommend that a phase's lists of a member hang on."""
    return (LIST_LENGTH, *ASKED) if phase == "choose" else (LIST_LENGTH,)


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
    # Whose lists the phase makes (evaluation.asked), and what chooses.
    beside = ("validation_ratings", *(_MAY_BE_FILLED if member.may_fill else ())) if phase == "choose" else choices
    sections = of_lists(phase) if member.section is None else (member.section, *of_lists(phase))
    return Stage(
        f"{member.name}_{phase}",
        member.name,
        doc,
        (*ratings, "known_dislikes", *beside),
        (*choices, *list_tables([member.name])),
        sections,
        phase,
        profile="scoring",
    )


def before_fills_stages(phase: str) -> tuple[Stage, ...]:
    """Return the stages of one phase that come before augment, for what they rank first may be a fill for the others.

    The Transformer's, and those of plain members that may fill.
    """
    return (
        Stage(
            f"sequences_{phase}",
            "sequences",
            "Order each user's observed items in time, in equal row groups for training's workers.",
            _held_in(phase),
            ("user_sequences",),
            ("parquet", "transformer", "distributed"),
            phase,
        ),
        Stage(
            f"transformer_{phase}",
            "transformer",
            "Train SASRec on several workers and rank the whole catalogue for users.",
            (
                "user_sequences",
                "known_dislikes",
                "train_ratings",
                "validation_ratings",  # choose: who judges; final: history
                *(_MAY_BE_FILLED if phase == "choose" else ()),  # whose lists may be fills
                *_KNOWN_OF_ITEMS,
                "next_run",  # of the run published before: whether to go on from its models
                *(() if phase == "choose" else ("transformer_history", "transformer_checkpoints")),
            ),
            ("transformer_checkpoints", "transformer_history", "transformer_candidates"),
            ("transformer", "newcomers", *of_lists(phase), "distributed", "warm_start"),
            phase,
            profile="training",
        ),
        *plain_stages(phase, before_fills=True),
    )


def after_fills_stages(phase: str) -> tuple[Stage, ...]:
    """Return merge and the other recommenders of one phase; the data behind them differs, the code does not."""
    return (
        Stage(
            f"merge_{phase}",
            "merge",
            "Join observed ratings with the accepted fill.",
            (*_held_in(phase), "gate_decisions", "finalist_ratings" if phase == "choose" else "generated_ratings"),
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
            ("trending", *of_lists(phase)) if phase == "choose" else of_lists(phase),
            phase,
            profile="scoring",
        ),
        _strangers(phase),
        Stage(
            f"als_{phase}",
            "als",
            "Fit ALS on the merged ratings and rank the whole catalogue for users.",
            (
                "merged_ratings",
                "known_dislikes",
                "known_ignored",
                "user_sparsity",
                "als_choices",
                *(
                    ("als_unfilled_factors", "als_filled_factors", "validation_ratings")
                    if phase == "choose"
                    else ("next_run",)
                ),
            ),
            ("als_factors", "als_quality", "als_candidates"),
            ("als", *of_lists(phase)) if phase == "choose" else ("als", *of_lists(phase), "warm_start"),
            phase,
            profile="scoring",
        ),
        _newcomers(phase),
        Stage(
            f"item_item_{phase}",
            "item_item",
            "Fit EASE, RP3beta and GF-CF, and rank the whole catalogue for users by the best on validation.",
            (
                "merged_ratings",
                "known_dislikes",
                "newcomers_choices",
                *_KNOWN_OF_ITEMS,
                "validation_ratings" if phase == "choose" else "item_item_choices",
            ),
            ("item_item_weights", "item_item_choices", "item_item_candidates"),
            ("item_item", "newcomers", *of_lists(phase)),
            phase,
            profile="scoring",
        ),
        *plain_stages(phase, before_fills=False),
    )


def _strangers(phase: str) -> Stage:
    return Stage(
        f"strangers_{phase}",
        "strangers",
        "Rank for people without a rating what people with the same attributes rate.",
        (
            "merged_ratings",
            "user_attributes",
            "attribute_columns",
            "trending_choices",
            "validation_ratings" if phase == "choose" else "strangers_choices",
        ),
        ("strangers_choices", "strangers_candidates") if phase == "choose" else ("strangers_candidates",),
        ("strangers", *of_lists(phase)),
        phase,
        profile="scoring",
    )


def _newcomers(phase: str) -> Stage:
    return Stage(
        f"newcomers_{phase}",
        "newcomers",
        "Rank items that nobody has rated for the users who rated items like them.",
        (
            "merged_ratings",
            *_KNOWN_OF_ITEMS,
            "als_factors",
            *(("als_choices", "validation_ratings") if phase == "choose" else ("newcomers_choices",)),
        ),
        ("newcomers_weights", "newcomers_candidates", *(("newcomers_choices",) if phase == "choose" else ())),
        ("newcomers", "als", *of_lists(phase)) if phase == "choose" else ("newcomers", *of_lists(phase)),
        phase,
        profile="scoring",
    )
