"""Search the recommenders' settings on a run's validation users; every trial is a row of the lake.

Optuna's TPE proposes (Bergstra et al. 2011), the stages' own code fits and judges, so a trial's NDCG@10 is what the
stage would have reached with them alone (the Transformer's: its first seed). The settings that the configuration holds
come first, so the result is never worse than they are on validation. Test ratings are not read. A search that was
stopped goes on from its rows.
"""

import hashlib
import importlib
import json
import logging
import time
from typing import Any

import optuna
import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import with_values
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import MEMBERS
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.recommenders.searched import Space, Trial, Tunable, Values, best, value_of
from ganrec_spark.run.log import RunLog
from ganrec_spark.run.runner import finished_stages, require_inputs, stage_context
from ganrec_spark.seeding import stable_seed


def tune(
    spark: SparkSession, config: Config, run_id: str, members: list[str], minutes: float, trials: int | None = None
) -> dict[str, list[Trial]]:
    """Search each member's settings in its share of `minutes`; return all its trials, those of earlier calls first.

    The run must have got as far as merge_choose. At least the configuration's own settings are tried; `trials` ends
    a member's search earlier. Raises LakeError where a stage has not run, InputError where nobody is held out.
    """
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    found = {}
    for place, member in enumerate(members):
        started = time.monotonic()
        found[member] = _search(lake, config, run_id, member, minutes * 60 / (len(members) - place), trials)
        minutes -= (time.monotonic() - started) / 60
    return found


def as_config(found: dict[str, list[Trial]], config: Config, run_id: str) -> str:
    """Return the best settings as a configuration file for a run, with what they reached in comments."""
    sections: dict[str, dict[str, Any]] = {}
    lines = [f"# Found by `ganrec tune` on the validation users of run {run_id}: NDCG@10"]
    for member, trials in found.items():
        chosen = best(trials)
        configured = list(search_of(member).configured(config, chosen.values))
        before = best([trial for trial in trials if trial.values in configured])
        reached = f"{chosen.ndcg:.4f} by trial {chosen.number + 1} of {len(trials)}, {before.ndcg:.4f} as configured"
        lines.append(f"# {member}: {reached}")
        for key, value in _as_keys(config, search_of(member).found(config, trials)).items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
    return "\n".join([*lines, yaml.safe_dump(sections, sort_keys=False)])


def search_of(member: str) -> Tunable:
    """Return what the member's room says of its search."""
    found: Tunable = importlib.import_module(f"ganrec_spark.recommenders.{member}.tuning").TUNABLE
    return found


def _search(lake: Lake, config: Config, run_id: str, member: str, seconds: float, trials: int | None) -> list[Trial]:
    (stage,) = (STAGE_BY_NAME[one.tuned_in] for one in MEMBERS if one.name == member and one.tuned_in)
    search = search_of(member)
    require_inputs(RunLog(lake, run_id), stage)
    context = stage_context(lake, config, stage, run_id)
    if not context.lake.read("validation_ratings").limit(1).count():
        raise InputError(f"run '{run_id}', table validation_ratings: expected held-out ratings to judge by, found none")
    space = search.space(context)
    basis = _basis(lake, config, run_id, member, space)
    done = _earlier(lake, run_id, basis)
    study = _study(space, done, stable_seed(config.run.seed, "tune", member, len(done)) % 2**31)
    for values in (*search.configured(config, space), *search.chosen(context)):
        if values not in [trial.values for trial in done]:
            study.enqueue_trial(values)
    started, first = time.monotonic(), len(done)
    while _waiting(study) or (time.monotonic() - started < seconds if trials is None else len(done) - first < trials):
        begun = time.monotonic()
        asked = study.ask(space)
        values = dict(asked.params)
        tried = stage_context(lake, with_values(config, _as_keys(config, values)), stage, run_id)
        ndcg = round(search.judge(tried), 10)
        study.tell(asked, ndcg)
        done.append(Trial(len(done), values, ndcg, time.monotonic() - begun))
        _write(lake, run_id, member, basis, done[-1])
        told = (member, len(done), json.dumps(values), ndcg, best(done).ndcg)
        logging.getLogger("ganrec").info("%s: trial %d: %s: NDCG@10 %.4f, best %.4f", *told)
    return done


def _study(space: Space, done: list[Trial], seed: int) -> optuna.Study:
    """Return a study that knows the earlier trials, but for those configured outside what is searched."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for trial in done:
        if all(space[key]._contains(space[key].to_internal_repr(value)) for key, value in trial.values.items()):
            study.add_trial(optuna.create_trial(params=trial.values, distributions=space, value=trial.ndcg))
    return study


def _waiting(study: optuna.Study) -> bool:
    return any(trial.state == optuna.trial.TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def _basis(lake: Lake, config: Config, run_id: str, member: str, space: Space) -> str:
    """Return a hash of what makes trials comparable: the rows they learn from, the space, and all other settings."""
    section, _, _ = next(iter(space)).partition(".")
    settings = getattr(config, section).model_dump(mode="json")
    fixed = {name: value for name, value in settings.items() if f"{section}.{name}" not in space}
    parts = [finished_stages(lake, run_id)["merge_choose"], member, sorted(map(str, space.items())), fixed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _as_keys(config: Config, values: Values) -> Values:
    """Return the values as the configuration takes them: of a key that lists choices the one and only."""
    listed = {key: isinstance(value_of(config, key), tuple) for key in values}
    return {key: [value] if listed[key] else value for key, value in values.items()}


def _earlier(lake: Lake, run_id: str, basis: str) -> list[Trial]:
    rows = lake.read("tuning_trials", run_id).where(F.col("basis") == basis).orderBy("number").collect()
    return [Trial(row["number"], json.loads(row["settings"]), row["ndcg"], row["seconds"]) for row in rows]


def _write(lake: Lake, run_id: str, member: str, basis: str, trial: Trial) -> None:
    name = f"{member}-{basis}-{trial.number:04}"
    row = (name, member, basis, trial.number, json.dumps(trial.values), trial.ndcg, trial.seconds)
    frame = local_frame(lake.spark, declared("tuning_trials").columns, [row])
    lake.replace("tuning_trials", frame, run_id, only={"trial": name})
