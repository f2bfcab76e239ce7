"""Tables of what is learnt from feedback: what lists are worth, what has drifted, what to do next."""

from ganrec_spark.plan.members import RECOMMENDERS, in_words
from ganrec_spark.plan.table import Table, columns

# What the next run may be; each is more work or more change than those before it. Airflow branches on it.
ACTIONS = ("nothing", "refresh", "fine_tune", "retrain", "gate_again", "roll_back")

_INTERVAL = """
    ci_low double: lower 95 % bound, over users; NULL where too little was seen to give one
    ci_high double: upper 95 % bound
"""

LEARNING_TABLES: tuple[Table, ...] = (
    Table(
        "feedback_metrics",
        "one metric of one arm's lists by one kind of events on one segment of users, over the runs of learn.days",
        ("arm", "segment", "kind", "metric"),
        columns(f"""
            arm string: arm of the experiment
            segment string: all, sparse, dense, cold, or bucket:RANGE of ratings
            kind string: kind of the events that count
            metric string: rate, users, value, discounted_hits or repeat_visits, as learning.effects.METRICS says
            value double: the metric
            {_INTERVAL.strip()}
            n_users bigint: users that the arm's lists were shown to
            n_exposures bigint: items in their lists
        """),
    ),
    Table(
        "arm_differences",
        "one metric of one arm minus that of another one",
        ("lists", "arm", "control", "segment", "kind", "metric"),
        columns(f"""
            lists string: which lists count: all, published (this run's), earlier (runs before), fill:NAME (made by it)
            arm string: arm of the experiment; one that lists what is published comes first
            control string: arm that it is compared with
            segment string: as in feedback_metrics
            kind string: kind of the events that count
            metric string: as in feedback_metrics
            value double: arm minus control, adjusted for how active users were before (CUPED)
            {_INTERVAL.strip()}
            control_value double: metric of the control
            variance_reduction double: share of the difference's variance that the adjustment took away
            n_users bigint: users of the arm
            n_control_users bigint: users of the control
            significant boolean: whether 0 is outside the interval
        """),
    ),
    Table(
        "policy_estimates",
        "what one recommender would have earned at the places that were drawn, by one estimator",
        ("policy", "fill", "estimator"),
        columns(f"""
            policy string: {in_words(RECOMMENDERS)}: its best item that does not stand above; or shown: what was drawn
            fill string: none or the fill of that variant of its lists; of shown always none
            estimator string: snips (self-normalised inverse propensities), doubly_robust, or observed (of shown)
            value double: share of exposures with an event of learn.kind
            {_INTERVAL.strip()}
            effective_exposures double: exposures that decide the value, as of equal weights (Kish)
            support double: share of its choices that could have been drawn: mean weight; above 1 by chance alone
            support_low double: lower 95 % bound
            support_high double: upper 95 % bound
            n_exposures bigint: drawn exposures
            n_users bigint: users that they were shown to
            caveat string: in words why the value says little, or of how much it does not speak; empty: nothing
        """),
    ),
    Table(
        "drift",
        "one way in which events since differ from what the published models were trained on",
        ("measure",),
        columns("""
            measure string: items, activity, kinds (population stability index), new_users, new_items (shares)
            value double: the index, or the share; NULL where there is nothing to compare
            by_chance double: index to expect of so few rows where nothing has changed; NULL of shares
            n_then bigint: rows that were trained on, or events until then
            n_now bigint: events since
        """),
    ),
    Table(
        "next_run",
        "what to do next; one row",
        (),
        columns(f"""
            action string: {in_words(ACTIONS)}
            reason string: why, in words
            trained_run_id string: run that trained the published models
            n_events bigint: events since then that count
            n_changed_users bigint: users that they are of
        """),
    ),
)
