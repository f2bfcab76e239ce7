"""The recommenders whose lists the blend weighs, as plain data: one declaration says what a member is.

Stages, tables, the blend, fills, tuning, reports and benchmarks derive from it; docs/adding-a-recommender.md adds one.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A recommender with a room `recommenders.<name>` and lists in table `<name>_candidates`.

    `doc`: what its stages do, where they are the plain ones (plan.phased.plain_stages); a member that keeps other
    tables has none here, and its stages stand in plan/phased.py. `section`: its section of the configuration.
    `chooses`: validation users are drawn to choose its settings; plain stages keep them in `<name>_choices`.
    `learns_from_fills`: it has lists of its own for the accepted fill. `may_fill`: what it ranks first may be a fill
    for the others, its scores being logs of chances, so its stages come before augment. `serves_strangers`: its list
    for anyone serves users without history, and fills up short lists; one member does. `tuned_in`: the stage in whose
    surroundings `ganrec tune` searches its settings, by `recommenders.<name>.tuning`.
    """

    name: str
    colour: str
    doc: str | None = None
    section: str | None = None
    chooses: bool = False
    learns_from_fills: bool = False
    may_fill: bool = False
    serves_strangers: bool = False
    tuned_in: str | None = None


# Their order is that of weights, features of the trees, and figures. Colours are told apart without red-green vision
# (Okabe & Ito).
MEMBERS: tuple[Member, ...] = (
    Member("als", "#E69F00", section="als", chooses=True, learns_from_fills=True, tuned_in="als_setting"),
    Member("item_item", "#56B4E9", section="item_item", chooses=True, tuned_in="item_item_choose"),
    Member("transformer", "#009E73", section="transformer", chooses=True, may_fill=True, tuned_in="transformer_choose"),
    Member("trending", "#CC79A7", section="trending", chooses=True, serves_strangers=True),
    # A new one comes last: the others keep their places.
)

MEMBER_NAMES = tuple(member.name for member in MEMBERS)
LEARN_FROM_FILLS = tuple(member.name for member in MEMBERS if member.learns_from_fills)
CHOOSE = tuple(member.name for member in MEMBERS if member.chooses)
MAY_FILL = tuple(member.name for member in MEMBERS if member.may_fill)
TUNED = tuple(member.name for member in MEMBERS if member.tuned_in)
(TAIL,) = (member.name for member in MEMBERS if member.serves_strangers)

# What is measured: beside the members the baseline, which is never published, and what is.
POPULARITY, BLEND = "popularity", "blend"
# What lists of users without ratings are said to come from, where their attributes make them.
ATTRIBUTES = "attributes"
# What new items of a list are said to come from, and why they are there.
NEWCOMERS, NEW_ITEM = "newcomers", "new_item"
COLOURS = {POPULARITY: "#999999", **{member.name: member.colour for member in MEMBERS}, BLEND: "#0072B2"}
RECOMMENDERS = tuple(COLOURS)

# What makes a fill without a trained generator: counts of its own (fills.sources), and members' lists.
FILL_RULES = (POPULARITY, "item_item", *MAY_FILL)


def list_tables(recommenders: Iterable[str]) -> tuple[str, ...]:
    """Return the tables of the recommenders' lists."""
    return tuple(f"{name}_candidates" for name in recommenders)


def in_words(names: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
