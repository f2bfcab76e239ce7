"""Tables of what was shown and to whom: the rules of lists, what was drawn, exposures."""

from ganrec_spark.plan.table import Table, columns

SHOWN_TABLES: tuple[Table, ...] = (
    Table(
        "list_rules",
        "one thing that a rule of lists says of one item, or of one item for one user",
        ("rule", "user_idx", "item_idx", "category"),
        columns("""
            rule string: excluded, shown, available, blocked, boosted or category
            user_idx int: dense index of the user; NULL where the rule holds for everyone
            item_idx int: dense index of the item
            category string: a category of the item; NULL for other rules
            factor double: what the item's scores are multiplied by; NULL for other rules
            until timestamp: moment from which it no longer holds, UTC; NULL where there is none
        """),
        sorted_by=("user_idx",),
    ),
    Table(
        "rule_effects",
        "one rule that is set",
        ("rule",),
        columns("""
            rule string: excluded, shown, available, blocked, boosted or category
            n_changed bigint: lists that would be others without it, before places were drawn
        """),
    ),
    Table(
        "rule_checks",
        "one rule that is set, as the lists to publish keep it",
        ("rule",),
        columns("""
            rule string: excluded, shown, available, blocked, boosted or category
            n_changed bigint: lists that would be others without it, before places were drawn
            n_broken bigint: lists that break it, counted apart from what made them; above 0 the run is not published
        """),
    ),
    Table(
        "explored_places",
        "one place of one list whose item was drawn",
        ("user_idx", "rank"),
        columns("""
            user_idx int: dense index of the user
            rank int: position in the user's list, from 1
            item_idx int: dense index of the item
            propensity double: chance that this item was drawn here, given what stands above
        """),
    ),
    Table(
        "exposures",
        "one item that an edition shows to one user",
        ("edition", "user_idx", "rank"),
        columns("""
            edition string: which of the run's editions; current_run and its history say when readers saw it
            user_idx int: dense index of the user
            rank int: position in the user's list, from 1
            item_idx int: dense index of the item
            arm string: arm of the experiment that the user is in
            propensity double: chance that this item was drawn here, given arm and places above; 1 where none was
            place string: what the place is: ranked, drawn (explore.slots) or new_item (recommend.new_item_slots)
        """),
        partition_by=("edition",),
        sorted_by=("user_idx",),
    ),
)
