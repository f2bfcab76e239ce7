"""Tables of the blend, of what is published and measured, and of what ran."""

from ganrec_spark.plan.members import (
    ATTRIBUTES,
    MEMBER_NAMES,
    NEW_ITEM,
    NEWCOMERS,
    POPULARITY,
    RECOMMENDERS,
    TAIL,
    TUNED,
    in_words,
)
from ganrec_spark.plan.table import Table, columns

_NO_MEMBERS = (TAIL, POPULARITY, ATTRIBUTES, NEWCOMERS)  # what may list an item without being blended

PUBLISHED_TABLES: tuple[Table, ...] = (
    Table(
        "blend_weights",
        "the weight of one recommender in one blend",
        ("fill", "recommender"),
        columns(f"""
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
        columns("""
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
        "variety_choices",
        "how lists did on validation that were reordered for variety at one strength",
        ("strength",),
        columns("""
            method string: calibration or diversity (recommend.variety)
            attribute string: the column of items that it goes by
            strength double: 0 to 1: what the list's mix weighs against the scores; 0: the blend as it is
            n_users bigint: validation users that were looked at
            ndcg double: mean NDCG@10
            ndcg_change double: relative change of the mean NDCG@10 against strength 0
            ndcg_change_low double: lower end of its 95 % interval
            sparse_ndcg_change double: the same change for sparse users; NULL where they had no hit before
            measured double: mean divergence (nats) of ten items from users' own mix, or mean cosine of a list's pairs
            chosen boolean: true for what the blend's lists are reordered with
        """),
    ),
    Table(
        "recommendations",
        "one recommended item of one user",
        ("user_id", "rank"),
        columns(f"""
            user_id string: the source's id
            rank int: position in the user's list, from 1
            item_id string: the source's id
            score double: blend score, descending with rank where nothing was drawn; comparable within one user only
            members array<string>: recommenders with a weight that listed it; else {in_words(_NO_MEMBERS)}
            reason string: history (a history item explains it), similar_users, popular, {ATTRIBUTES} or {NEW_ITEM}
            because_item_id string: the history item that explains it best; NULL where none does
            user_idx int: dense index of the user
            item_idx int: dense index of the item
        """),
        renamed={"sources": "members"},
    ),
    Table(
        "unserved_users",
        "one eligible user without a full list",
        ("user_id",),
        columns("""
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
        columns(f"""
            recommender string: {in_words(RECOMMENDERS)}; with split.protocol=cold_items {NEWCOMERS}, too
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
        "item_groups",
        "what one group of items has of the lists that recommend made, beside its share of catalogue and ratings",
        ("column", "part"),
        columns("""
            column string: a column of categories or several values (attribute_columns); rated: whether anyone rated it
            part string: one of its 20 most frequent values, (others), (none) for items without one; of rated yes or no
            n_items bigint: items of the group
            n_listed bigint: of them, those that at least one list has
            n_users bigint: users whose lists have one of them
            catalogue_share double: share of all items; one with several values is an equal part of each
            rating_share double: share of the run's ratings, counted likewise
            list_share double: share of all places in lists, counted likewise
        """),
    ),
    Table(
        "publish_checks",
        "one quality check of the run",
        ("name",),
        columns("""
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
        columns("""
            published_run_id string: run that the published views show
            edition string: which of the run's editions
            published_at timestamp: when it was pointed to, UTC
            overlays array<string>: editions of users whose lists `ganrec refresh` made anew since, the newest last
            events_snapshot bigint: of feedback_events, what these lists know; NULL: what the run knew
        """),
        scope="pointer",
    ),
    Table(
        "refreshed_users",
        "one user of an overlay: what it shows of them takes the place of what is below it",
        ("edition", "user_idx"),
        columns("""
            edition string: the overlay
            user_idx int: dense index of the user
        """),
        partition_by=("edition",),
    ),
    Table(
        "tuning_trials",
        "one setting of one recommender that `ganrec tune` tried",
        ("trial",),
        columns(f"""
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
        columns("""
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
