"""Tables of the recommenders: their lists, what they chose, what they learned."""

from ganrec_spark.plan.members import MEMBERS, RECOMMENDERS
from ganrec_spark.plan.table import CHECKPOINT, HISTORY, Table, columns

_CANDIDATES = """
    fill string: none, or the accepted fill whose generated rows this list's recommender was trained on
    user_idx int: dense index of the user, in phase choose of one who is asked; -1: the list for anyone without history
    items array<int>: item indices, best first, observed items excluded
    scores array<float>: the recommender's own score of each item, descending; comparable within one user only
"""

_CHOICES = """
    parameters string: JSON of the setting that was tried
    ndcg double: NDCG@10 over validation users
    chosen boolean: the setting that this run uses
"""


def _choices(recommender: str) -> Table:
    return Table(
        f"{recommender}_choices", "one setting that was tried", ("parameters",), columns(_CHOICES), phased=True
    )


def _candidates(recommender: str) -> Table:
    return Table(
        f"{recommender}_candidates",
        f"the best unseen items of one user by {recommender}, ranked over the full catalogue",
        ("fill", "user_idx"),
        columns(_CANDIDATES),
        phased=True,
    )


MEMBER_TABLES: tuple[Table, ...] = (
    *map(_candidates, RECOMMENDERS),
    Table(
        "als_factors",
        "one latent vector of ALS",
        ("fill", "side", "idx"),
        columns("""
            fill string: none or the accepted fill
            side string: user or item
            idx int: user_idx or item_idx
            factors array<float>: latent vector; user . item is the predicted preference (or rating, explicit)
        """),
        phased=True,
    ),
    Table(
        "als_unfilled_factors",
        "one latent vector of ALS on train_ratings alone, by the chosen setting",
        ("side", "idx"),
        columns("""
            side string: user or item
            idx int: user_idx or item_idx
            factors array<float>: latent vector, as in als_factors
        """),
    ),
    Table(
        "als_filled_factors",
        "one latent vector of ALS on train_ratings and the accepted fill, as the gate has fitted it",
        ("fill", "side", "idx"),
        columns("""
            fill string: the accepted fill
            side string: user or item
            idx int: user_idx or item_idx
            factors array<float>: latent vector, as in als_factors
        """),
    ),
    Table("trending_choices", "one half-life that was tried", ("parameters",), columns(_CHOICES), phased=True),
    Table(
        "als_choices",
        "one ALS setting that was tried",
        ("parameters",),
        columns(f"""
            {_CHOICES.strip()}
            base_run_id string: earlier run whose setting and vectors were gone on from; NULL: chosen and fitted anew
        """),
        phased=True,
    ),
    Table(
        "als_quality",
        "one quality of an ALS fit",
        ("fill", "name"),
        columns("""
            fill string: none or the accepted fill
            name string: rmse of held-out ratings (explicit only)
            value double: its value
        """),
        phased=True,
    ),
    Table(
        "item_item_weights",
        "the strongest neighbours of one item, for explanations and diversity",
        ("item_idx",),
        columns("""
            item_idx int: the recommended item
            neighbours array<int>: history items that speak most for it, strongest first
            weights array<float>: their weights
        """),
        phased=True,
    ),
    _choices("item_item"),
    _choices("strangers"),
    Table(
        "strangers_candidates",
        "the items that people with the attributes of one user rate most, of users without a rating",
        ("user_idx",),
        columns("""
            user_idx int: dense index of the user
            items array<int>: item indices, best first
            scores array<float>: share of users that is expected to rate each item, descending
        """),
        phased=True,
    ),
    _choices("newcomers"),
    Table(
        "newcomers_weights",
        "an item that nobody has rated, and the rated items that it is like",
        ("item_idx",),
        columns("""
            item_idx int: dense index of the new item
            neighbours array<int>: rated items, likest first
            weights array<float>: how much a rating of each says of the new item, which others like them may share
        """),
        phased=True,
    ),
    Table(
        "newcomers_candidates",
        "the items that nobody has rated for one user, by what the user rated and the new items are like",
        ("user_idx",),
        columns("""
            user_idx int: dense index of the user
            items array<int>: item indices, best first
            scores array<float>: how much the user's ratings speak for each item, descending
        """),
        phased=True,
    ),
    *(_choices(member.name) for member in MEMBERS if member.doc and member.chooses),
    Table(
        "transformer_checkpoints",
        "one chunk of one of the trained transformers",
        ("version", "part"),
        columns(CHECKPOINT),
        phased=True,
    ),
    Table("transformer_history", "one training value", ("model", "epoch", "name"), columns(HISTORY), phased=True),
)
