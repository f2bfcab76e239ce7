"""Tables of the loop: what was shown, and what people did with it."""

from ganrec_spark.plan.table import Table, columns

FEEDBACK_TABLES: tuple[Table, ...] = (
    Table(
        "feedback_events",
        "one event: what one user did with one item at one time; a log, to which rows are only ever added",
        ("event_id",),
        columns("""
            event_id string: the client's id, or a hash of all that the client said
            user_idx int: dense index of the user in table users
            item_idx int: dense index of the item in table items
            kind string: impression, click, cart, purchase, rating, dislike, hide, or as feedback.kinds has them
            value double: of a rating its value, of other kinds what the client gave; NULL: nothing
            ts timestamp: when it happened, UTC, by the client's clock
            received_at timestamp: when it was appended, UTC, by our clock; of one batch one moment
            edition string: edition that the user saw; NULL: the item was never shown to the user before
            rank int: place in the list, from 1; NULL: unknown
            arm string: arm of the exposure; NULL: no exposure is known
            propensity double: probability of the exposure; NULL: unknown, or the client saw the item at another rank
        """),
        scope="events",
    ),
    Table(
        "exposures",
        "one item that an edition shows to one user",
        ("edition", "user_idx", "rank"),
        columns("""
            edition string: hash of the edition's content
            user_idx int: dense index of the user in table users
            rank int: place in the list, from 1
            item_idx int: dense index of the item in table items
            arm string: arm of the user
            propensity double: exact probability that this item was drawn at this rank; 1 where nothing was drawn
        """),
        partition_by=("edition",),
    ),
)
