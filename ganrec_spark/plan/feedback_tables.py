"""Tables of feedback: what people did with what they were shown, and what could not be used of that."""

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
        "known_events",
        "what of the log a run could know when it read it; what it did with that feedback.as_ratings says",
        (),
        columns("""
            snapshot bigint: snapshot of feedback_events that it read; NULL: the log was empty
            until timestamp: moment that the run stands at, UTC: of the snapshot it knows what happened before
        """),
    ),
    Table(
        "rejected_feedback",
        "one row of feedback that was not used, and the rule that it broke; the same row once for each rule",
        ("row_key",),
        columns("""
            row_key string: hash of rule and row, so that what comes again is kept once
            rule string: missing_user, unknown_kind, future_time, too_late, ...
            source string: file, table, or topic, partition and offset that the row came from first
            row string: the row as JSON, its first 10,000 characters; of an unreadable file the reason
            received_at timestamp: when it was rejected, UTC
        """),
        scope="events",
    ),
)
