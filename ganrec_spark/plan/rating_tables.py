"""Tables of ratings: as they came in, held out, counted, and as trainings read them."""

from ganrec_spark.plan.table import RATING, Table, columns

_ORIGIN = """
    origin string: source (ingest.source), test_source (ingest.test_source), or feedback: events of the log had a say
"""

_OF_USERS = ("user_idx",)  # what a refresh reads of the users with new events

RATING_TABLES: tuple[Table, ...] = (
    Table(
        "ratings",
        "one valid rating of one user for one item, duplicates resolved",
        ("user_idx", "item_idx", "origin"),
        columns(RATING + _ORIGIN),
        sorted_by=_OF_USERS,
    ),
    Table(
        "pseudonyms",
        "whose a pseudonym is, with ingest.pseudonym_salt; keep it from those who need not know",
        ("user_id",),
        columns("""
            user_id string: what stands for the user in every other table
            source_id string: the source's id
        """),
    ),
    Table(
        "disliked_ratings",
        "one valid rating below ingest.liked_from, or an event of dislike (rating NULL): no hit, never listed",
        ("user_idx", "item_idx", "origin"),
        columns(RATING + _ORIGIN),
        sorted_by=_OF_USERS,
    ),
    Table(
        "rejected_ratings",
        "one input row that was not used, as it was read, and the rule that it broke",
        (),
        columns("""
            rule string: missing_id, bad_rating, rating_out_of_range, bad_time, future_time, exact_duplicate, ...
            file string: file the row came from
            row string: the row as JSON, values as read
        """),
        renamed={"source": "file"},
    ),
    Table(
        "users",
        "one user ever seen; append-only",
        ("user_id",),
        columns("""
            user_id string: the source's id
            user_idx int: dense index from 0, never reused
            first_run_id string: run that first saw the user; feedback: an event of the log did
        """),
        scope="append",
        sorted_by=_OF_USERS,
    ),
    Table(
        "items",
        "one item ever seen; append-only",
        ("item_id",),
        columns("""
            item_id string: the source's id
            item_idx int: dense index from 0, never reused
            first_run_id string: run that first saw the item; feedback: an event of the log did
        """),
        scope="append",
    ),
    Table("train_ratings", "one rating that models may learn from", ("user_idx", "item_idx"), columns(RATING)),
    Table(
        "known_dislikes",
        "one disliked rating that is not later than the user's held-out test rating (ratio, given: not drawn for test)",
        ("user_idx", "item_idx"),
        columns(RATING + "part string: train (known in both phases) or validation (in phase final alone)"),
        sorted_by=_OF_USERS,
    ),
    Table(
        "impressions",
        "one impression of the log, a day old at least (feedback.as_ratings); a user may see an item often",
        (),
        columns("""
            user_idx int: dense index of the user
            item_idx int: dense index of the item
            ts timestamp: when the user saw the item, UTC
        """),
    ),
    Table(
        "known_ignored",
        "what a user was shown a day and more before a held-out rating; rated pairs too (ratio, given: no rows)",
        ("user_idx", "item_idx", "part"),
        columns("""
            user_idx int: dense index of the user
            item_idx int: dense index of the item
            times bigint: impressions
            part string: train (known in both phases) or validation (in phase final alone)
        """),
        sorted_by=_OF_USERS,
    ),
    Table("validation_ratings", "one rating held out for choosing", ("user_idx", "item_idx"), columns(RATING)),
    Table(
        "test_ratings",
        "one rating held out for the report; only evaluate may read it",
        ("user_idx", "item_idx"),
        columns(RATING),
    ),
    Table(
        "user_sparsity",
        "one user with at least one training rating",
        ("user_idx",),
        columns("""
            user_idx int: dense index of the user
            n_ratings int: number of training ratings
            density double: n_ratings / number of items with a training rating
            days_since_last double: days from the user's last training rating to the last of all
            percentile double: share of users with at most as many ratings, 0 to 1
            bucket string: range of n_ratings, such as 6-10 or 51+
            is_sparse boolean: few enough ratings that filling is tried
        """),
        sorted_by=_OF_USERS,
    ),
    Table(
        "user_segments",
        "one segment that a user with a training rating counts in, besides all",
        ("user_idx", "segment"),
        columns("""
            user_idx int: dense index of the user
            segment string: sparse or dense; bucket:6-10 and the like, by the number of ratings
        """),
    ),
    Table(
        "matrix_profile",
        "the training matrix of the run; one row",
        (),
        columns("""
            n_users int: users with a training rating
            n_items int: items with a training rating
            n_ratings bigint: training ratings
            density double: n_ratings / (n_users * n_items)
            item_gini double: Gini coefficient of the items' rating counts, 0 equal to 1 concentrated
            n_sparse_users int: users with is_sparse
            fill_wanted boolean: whether generators are trained and fills tried
            reason string: why, in words
        """),
    ),
    Table(
        "user_rows",
        "one user's training history as fixed-length lists, in the form that Petastorm reads",
        ("user_idx",),
        columns("""
            row_group int: which file of the run the user is in; users are shuffled over them
            user_idx int: dense index of the user
            is_sparse int: 1 for a sparse user, else 0
            n_ratings int: length of the whole history
            length int: valid entries of items and weights, the most recent ones where n_ratings is more
            items array<int>: item indices, oldest first, padded behind with -1
            weights array<float>: ratings of items, padded behind with 0
            ages array<int>: at how many later times the user rated, 0 for the latest items, padded behind with 0
        """),
        partition_by=("row_group",),
    ),
    Table(
        "user_sequences",
        "one user's observed history in time, in the form that Petastorm reads",
        ("user_idx",),
        columns("""
            row_group int: which file of the run and phase the user is in
            user_idx int: dense index of the user
            length int: valid entries of items, the most recent ones
            items array<int>: item indices, oldest first, padded behind with -1
        """),
        phased=True,
        partition_by=("row_group",),
    ),
)
