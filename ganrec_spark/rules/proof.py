"""The second look: do the lists keep the rules? Asked in SQL of what is about to be published, not of what made it."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

from ganrec_spark.config.lists import Rules
from ganrec_spark.evaluation.publish_checks import Check
from ganrec_spark.rules.keeping import AVAILABLE, BLOCKED, BOOSTED, CATEGORY, EXCLUDED, SHOWN
from ganrec_spark.rules.shipped import rules_set

_PAIR = """
    SELECT count(DISTINCT r.user_idx) AS broken FROM {lists} r
    JOIN {rules} l ON l.rule = :rule AND l.user_idx = r.user_idx AND l.item_idx = r.item_idx
"""
_BREACHES = {
    EXCLUDED: _PAIR,
    SHOWN: _PAIR,
    BLOCKED: """
        SELECT count(DISTINCT r.user_idx) AS broken FROM {lists} r
        JOIN {rules} l ON l.rule = :rule AND l.item_idx = r.item_idx
    """,
    AVAILABLE: """
        SELECT count(DISTINCT r.user_idx) AS broken FROM {lists} r
        WHERE NOT EXISTS (SELECT 1 FROM {rules} l WHERE l.rule = :rule AND l.item_idx = r.item_idx)
    """,
    CATEGORY: """
        SELECT count(DISTINCT user_idx) AS broken FROM (
            SELECT r.user_idx, l.category FROM {lists} r
            JOIN {rules} l ON l.rule = :rule AND l.item_idx = r.item_idx
            GROUP BY r.user_idx, l.category HAVING count(*) > :most
        )
    """,
}


def broken_lists(recommendations: DataFrame, rules: DataFrame, settings: Rules) -> dict[str, int]:
    """Return for each rule that is set how many lists break it. A boost cannot be broken: it forbids nothing.

    In: rows of recommendations and of list_rules.
    """
    spark = recommendations.sparkSession
    found = {}
    for rule in rules_set(settings):
        if rule == BOOSTED:
            found[rule] = 0
            continue
        most = {"most": settings.max_per_category} if rule == CATEGORY else {}
        rows = spark.sql(_BREACHES[rule], args={"rule": rule, **most}, lists=recommendations, rules=rules)
        found[rule] = int(rows.collect()[0].broken)
    return found


def check_rows(broken: Mapping[str, int], effects: DataFrame) -> list[tuple[str, int, int]]:
    """Return the rows of table rule_checks: rule, lists changed, lists that break it."""
    changed = {row.rule: row.n_changed for row in effects.collect()}
    return [(rule, changed.get(rule, 0), n_broken) for rule, n_broken in broken.items()]


def rule_checks(broken: Mapping[str, int]) -> list[Check]:
    """Return a check for each rule: no list may break it."""
    return [
        Check(
            f"rule_{rule}",
            float(n_broken),
            0.0,
            n_broken == 0,
            f"rule_{rule}: expected no list that breaks the rule, found {n_broken} (see table list_rules)",
        )
        for rule, n_broken in broken.items()
    ]
