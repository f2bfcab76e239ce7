"""Every table of the lake: its grain, key, columns and what each means. They become SQL comments.

Tables of a run carry `run_id` first (and `phase` second where both phases write them); `Lake` adds and filters
these columns, so the stages never name them. Missing user-item pairs are unknown, never zero.
"""

from dataclasses import dataclass

from ganrec_spark.plan.members import FILL_RULES, MEMBER_NAMES, MEMBERS, RECOMMENDERS, TAIL, TUNED, in_words


@dataclass(frozen=True)
class Column:
    """A column: name, Spark SQL type, and its meaning with unit."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A table: `grain` says what one row means, `key` which columns identify it within its run (and phase).

    `scope`: `run` rows are replaced whole by a re-run; `append` rows (id dictionaries) are only ever added;
    `pointer` tables hold one row for all runs. `partition_by` adds to the partitioning by run_id (and phase).
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    phased: bool = False
    scope: str = "run"
    partition_by: tuple[str, ...] = ()


def _columns(text: str) -> tuple[Column, ...]:
    """Parse lines of `name type: comment`; one line a column reads better than one call a column."""
    columns = []
    for line in filter(str.strip, text.splitlines()):
        head, comment = line.strip().split(": ", 1)
        name, kind = head.split(" ", 1)
        columns.append(Column(name, kind, comment))
    return tuple(columns)


_RATING = """
    user_idx int: dense index of the user in table users
    item_idx int: dense index of the item in table items
    rating double: explicit rating on the source's scale, or summed event weights for implicit events
    ts timestamp: when the user gave it, UTC; of equal times none is earlier, unless ingest.tie_order is source
"""

_CANDIDATES = """
    fill string: none, or the accepted fill whose generated rows this list's recommender was trained on
    user_idx int: dense index of the user
    items array<int>: item indices, best first, observed items excluded
    scores array<float>: the recommender's own score of each item, descending; comparable within one user only
"""

ANYONE = -1  # user_idx of lists for users without history
NONE = "none"  # the fill of rows that no fill has changed

_SEGMENTS = """
    candidate string: the fill
    segment string: all, sparse, dense, bucket:6-10, ...
    n_users int: users of the segment
    lift double: relative change of their NDCG@k; 0.05 is 5 % better
    ci_low double: lower bound of its interval, paired bootstrap over users
    ci_high double: upper bound
"""

_CHECKPOINT = """
    version string: sha256 of the checkpoint's bytes, first 12 hex digits
    card string: JSON: settings, data, sizes and training summary needed to rebuild and judge the model
    part int: position of this chunk of the checkpoint, from 0
    content binary: chunk of the torch state dict; load with weights_only=True
"""

_HISTORY = """
    model string: model that was trained
    epoch int: epoch, from 1
    name string: loss, validation_ndcg, distinct_items, ...
    value double: value at the end of the epoch
"""

_CHOICES = """
    parameters string: JSON of the setting that was tried
    ndcg double: NDCG@10 over validation users
    chosen boolean: the setting that this run uses
