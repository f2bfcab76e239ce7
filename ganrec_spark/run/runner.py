"""Run one stage, or all of them in order; skip what is already done for the same inputs."""

import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ganrec_spark.config.load import restricted
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError, StoreError, TrainingError
from ganrec_spark.lake.files import lake_root
from ganrec_spark.lake.schema import check_run_id
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.plan.stage import Stage
from ganrec_spark.run.context import Context
from ganrec_spark.run.failures import explained
from ganrec_spark.run.fingerprints import differences, fingerprint
from ganrec_spark.run.log import Entry, RunLog
from ganrec_spark.run.outside import outside

_LOG = logging.getLogger("ganrec")


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: `done`, `skipped` (not called for) or `kept` (done before, nothing changed)."""

    stage: str
    outcome: str
    message: str
    seconds: float


def run_stage(spark: SparkSession, config: Config, stage: Stage, run_id: str) -> Outcome:
    """Run one stage whether or not it ran before, and log it in stage_log.

    Stages that it reads from and that are not called for (no sparse users) need not have been submitted: they are
    skipped here. Raises LakeError where another one that it reads from, directly or through others, has not run, or
    ran with other settings or code, or read rows that have been replaced since.
    """
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    with RunLog(lake, run_id, config.lake.wait_seconds) as log:
        for earlier in _sources(stage):
            known = "sparsity" in log.finished() and earlier.needs_sparse_users
            if known and _stale(config, log.finished(), earlier) and not fill_wanted(lake, run_id):
                _execute(config, lake, earlier, log, go_on=True)
        return _execute(config, lake, stage, log)


def run_pipeline(spark: SparkSession, config: Config, run_id: str, force: bool = False) -> list[Outcome]:
    """Run every stage in order; stages that finished before with the same inputs are kept unless `force`."""
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    outcomes: list[Outcome] = []
    with RunLog(lake, run_id, config.lake.wait_seconds) as log:
        for number, stage in enumerate(STAGES, 1):
            _LOG.debug("[%d/%d] %s: %s", number, len(STAGES), stage.name, stage.doc)
            finished = log.finished()
            if not force and stage.name in finished:
                expected = _fingerprint(config, stage, finished, outside(lake, config, stage, run_id))
                if finished[stage.name].fingerprint == expected:
                    outcomes.append(Outcome(stage.name, "kept", "done before with the same inputs", 0.0))
                    _tell(number, outcomes[-1])
                    continue
            outcomes.append(_execute(config, lake, stage, log, go_on=number < len(STAGES)))
            _tell(number, outcomes[-1])
    _LOG.info(where_time_went(outcomes))
    return outcomes


def where_time_went(outcomes: Sequence[Outcome]) -> str:
    """Return in one line how long the stages took, and the shares of the longest ones."""
    total = sum(outcome.seconds for outcome in outcomes)
    longest = sorted((one for one in outcomes if one.seconds), key=lambda one: -one.seconds)[:4]
    shares = ", ".join(f"{one.stage} {one.seconds / total:.0%}" for one in longest)
    return f"{len(outcomes)} stages in {total:.0f} s" + (f"; longest: {shares}" if shares else "")


def _tell(number: int, outcome: Outcome) -> None:
    where = f"[{number:2}/{len(STAGES)}] {outcome.stage}"
    _LOG.info("%s: %s in %.1f s: %s", where, outcome.outcome, outcome.seconds, outcome.message)


def _execute(config: Config, lake: Lake, stage: Stage, log: RunLog, go_on: bool = False) -> Outcome:
    beside = outside(lake, config, stage, log.run_id)

    def prepare(finished: Mapping[str, Entry]) -> str:
        # Asked once the run is ours: another process may have had it until now.
        called_for = not stage.needs_sparse_users or "sparsity" not in finished or fill_wanted(lake, log.run_id)
        if called_for:
            _require_inputs(finished, log.run_id, stage, config)
        return _fingerprint(config, stage, finished, beside)

    started = time.monotonic()
    try:
        log.begin(stage.name, prepare)
        context = stage_context(lake, config, stage, log.run_id, log.require)
        if stage.needs_sparse_users and not fill_wanted(lake, log.run_id):
            for table in stage.writes:
                lake.clear(table, log.run_id, stage.phase)
            outcome, message = "skipped", "matrix_profile calls for no filling"
        else:
            module = importlib.import_module(f"ganrec_spark.stages.{stage.module}")
            outcome, message = "done", str(module.run(context))
        seconds = time.monotonic() - started
        log.finish(stage.name, outcome, message, seconds, go_on)
    except (Py4JError, PySparkException, OSError, TrainingError) as error:
        told = explained(error, stage.name)
        if told is None or (isinstance(error, TrainingError) and not isinstance(told, StoreError)):
            raise
        raise told from error
    return Outcome(stage.name, outcome, message, seconds)


def stage_context(
    lake: Lake, config: Config, stage: Stage, run_id: str, before_write: Callable[[], None] = lambda: None
) -> Context:
    """Return what the stage is given in this run; `before_write` raises where it may write no more."""
    stage_lake = StageLake(lake, check_run_id(run_id), stage.name, stage.phase, stage.reads, stage.writes, before_write)
    work_dir = f"{lake_root(config)}/runs/{run_id}/{stage.name}"
    return Context(lake.spark, _visible(config, stage), stage_lake, run_id, stage.phase, work_dir)


def _visible(config: Config, stage: Stage) -> Config:
    """Return `config` with all that the stage did not declare back at its defaults."""
    return restricted(config, ("run", "lake", "spark", *stage.config))


def fill_wanted(lake: Lake, run_id: str) -> bool:
    """Return whether stage sparsity of this run found enough sparse users to try filling."""
    row = lake.read("matrix_profile", run_id).first()
    return row is not None and bool(row.fill_wanted)


def finished_stages(lake: Lake, run_id: str) -> dict[str, str]:
    """Return stage -> fingerprint of what has finished."""
    return {name: entry.fingerprint for name, entry in RunLog(lake, run_id).finished().items()}


def _sources(stage: Stage) -> list[Stage]:
    """Return the earlier stages that write what `stage` reads, in order; none of a loop's, which reads any run's."""
    if stage not in STAGES:
        return []
    return [earlier for earlier in STAGES[: STAGES.index(stage)] if set(earlier.writes) & set(stage.reads)]


def _inputs(stage: Stage) -> list[Stage]:
    """Return what the stage's rows follow from: its sources, and sparsity where that decides whether it runs."""
    names = {earlier.name for earlier in _sources(stage)} | ({"sparsity"} if stage.needs_sparse_users else set())
    return [earlier for earlier in STAGES if earlier.name in names]


