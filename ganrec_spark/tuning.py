"""Search the recommenders' settings on a run's validation users; every trial is a row of the lake.

Optuna's TPE proposes (Bergstra et al. 2011), the stages' own code fits and judges, so a trial's NDCG@10 is what the
stage would have reached with them alone (the Transformer's: its first seed). The settings that the configuration holds
come first, so the result is never worse than they are on validation. Test ratings are not read. A search that was
stopped goes on from its rows.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import with_values
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError
from ganrec_spark.fills.ratings import of_variant
from ganrec_spark.lake.store import Lake, declared
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.plan.tables import NONE
from ganrec_spark.recommenders.als.search import Judge, first_setting
from ganrec_spark.recommenders.als.setting import chosen_setting
from ganrec_spark.recommenders.item_item import search as item_item_search
from ganrec_spark.recommenders.item_item.fit import MIX
from ganrec_spark.recommenders.item_item.profiles import item_axis
from ganrec_spark.recommenders.transformer import fit
from ganrec_spark.recommenders.transformer.plans import make_plans
from ganrec_spark.run.context import Context
from ganrec_spark.run.log import RunLog
from ganrec_spark.run.runner import finished_stages, require_inputs, stage_context
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.checkpoints import delete_checkpoints

Values = dict[str, Any]  # key, such as als.alpha -> value
Space = dict[str, BaseDistribution]

# Keys whose value is a list of choices: the best one becomes the only one.
_LISTS = (
    "als.embedding_size",
    "als.regularisation",
    "als.alpha",
    "als.rating_scale",
    "als.half_life_days",
    "als.dislike_weight",
    "transformer.adversary_radius",
    "item_item.ease_regularisation",
    "item_item.rp3_beta",
    "item_item.gfcf_weight",
    "item_item.history_half_life",
    "item_item.rating_slope",
    "item_item.ease_damping",
    "item_item.pair_half_life",
)


@dataclass(frozen=True)
class Trial:
    """One row of tuning_trials."""

    number: int
    values: Values
    ndcg: float
    seconds: float


@dataclass(frozen=True)
class Search:
    """What is tried for one recommender: key -> distribution, and the NDCG@10 of a context with values of them."""

    stage: str
    space: Callable[[Context], Space]
    judge: Callable[[Context], float]
    chosen: Callable[[Context], list[Values]] = lambda _: []  # what the run's own search found
    found: Callable[[Config, list[Trial]], Values] = lambda _, trials: best(trials).values  # for the file


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


def best(trials: list[Trial]) -> Trial:
    """Return the trial of the best NDCG@10, of equally good ones the first."""
    return max(trials, key=lambda trial: (trial.ndcg, -trial.number))


def as_config(found: dict[str, list[Trial]], config: Config, run_id: str) -> str:
    """Return the best settings as a configuration file for a run, with what they reached in comments."""
    sections: dict[str, dict[str, Any]] = {}
    lines = [f"# Found by `ganrec tune` on the validation users of run {run_id}: NDCG@10"]
    for member, trials in found.items():
        chosen = best(trials)
        configured = list(_current(config, chosen.values))
        before = best([trial for trial in trials if trial.values in configured])
        reached = f"{chosen.ndcg:.4f} by trial {chosen.number + 1} of {len(trials)}, {before.ndcg:.4f} as configured"
        lines.append(f"# {member}: {reached}")
        for key, value in _as_keys(SEARCHES[member].found(config, trials)).items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
    return "\n".join([*lines, yaml.safe_dump(sections, sort_keys=False)])


def _search(lake: Lake, config: Config, run_id: str, member: str, seconds: float, trials: int | None) -> list[Trial]:
    search, stage = SEARCHES[member], STAGE_BY_NAME[SEARCHES[member].stage]
    require_inputs(RunLog(lake, run_id), stage)
    context = stage_context(lake, config, stage, run_id)
    if not context.lake.read("validation_ratings").limit(1).count():
        raise InputError(f"run '{run_id}', table validation_ratings: expected held-out ratings to judge by, found none")
    space = search.space(context)
    basis = _basis(lake, config, run_id, member, space)
    done = _earlier(lake, run_id, basis)
    study = _study(space, done, stable_seed(config.run.seed, "tune", member, len(done)) % 2**31)
    for values in (*_current(config, space), *search.chosen(context)):
        if values not in [trial.values for trial in done]:
            study.enqueue_trial(values)
    started, first = time.monotonic(), len(done)
    while _waiting(study) or (time.monotonic() - started < seconds if trials is None else len(done) - first < trials):
        begun = time.monotonic()
        asked = study.ask(space)
        values = dict(asked.params)
        tried = stage_context(lake, with_values(config, _as_keys(values)), stage, run_id)
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


def _current(config: Config, keys: Iterable[str]) -> Iterator[Values]:
    """Yield the settings that the configuration holds: each key's values in turn, the others at their first.

    Of item_item those that its stage tries, keys of other methods at their first value.
    """
    choices = {}
    for key in keys:
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        choices[key] = value if key in _LISTS else [value]
        if key == "transformer.embedding_size":
            choices[key] = list(config.transformer.sizes)
    first = {key: values[0] for key, values in choices.items()}
    if "item_item.method" not in choices:
        yield first
        yield from (first | {key: value} for key, values in choices.items() for value in values[1:])
        return
    methods = [method for method, keys in _ITEM_ITEM_KEYS.items() if keys.keys() <= choices.keys()]
    for setting in item_item_search.grid(config.item_item, methods):
        named = {f"item_item.{name}": value for name, value in setting.items()}
        yield first | {key: value for key, value in named.items() if key in first}


def _as_keys(values: Values) -> Values:
    return {key: [value] if key in _LISTS else value for key, value in values.items()}


def _earlier(lake: Lake, run_id: str, basis: str) -> list[Trial]:
    rows = lake.read("tuning_trials", run_id).where(F.col("basis") == basis).orderBy("number").collect()
    return [Trial(row["number"], json.loads(row["settings"]), row["ndcg"], row["seconds"]) for row in rows]


def _write(lake: Lake, run_id: str, member: str, basis: str, trial: Trial) -> None:
    name = f"{member}-{basis}-{trial.number:04}"
    row = (name, member, basis, trial.number, json.dumps(trial.values), trial.ndcg, trial.seconds)
    schema = ", ".join(f"{column.name} {column.type}" for column in declared("tuning_trials").columns)
    lake.replace("tuning_trials", lake.spark.createDataFrame([row], schema), run_id, only={"trial": name})


def _als_space(context: Context) -> Space:
    als = context.config.als
    space: Space = {
        "als.embedding_size": IntDistribution(16, max(512, als.max_embedding_size), log=True),
        "als.regularisation": FloatDistribution(0.001, 10.0, log=True),
    }
    if not als.implicit:
        return space
    half_lives = {30.0, 90.0, 365.0, 1000.0, *(value for value in als.half_life_days if value is not None)}
    if not context.lake.read("known_dislikes").isEmpty():
        weights = {0.0, 0.1, 0.3, 1.0, 3.0, *als.dislike_weight}
        space["als.dislike_weight"] = CategoricalDistribution(sorted(weights))
    return space | {
        "als.alpha": FloatDistribution(0.01, 1000.0, log=True),
        "als.rating_scale": CategoricalDistribution(["raw", "log"]),
        "als.half_life_days": CategoricalDistribution([None, *sorted(half_lives)]),
    }


def _judge_als(context: Context) -> float:
    judge, config = Judge(context), context.config.als
    ndcg = float(judge.ndcg(judge.fit(first_setting(config), config.iterations)).mean())
    judge.close()
    return ndcg


def _chosen_als(context: Context) -> list[Values]:
    setting = asdict(chosen_setting(context.lake.read("als_choices", "choose")))
    return [{key: setting[key.partition(".")[2]] for key in _als_space(context)}]


_ITEM_ITEM_KEYS: dict[str, Space] = {
    "ease": {
        "item_item.ease_regularisation": FloatDistribution(1.0, 10_000.0, log=True),
        "item_item.ease_damping": FloatDistribution(0.0, 0.6),
    },
    "rp3beta": {
        "item_item.rp3_alpha": FloatDistribution(0.2, 2.0),
        "item_item.rp3_beta": FloatDistribution(0.0, 1.0),
    },
    "gfcf": {
        "item_item.gfcf_rank": IntDistribution(8, 512, log=True),
        "item_item.gfcf_weight": FloatDistribution(0.0, 2.0),
    },
}


def _item_item_space(context: Context) -> Space:
    merged = context.lake.read("merged_ratings")
    methods = item_item_search.methods(context.config.item_item, len(item_axis(merged)))
    config = context.config.item_item
    configured = [value for value in config.history_half_life if value is not None]
    half_lives = sorted({0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, *configured})
    pairs = sorted({2.0, 5.0, 10.0, 20.0, 50.0, *(value for value in config.pair_half_life if value is not None)})
    space: Space = {
        "item_item.method": CategoricalDistribution(methods),
        "item_item.history_half_life": CategoricalDistribution([None, *half_lives]),
        "item_item.pair_half_life": CategoricalDistribution([None, *pairs]),
    }
    if item_item_search.ratings_differ(merged):
        space["item_item.rating_slope"] = FloatDistribution(0.0, 0.4)
    return space | {key: kind for method in methods for key, kind in _ITEM_ITEM_KEYS[method].items()}


def _judge_item_item(context: Context) -> float:
    merged, held_out = context.lake.read("merged_ratings"), context.lake.read("validation_ratings")
    config, ratings = context.config.item_item, of_variant(merged, NONE)
    search = item_item_search.Search(config, ratings, item_axis(merged), held_out, context.seed, context.log)
    (setting,) = item_item_search.grid(config, (config.method,))
    return search.score(setting | search.shared(setting)) or 0.0


def _chosen_item_item(context: Context) -> list[Values]:
    rows = context.lake.read("item_item_choices", phase="choose").where("chosen").collect()
    first = next(_current(context.config, _item_item_space(context)))
    absent = {"rating_slope": 0.0, "ease_damping": 0.0}  # a setting leaves out what it does not use
    settings = [
        {f"item_item.{key}": value for key, value in (absent | json.loads(row["parameters"])).items()} for row in rows
    ]
    for setting in settings:  # of a mixture the better half
        setting["item_item.method"] = setting["item_item.method"].partition(MIX)[0]
    return [first | {key: value for key, value in setting.items() if key in first} for setting in settings]


def _every_method(config: Config, trials: list[Trial]) -> Values:
    """Return the best trial's values with each method's own best ones: the run tries its methods' mixtures, too."""
    found = dict(best(trials).values)
    for method, keys in _ITEM_ITEM_KEYS.items():
        own = [trial for trial in trials if trial.values["item_item.method"] == method]
        found |= {key: best(own).values[key] for key in keys if own}
    return found | {"item_item.method": config.item_item.method}