"""


def _choices(recommender: str) -> Table:
    return Table(
        f"{recommender}_choices", "one setting that was tried", ("parameters",), _columns(_CHOICES), phased=True
    )


def _candidates(recommender: str) -> Table:
    return Table(
        f"{recommender}_candidates",
        f"the best unseen items of one user by {recommender}, ranked over the full catalogue",
        ("fill", "user_idx"),
        _columns(_CANDIDATES),
        phased=True,
    )


TABLES: tuple[Table, ...] = (
    Table(
        "ratings",
        "one valid rating of one user for one item, duplicates resolved",
        ("user_idx", "item_idx", "origin"),
        _columns(_RATING + "origin string: source (ingest.source), test_source (ingest.test_source)"),
    ),
    Table(
        "pseudonyms",
        "whose a pseudonym is, with ingest.pseudonym_salt; keep it from those who need not know",
        ("user_id",),
        _columns("""
            user_id string: what stands for the user in every other table
            source_id string: the source's id
        """),
    ),
    Table(
        "disliked_ratings",
        "one valid rating below ingest.liked_from: the item is no hit for the user and never listed to them",
        ("user_idx", "item_idx", "origin"),
        _columns(_RATING + "origin string: source (ingest.source), test_source (ingest.test_source)"),
    ),
    Table(
        "rejected_ratings",
        "one input row that was not used, as it was read, and the rule that it broke",
        (),
        _columns("""
            rule string: missing_id, bad_rating, rating_out_of_range, bad_time, future_time, exact_duplicate, ...
            source string: file the row came from
            row string: the row as JSON, values as read
        """),
    ),
    Table(
        "users",
        "one user ever seen; append-only",
        ("user_id",),
        _columns("""
            user_id string: the source's id
            user_idx int: dense index from 0, never reused
            first_run_id string: run that first saw the user
        """),
        scope="append",
    ),
    Table(
        "items",
        "one item ever seen; append-only",
        ("item_id",),
        _columns("""
            item_id string: the source's id
            item_idx int: dense index from 0, never reused
            first_run_id string: run that first saw the item
        """),
        scope="append",
    ),
    Table("train_ratings", "one rating that models may learn from", ("user_idx", "item_idx"), _columns(_RATING)),
    Table(
        "known_dislikes",
        "one disliked rating that is not later than the user's held-out test rating (ratio, given: not drawn for test)",
        ("user_idx", "item_idx"),
        _columns(_RATING + "part string: train (known in both phases) or validation (in phase final alone)"),
    ),
    Table("validation_ratings", "one rating held out for choosing", ("user_idx", "item_idx"), _columns(_RATING)),
    Table(
        "test_ratings",
        "one rating held out for the report; only evaluate may read it",
        ("user_idx", "item_idx"),
        _columns(_RATING),
    ),
    Table(
        "user_sparsity",
        "one user with at least one training rating",
        ("user_idx",),
        _columns("""
            user_idx int: dense index of the user
            n_ratings int: number of training ratings
            density double: n_ratings / number of items with a training rating
            days_since_last double: days from the user's last training rating to the last of all
            percentile double: share of users with at most as many ratings, 0 to 1
            bucket string: range of n_ratings, such as 6-10 or 51+
            is_sparse boolean: few enough ratings that filling is tried
        """),
    ),
    Table(
        "user_segments",
        "one segment that a user with a training rating counts in, besides all",
        ("user_idx", "segment"),
        _columns("""
            user_idx int: dense index of the user
            segment string: sparse or dense; bucket:6-10 and the like, by the number of ratings
        """),
    ),
    Table(
        "matrix_profile",
        "the training matrix of the run; one row",
        (),
        _columns("""
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
        _columns("""
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
        "generator_checkpoints",
        "one chunk of a trained generator",
        ("generator", "part"),
        _columns("generator string: agn, vae or cgan\n" + _CHECKPOINT),
    ),
    Table("generator_history", "one training value", ("model", "epoch", "name"), _columns(_HISTORY)),
    Table(
        "generated_ratings",
        "one generated item for one sparse user in one candidate fill",
        ("candidate", "user_idx", "item_idx"),
        _columns(f"""
            candidate string: generator and strategy, such as cgan_top3
            user_idx int: dense index of the user
            item_idx int: dense index of an item that the user has not rated
            position int: rank of the item within the fill, from 1
            confidence double: generator's score mapped to (0, 1]; 1 is the user's surest item
            generator string: agn, vae, cgan, {in_words(sorted(FILL_RULES))}
            strategy string: top (best n) or sample (n drawn by Gumbel-top-k)
            generator_version string: version of the checkpoint, or of the rule
            seed bigint: seed of the user's draw
        """),
        phased=True,
    ),
    Table(
        "gate_decisions",
        "one candidate fill and what the gate found",
        ("candidate",),
        _columns("""
            candidate string: fill that was judged; none is the pipeline without fill
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
    ),
    Table(
        "gate_segments",
        "one segment of the confirming validation users and what a confirmed candidate does to their lists by ALS",
        ("candidate", "segment"),
        _columns(_SEGMENTS),
    ),
    Table(
        "published_fill_segments",
        "one segment of the confirming validation users and what the accepted fill does to the blend's lists",
        ("candidate", "segment"),
        _columns(_SEGMENTS),
    ),
    Table(
        "merged_ratings",
        "one observed or accepted generated rating that recommenders learn from",
        ("user_idx", "item_idx"),
        _columns(
            _RATING
            + """source string: observed or generated; for ever
            fill string: none for observed rows, else the candidate that generated the row"""
        ),
        phased=True,
    ),
    Table(
        "user_sequences",
        "one user's observed history in time, in the form that Petastorm reads",
        ("user_idx",),
        _columns("""
            row_group int: which file of the run and phase the user is in
            user_idx int: dense index of the user
            length int: valid entries of items, the most recent ones
            items array<int>: item indices, oldest first, padded behind with -1
        """),
        phased=True,
        partition_by=("row_group",),
    ),
    *map(_candidates, RECOMMENDERS),
    Table(
        "als_factors",
        "one latent vector of ALS",
        ("fill", "side", "idx"),
        _columns("""
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
        _columns("""
            side string: user or item
            idx int: user_idx or item_idx
            factors array<float>: latent vector, as in als_factors
        """),
    ),
    Table(
        "als_filled_factors",
        "one latent vector of ALS on train_ratings and the accepted fill, as the gate has fitted it",
        ("fill", "side", "idx"),
        _columns("""
            fill string: the accepted fill
            side string: user or item
            idx int: user_idx or item_idx
            factors array<float>: latent vector, as in als_factors
        """),
    ),
    Table("trending_choices", "one half-life that was tried", ("parameters",), _columns(_CHOICES), phased=True),
    Table("als_choices", "one ALS setting that was tried", ("parameters",), _columns(_CHOICES), phased=True),
    Table(
        "als_quality",
        "one quality of an ALS fit",
        ("fill", "name"),
        _columns("""
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
        _columns("""
            item_idx int: the recommended item
            neighbours array<int>: history items that speak most for it, strongest first
            weights array<float>: their weights
        """),
        phased=True,
    ),
    _choices("item_item"),
    *(_choices(member.name) for member in MEMBERS if member.doc and member.chooses),
    Table(
        "transformer_checkpoints",
        "one chunk of one of the trained transformers",
        ("version", "part"),
        _columns(_CHECKPOINT),
        phased=True,
    ),
    Table("transformer_history", "one training value", ("model", "epoch", "name"), _columns(_HISTORY), phased=True),
    Table(
        "blend_weights",
        "the weight of one recommender in one blend",
        ("fill", "recommender"),
        _columns(f"""
            fill string: none or the accepted fill: which variant of the members was blended
            recommender string: {in_words(MEMBER_NAMES)}
            weight double: share in the fusion, 0 to 1; they sum to 1
            fusion string: what is added up: ranks (reciprocal ranks) or scores (between a list's lowest and highest)
            validation_ndcg double: NDCG@10 of this blend on validation; NULL with a fill, which it is not chosen by
            member_ndcg double: NDCG@10 of the recommender alone on validation; NULL with a fill
            published boolean: true for the blend whose lists are published
        """),
    ),
    Table(
        "rerank_choices",
        "how trees that reorder one blend's head did on validation",
        ("fill",),
        _columns("""
            fill string: none or the accepted fill: which variant of the members was blended
            n_users bigint: validation users that were looked at
            n_hits bigint: of them, those with a held-out item in the head: the ones that trees can learn from
            ndcg_change double: NDCG@10 with trees, cross-fitted, minus that without, over n_users
            ndcg_change_low double: lower bound of its 95 % interval
            sparse_ndcg_change double: the same change for sparse users
            accepted boolean: true where the trees are used
            gains string: JSON, feature -> share of what the splits gained
            trees string: the trees of phase final as LightGBM's text; empty where they are not used
        """),
    ),
    Table(
        "recommendations",
        "one recommended item of one user",
        ("user_id", "rank"),
        _columns(f"""
            user_id string: the source's id
            rank int: position in the user's list, from 1
            item_id string: the source's id
            score double: blend score, descending with rank; comparable within one user only
            sources array<string>: recommenders with a weight above 0 that listed the item; {TAIL} where it fills up
            reason string: history (a history item explains it), similar_users, popular
            because_item_id string: the history item that explains it best; NULL where none does
            user_idx int: dense index of the user
            item_idx int: dense index of the item
        """),
    ),
    Table(
        "unserved_users",
        "one eligible user without a full list",
        ("user_id",),
        _columns("""
            user_id string: the source's id
            user_idx int: dense index of the user
            code string: too_few_items (fewer than n unseen available items are left), blocked
            n_available int: items that could have been listed
        """),
    ),
    Table(
        "metrics",
        "one metric of one recommender on one segment of users",
        ("recommender", "fill", "split", "segment", "metric", "k"),
        _columns(f"""
            recommender string: {in_words(RECOMMENDERS)}
            fill string: none or the accepted fill
            split string: validation (phase choose) or test (phase final)
            segment string: all, sparse, dense, cold (no training rating), or bucket:RANGE of training ratings
            metric string: precision, recall, ndcg, mrr, map, coverage, gini, novelty, diversity, rmse
            k int: cut-off of the list; 0 where none applies
            value double: mean over the segment's users (coverage, gini: over the lists)
            ci_low double: lower 95 % bound; NULL where a metric is no mean over users
            ci_high double: upper 95 % bound
            n_users bigint: users with held-out ratings in the segment
        """),
    ),
    Table(
        "publish_checks",
        "one quality check of the run",
        ("name",),
        _columns("""
            name string: check
            value double: what was found
            limit double: what was demanded
            passed boolean: whether it held
            message string: the check in words
            severity string: refuse (the run is not published) or warn
        """),
    ),
    Table(
        "current_run",
        "the published run; one row, replaced in one commit",
        (),
        _columns("""
            published_run_id string: run that the published views show
            edition string: which of the run's editions
            published_at timestamp: when it was pointed to, UTC
        """),
        scope="pointer",
    ),
    Table(
        "tuning_trials",
        "one setting of one recommender that `ganrec tune` tried",
        ("trial",),
        _columns(f"""
            trial string: member, basis and number
            member string: {in_words(TUNED)}
            basis string: hash of the rows and settings that trials must share to be compared
            number int: 0, 1, ... in the order they were tried
            settings string: JSON, configuration key -> value
            ndcg double: NDCG@10 on validation
            seconds double: wall time of the trial
        """),
        partition_by=("trial",),
    ),
    Table(
        "stage_log",
        "the last execution of one stage of one run",
        ("stage",),
        _columns("""
            stage string: name in pipeline.STAGES
            fingerprint string: hashes of the code, settings, source files and rows that the stage's rows follow from
            outcome string: running, done, skipped (not called for) or failed
            message string: what the stage reported
            seconds double: wall time
            finished_at timestamp: when it ended, while it runs when it began, UTC
            execution string: id of this execution, which the fingerprints of stages that read its rows hold
            owner string: the process: host, namespace of process ids, process id, when it started
        """),
    ),
)

_BY_NAME = {table.name: table for table in TABLES}


def _editions(name: str) -> Table:
    """Return the table of published copies of `name`: working rows may be replaced, an edition never changes."""
    table = _BY_NAME[name]
    column = Column("edition", "string", "hash of the edition's content; current_run names the one that readers see")
    return Table(
        f"{name}_editions",
        f"published copy: {table.grain}",
        ("edition", *table.key),
        (*table.columns, column),
        partition_by=("edition",),
    )


EDITED = ("recommendations", "unserved_users", "metrics", "gate_decisions")
EDITIONS = tuple(_editions(name) for name in EDITED)

TABLE_BY_NAME = _BY_NAME | {table.name: table for table in EDITIONS}

# Views join current_run, so one commit of that row switches every reader at once.
PUBLISHED_VIEWS = {f"published_{name}": f"{name}_editions" for name in EDITED}
