"""Run one stage, or all of them in order; skip what is already done for the same inputs."""

import hashlib
import importlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from ganrec_spark import __version__
from ganrec_spark.config import Config, section_json
from ganrec_spark.context import Context
from ganrec_spark.errors import LakeError
from ganrec_spark.lake import Lake, StageLake, check_run_id
from ganrec_spark.pipeline import STAGES, Stage
from ganrec_spark.sources import source_fingerprint
from ganrec_spark.submit import lake_root

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
    skipped here. Raises LakeError where another one that it reads from has not run.
    """
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    fingerprints, finished = _fingerprints(config), finished_stages(lake, run_id)
    for earlier in _sources(stage):
        stale = finished.get(earlier.name) != fingerprints[earlier.name]
        if earlier.needs_sparse_users and stale and "sparsity" in finished and not fill_wanted(lake, run_id):
            _execute(config, lake, earlier, run_id, fingerprints[earlier.name])
            finished[earlier.name] = fingerprints[earlier.name]
    _require(finished, stage, run_id)
    return _execute(config, lake, stage, run_id, fingerprints[stage.name])


def run_pipeline(spark: SparkSession, config: Config, run_id: str, force: bool = False) -> list[Outcome]:
    """Run every stage in order; stages that finished before with the same inputs are kept unless `force`."""
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    finished, fingerprints = finished_stages(lake, run_id), _fingerprints(config)
    outcomes: list[Outcome] = []
    for number, stage in enumerate(STAGES, 1):
        _LOG.info("[%d/%d] %s: %s", number, len(STAGES), stage.name, stage.doc)
        fingerprint = fingerprints[stage.name]
        if not force and finished.get(stage.name) == fingerprint:
            outcome = Outcome(stage.name, "kept", "done before with the same inputs", 0.0)
        else:
            outcome = _execute(config, lake, stage, run_id, fingerprint)
            # Whatever came after was made from rows that have just been replaced.
            finished = {}
        _LOG.info("%s: %s in %.1f s: %s", stage.name, outcome.outcome, outcome.seconds, outcome.message)
        outcomes.append(outcome)
    return outcomes


def _execute(config: Config, lake: Lake, stage: Stage, run_id: str, fingerprint: str) -> Outcome:
    started = time.monotonic()
    context = stage_context(lake, config, stage, run_id)
    if stage.needs_sparse_users and not fill_wanted(lake, run_id):
        for table in stage.writes:
            lake.clear(table, run_id, stage.phase)
        outcome, message = "skipped", "matrix_profile calls for no filling"
    else:
        module = importlib.import_module(f"ganrec_spark.stages.{stage.module}")
        outcome, message = "done", str(module.run(context))
    seconds = time.monotonic() - started
    row = context.lake.frame(
        "stage_log", [(stage.name, fingerprint, outcome, message, seconds, datetime.now(UTC).replace(tzinfo=None))]
    )
    lake.replace("stage_log", row, run_id, only={"stage": stage.name})
    return Outcome(stage.name, outcome, message, seconds)


def stage_context(lake: Lake, config: Config, stage: Stage, run_id: str) -> Context:
    """Return what the stage is given in this run."""
    stage_lake = StageLake(lake, check_run_id(run_id), stage.name, stage.phase, stage.reads, stage.writes)
    work_dir = f"{lake_root(config)}/runs/{run_id}/{stage.name}"
    return Context(lake.spark, _visible(config, stage), stage_lake, run_id, stage.phase, work_dir)


def _visible(config: Config, stage: Stage) -> Config:
    """Return `config` with every section that the stage did not declare back at its defaults."""
    kept = {name: getattr(config, name) for name in ("run", "lake", "spark", *stage.config)}
    return Config.model_construct(**kept)


def fill_wanted(lake: Lake, run_id: str) -> bool:
    """Return whether stage sparsity of this run found enough sparse users to try filling."""
    row = lake.read("matrix_profile", run_id).first()
    return row is not None and bool(row.fill_wanted)


def finished_stages(lake: Lake, run_id: str) -> dict[str, str]:
    """Return stage -> fingerprint of what has run."""
    rows = lake.read("stage_log", check_run_id(run_id)).select("stage", "fingerprint").collect()
    return {row.stage: row.fingerprint for row in rows}


def _sources(stage: Stage) -> list[Stage]:
    """Return the earlier stages that write what `stage` reads, in order."""
    return [earlier for earlier in STAGES[: STAGES.index(stage)] if set(earlier.writes) & set(stage.reads)]


def require_inputs(lake: Lake, stage: Stage, run_id: str) -> None:
    """Raise LakeError where a stage that `stage` reads from has not run."""
    _require(finished_stages(lake, run_id), stage, run_id)


def _require(finished: dict[str, str], stage: Stage, run_id: str) -> None:
    for earlier in _sources(stage):
        if earlier.name not in finished:
            table = min(set(earlier.writes) & set(stage.reads))
            raise LakeError(
                f"table '{table}', run '{run_id}': stage '{stage.name}' expected its rows, found none; "
                f"run stage '{earlier.name}' first"
            )


def _fingerprints(config: Config) -> dict[str, str]:
    """Return a hash per stage of all that its rows follow from: code version, seed, sections, source, and inputs."""
    files = {
        "ingest": (config.ingest.source, config.ingest.test_source),
        "recommend": (config.recommend.available_items, config.recommend.blocked_items),
    }
    result: dict[str, str] = {}
    for stage in STAGES:
        names = [earlier.name for earlier in _sources(stage)]
        names += ["sparsity"] if stage.needs_sparse_users and "sparsity" not in names else []
        inputs = [result[name] for name in names]
        parts = [__version__, stage.name, section_json(config, ("run", *stage.config)), *inputs]
        if stage.name in files:
            parts.append(source_fingerprint(files[stage.name]))
        result[stage.name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return result
