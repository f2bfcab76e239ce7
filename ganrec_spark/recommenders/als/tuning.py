"""How `ganrec tune` searches ALS's settings."""

from dataclasses import asdict

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ganrec_spark.recommenders.als.search import AlsJudges, first_setting
from ganrec_spark.recommenders.als.setting import chosen_setting
from ganrec_spark.recommenders.searched import Space, Tunable, Values
from ganrec_spark.run.context import Context


def _space(context: Context) -> Space:
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
    if not context.lake.read("known_ignored").isEmpty():
        weights = {0.0, 0.01, 0.03, 0.1, 0.3, 1.0, *als.ignored_weight}
        space["als.ignored_weight"] = CategoricalDistribution(sorted(weights))
    return space | {
        "als.alpha": FloatDistribution(0.01, 1000.0, log=True),
        "als.rating_scale": CategoricalDistribution(["raw", "log"]),
        "als.half_life_days": CategoricalDistribution([None, *sorted(half_lives)]),
    }


def _judge(context: Context) -> float:
    judge, config = AlsJudges(context), context.config.als
    ndcg = float(judge.ndcg(judge.fit(first_setting(config), config.iterations)).mean())
    judge.close()
    return ndcg


def _chosen(context: Context) -> list[Values]:
    setting = asdict(chosen_setting(context.lake.read("als_choices", "choose")))
    return [{key: setting[key.partition(".")[2]] for key in _space(context)}]


TUNABLE = Tunable(_space, _judge, chosen=_chosen)