def _transformer_space(context: Context) -> Space:
    config = context.config.transformer
    sizes = [size for size in sorted({32, 64, 96, 128, *config.sizes}) if size % config.heads(size) == 0]
    return {
        "transformer.embedding_size": CategoricalDistribution(sizes),
        "transformer.blocks": IntDistribution(1, 3),
        "transformer.dropout": FloatDistribution(0.0, 0.6),
        "transformer.learning_rate": FloatDistribution(0.0003, 0.01, log=True),
        "transformer.negatives": IntDistribution(64, 1024, log=True),
        "transformer.adversary_radius": FloatDistribution(0.0, 0.3),
    }


def _judge_transformer(context: Context) -> float:
    train = context.lake.read("train_ratings")
    plans = make_plans(context, context.lake.read("user_sequences"), train)[:1]
    if not plans:
        raise InputError(
            "transformer: expected users with two items in sequence, found none; leave it out of --members"
        )
    (trained,) = fit.train(context, plans)
    delete_checkpoints(f"{context.work_dir}/checkpoints")
    found = [value for _, name, value in trained.history if name == "validation_ndcg"]
    if not found:
        raise InputError("transformer: expected validation users with a sequence to judge by, found none; leave it out")
    return max(found)


SEARCHES = {
    "als": Search("als_setting", _als_space, _judge_als, _chosen_als),
    "item_item": Search("item_item_choose", _item_item_space, _judge_item_item, _chosen_item_item, _every_method),
    "transformer": Search("transformer_choose", _transformer_space, _judge_transformer),
}