def require_inputs(log: RunLog, stage: Stage, config: Config | None = None) -> None:
    """Raise LakeError where a stage that `stage` follows from has not run, with whatever settings.

    With `config`: with other settings or code than these, or on rows that have been replaced since.
    """
    _require_inputs(log.finished(), log.run_id, stage, config)


def _require_inputs(finished: Mapping[str, Entry], run_id: str, stage: Stage, config: Config | None = None) -> None:
    """Raise LakeError naming the first stage to run (again) before `stage`, if there is one.

    Without `config` it is enough that they ran, with whatever settings.
    """
    wanted = _ancestors(stage, finished)
    for earlier in (one for one in STAGES if one.name in wanted):
        if earlier.name not in finished:
            tables = sorted(set(earlier.writes) & set(stage.reads)) or list(earlier.writes)
            raise LakeError(
                f"table '{tables[0]}', run '{run_id}': stage '{stage.name}' expected its rows, found none, or "
                f"those of an attempt that did not finish; run stage '{earlier.name}' first"
            )
        if config and (reasons := _stale(config, finished, earlier)):
            raise LakeError(
                f"run '{run_id}': stage '{stage.name}' expected rows of stage '{earlier.name}' by this code and "
                f"these settings, found them made with {' and '.join(reasons)}; run stage '{earlier.name}' again, then "
                f"those after it, or give this stage the settings of that run (sections {', '.join(earlier.config)})"
            )


def _ancestors(stage: Stage, finished: Mapping[str, Entry]) -> set[str]:
    """Return the stages that the stage's rows follow from; what a skipped one would have read is not among them."""
    names: set[str] = set()
    for earlier in _inputs(stage):
        skipped = earlier.name in finished and finished[earlier.name].outcome == "skipped"
        names |= {earlier.name, *({"sparsity"} if skipped else _ancestors(earlier, finished))}
    return names


def _stale(config: Config, finished: Mapping[str, Entry], stage: Stage) -> list[str]:
    """Return in words why the stage's rows are not what it would write now; whether its files changed is not asked."""
    if stage.name not in finished:
        return ["nothing"]
    return differences(finished[stage.name].fingerprint, _fingerprint(config, stage, finished, ""), but=["outside"])


def _fingerprint(config: Config, stage: Stage, finished: Mapping[str, Entry], beside: str) -> str:
    executions = {
        name: finished[name].execution or ""
        for name in (earlier.name for earlier in _inputs(stage))
        if name in finished
    }
    return fingerprint(config, stage, beside, executions)
