"""Refresh the published lists of users with new events, whoever else publishes or refreshes meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError, LakeError, QualityError, StoreError
from ganrec_spark.evaluation.publish_checks import row_checks
from ganrec_spark.feedback.log import Taken
from ganrec_spark.frames.kept import side_by_side
from ganrec_spark.lake.files import lake_root
from ganrec_spark.lake.overlay import OVERLAID, compact, lay_over
from ganrec_spark.lake.publication import base_of, prune_editions, stored_editions
from ganrec_spark.lake.store import Lake, Pointer
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.refresh.histories import histories_of
from ganrec_spark.refresh.lists import UsersLake, lists_of
from ganrec_spark.refresh.models import models_of
from ganrec_spark.refresh.news import News, news
from ganrec_spark.rules.proof import broken_lists, rule_checks
from ganrec_spark.run.context import Context
from ganrec_spark.run.log import RunLog
from ganrec_spark.run.runner import require_inputs
from ganrec_spark.spark.plans import planned_for_few_rows

_TRIES = 10
# Editions that were found to be of the tables that an execution of publish read: it writes no other one.
_MATCHING: set[tuple[str, str, str, str | None]] = set()


@dataclass(frozen=True)
class Refreshed:
    """What came of it: `overlay` None where nobody had new events; `compacted`: whether overlays became one edition."""

    run_id: str
    overlay: str | None = None
    n_users: int = 0
    compacted: bool = False

    def in_words(self) -> str:
        """Return it in one sentence."""
        if self.overlay is None:
            return f"nothing new since what is published of run {self.run_id}"
        told = f"lists of {self.n_users} users of run {self.run_id} are new, overlay {self.overlay}"
        return told + ("; overlays were compacted to one edition" if self.compacted else "")


def refresh(lake: Lake, config: Config) -> Refreshed:
    """Make the lists of users with new events from the published run's models, and show them in one commit.

    Where the pointer moves meanwhile it begins again with what is published then. Raises LakeError where nothing is
    published, or the run's tables are not those of what readers see any more; ConfigError where events are no ratings;
    QualityError where the new lists break a check.
    """
    require_ratings(config)
    for _ in range(_TRIES):
        shown = lake.published()
        if shown.run_id is None:
            raise LakeError("table 'current_run': expected a published run to refresh, found none; run `ganrec run`")
        executions, found = side_by_side(
            partial(_executions, lake, config, shown), partial(news, lake, shown, config.feedback)
        )
        if found is None:
            return Refreshed(shown.run_id)
        overlay = _attempt(lake, config, shown, found, executions)
        if overlay is not None:
            compacted = len(shown.overlays) + 1 >= config.refresh.compact_after and compact(lake) is not None
            if compacted:
                prune_editions(lake, config.publish.keep_editions)  # what lay under it is seen by nobody any more
            return Refreshed(shown.run_id, overlay, found.users.n, compacted)
    raise LakeError(
        f"table 'current_run': expected to lay new lists over what is published, found it moved by others at each of "
        f"{_TRIES} tries; refresh again"
    )


def require_ratings(config: Config) -> None:
    """Raise ConfigError where events are no ratings, so that no list could follow them."""
    if not config.feedback.as_ratings:
        raise ConfigError(
            "feedback.as_ratings: expected true, for a refresh takes events as ratings, found false; set it, and run "
            "the date again"
        )


def after_batch(lake: Lake, config: Config, _: Taken) -> str:
    """Refresh after a batch of a stream (feedback.stream.Step); return in words what came of it.

    Where lists cannot be made now, as nothing is published or the run's tables are made anew, the events wait in the
    log for the next batch. Raises StoreError where the lake's store is gone.
    """
    try:
        return refresh(lake, config).in_words()
    except StoreError:
        raise
    except (LakeError, QualityError) as error:
        return f"lists stay as they are: {error}"


def _attempt(lake: Lake, config: Config, shown: Pointer, found: News, executions: dict[str, str | None]) -> str | None:
    """Return the overlay's name; None where the pointer moved meanwhile."""
    run_id = str(shown.run_id)
    context = Context(
        lake.spark,
        config,
        UsersLake(lake, run_id, "refresh", "final", (), ()),
        run_id,
        "final",
        f"{lake_root(config)}/runs/{run_id}/refresh",
    )
    models = models_of(context, f"{executions['publish']}")
    with planned_for_few_rows(lake.spark, few=bool(found.users.few)):
        rows = histories_of(lake, run_id, found, config, models.items, models.liked)
        frames = lists_of(context, found.users, rows, models)

        def require() -> None:
            _require_still(lake, run_id, executions)
            _check(context, frames)

        overlaid = {name: frames[name] for name in OVERLAID}
        return lay_over(lake, shown, overlaid, found.users.rows, found.snapshot, require)


def _require_still(lake: Lake, run_id: str, executions: dict[str, str | None]) -> None:
    """Raise LakeError where a stage of the run has run since."""
    if _finished(RunLog(lake, run_id)) != executions:
        raise LakeError(
            f"run '{run_id}': expected its tables to stay as they are while lists are made from them, found that "
            "it ran again; refresh when it has ended"
        )


def _executions(lake: Lake, config: Config, shown: Pointer) -> dict[str, str | None]:
    """Return what wrote the run's tables. Raises LakeError where they are not those of what readers see."""
    run_id, edition = str(shown.run_id), base_of(str(shown.edition))
    log = RunLog(lake, run_id)
    require_inputs(log, STAGE_BY_NAME["report"], config)  # it reads what publish wrote
    executions = _finished(log)
    key = (lake.name(""), run_id, edition, executions["publish"])
    if key in _MATCHING:
        return executions
    own = next((name for run, name in stored_editions(lake) if run == run_id and base_of(name) == name), None)
    if own != edition:
        raise LakeError(
            f"run '{run_id}': expected its tables to be those of edition {edition}, which readers see, found those of "
            f"{own}; point readers there (`ganrec rollback --to {run_id}`) or run the date again"
        )
    _MATCHING.add(key)
    return executions


def _finished(log: RunLog) -> dict[str, str | None]:
    return {name: entry.execution for name, entry in log.finished().items()}


def _check(context: Context, frames: Mapping[str, DataFrame]) -> None:
    recommendations, n, rules = frames["recommendations"], context.config.recommend.n, context.config.rules
    checks = [
        *row_checks(recommendations, frames["users"], context.lake.read("items"), n),
        *rule_checks(broken_lists(recommendations, frames["list_rules"], rules)),
    ]
    failed = [check.message for check in checks if not check.passed and check.severity == "refuse"]
    if failed:
        raise QualityError(f"run '{context.run_id}' is not refreshed, readers keep what they see: {'; '.join(failed)}")
