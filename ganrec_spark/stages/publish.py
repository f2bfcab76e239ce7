"""Stage publish: check this run's rows, then show all of them to readers in one commit, or refuse."""

from datetime import UTC, datetime

from ganrec_spark.errors import QualityError
from ganrec_spark.evaluation.publish_checks import (
    Check,
    coverage_checks,
    dictionary_checks,
    metric_checks,
    published_metrics,
    row_checks,
    volume_checks,
)
from ganrec_spark.experiment.exposures import exposure_rows, require_one_execution
from ganrec_spark.lake.pointer import show
from ganrec_spark.lake.publication import prune_editions, prune_exposures, write_edition
from ganrec_spark.rules.proof import broken_lists, check_rows, rule_checks
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Check, write the edition, move the pointer. Raises QualityError naming every check that failed."""
    lake, settings, config = context.lake, context.config.publish, context.config
    recommendations, unserved = lake.read("recommendations"), lake.read("unserved_users")
    broken = broken_lists(recommendations, lake.read("list_rules"), config.rules)
    lake.write("rule_checks", lake.frame("rule_checks", check_rows(broken, lake.read("rule_effects"))))
    checks = [
        *dictionary_checks({name: lake.read(name) for name in ("users", "items")}),
        *row_checks(recommendations, lake.read("users"), lake.read("items"), config.recommend.n),
        *coverage_checks(recommendations, unserved, lake.read("ratings"), context),
        *metric_checks(lake.read("metrics"), published_metrics(context), context),
        *volume_checks(lake.lake, context.run_id, recommendations, settings),
        *rule_checks(broken),
    ]
    lake.write("publish_checks", lake.frame("publish_checks", [_as_row(check) for check in checks]))
    for check in checks:
        if not check.passed and check.severity == "warn":
            context.warn(check.message)
    failed = [check for check in checks if not check.passed and check.severity == "refuse"]
    if failed:
        raise QualityError(
            f"run '{context.run_id}' is not published, readers keep what they see: "
            + "; ".join(check.message for check in failed)
        )
    # As the default, arms and draws are no part of what an edition is called.
    plain = config.experiment.is_default and not config.explore.slots
    require_one_execution(context)
    edition = write_edition(lake, exposure_rows(context), named=not plain)
    told = show(lake.lake, context.run_id, edition)
    prune_editions(lake.lake, settings.keep_editions)
    prune_exposures(lake.lake, settings.keep_exposures_days, datetime.now(UTC))
    passed = sum(check.passed for check in checks)
    warned = f", {len(checks) - passed} warnings" if passed < len(checks) else ""
    return f"{passed} checks passed{warned}; {told}"


def _as_row(check: Check) -> tuple[object, ...]:
    return (check.name, check.value, check.limit, check.passed, check.message, check.severity)
