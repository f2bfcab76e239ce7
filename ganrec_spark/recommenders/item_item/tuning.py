"""How `ganrec tune` searches the item-item models' settings."""

import json
from collections.abc import Iterable, Iterator

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.item_item import grids, search
from ganrec_spark.recommenders.item_item.fit import MIX
from ganrec_spark.recommenders.item_item.profiles import item_axis
from ganrec_spark.recommenders.searched import Space, Trial, Tunable, Values, best, choices
from ganrec_spark.run.context import Context

_KEYS: dict[str, Space] = {
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


def _space(context: Context) -> Space:
    merged = context.lake.read("merged_ratings")
    methods = grids.methods(context.config.item_item, len(item_axis(merged)))
    config = context.config.item_item
    configured = [value for value in config.history_half_life_visits if value is not None]
    half_lives = sorted({0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, *configured})
    pairs = sorted(
        {2.0, 5.0, 10.0, 20.0, 50.0, *(value for value in config.pair_half_life_visits if value is not None)}
    )
    space: Space = {
        "item_item.method": CategoricalDistribution(methods),
        "item_item.history_half_life_visits": CategoricalDistribution([None, *half_lives]),
        "item_item.pair_half_life_visits": CategoricalDistribution([None, *pairs]),
    }
    if search.ratings_differ(merged):
        space["item_item.rating_slope"] = FloatDistribution(0.0, 0.4)
    return space | {key: kind for method in methods for key, kind in _KEYS[method].items()}


def _judge(context: Context) -> float:
    merged, held_out = context.lake.read("merged_ratings"), context.lake.read("validation_ratings")
    config, ratings = context.config.item_item, merged.where(F.col("fill") == NONE)
    tried = search.ItemItemSearch(config, ratings, item_axis(merged), held_out, context.seed, context.log)
    (setting,) = grids.grid(config, (config.method,))
    return tried.score(setting | tried.shared(setting)) or 0.0


def _chosen(context: Context) -> list[Values]:
    rows = context.lake.read("item_item_choices", phase="choose").where("chosen").collect()
    first = next(_configured(context.config, _space(context)))
    absent = {"rating_slope": 0.0, "ease_damping": 0.0}  # a setting leaves out what it does not use
    settings = [
        {f"item_item.{key}": value for key, value in (absent | json.loads(row["parameters"])).items()} for row in rows
    ]
    for setting in settings:  # of a mixture the better half
        setting["item_item.method"] = setting["item_item.method"].partition(MIX)[0]
    return [first | {key: value for key, value in setting.items() if key in first} for setting in settings]


def _configured(config: Config, keys: Iterable[str]) -> Iterator[Values]:
    """Yield the settings that the stage tries, keys of other methods at their first value."""
    found = choices(config, keys)
    first = {key: values[0] for key, values in found.items()}
    methods = [method for method, own in _KEYS.items() if own.keys() <= found.keys()]
    for setting in grids.grid(config.item_item, methods):
        named = {f"item_item.{name}": value for name, value in setting.items()}
        yield first | {key: value for key, value in named.items() if key in first}


def _every_method(config: Config, trials: list[Trial]) -> Values:
    """Return the best trial's values with each method's own best ones: the run tries its methods' mixtures, too."""
    found = dict(best(trials).values)
    for method, keys in _KEYS.items():
        own = [trial for trial in trials if trial.values["item_item.method"] == method]
        found |= {key: best(own).values[key] for key in keys if own}
    return found | {"item_item.method": config.item_item.method}


TUNABLE = Tunable(_space, _judge, _configured, _chosen, _every_method)
