"""How `ganrec tune` searches the Transformer's settings; its first seed is judged."""

from collections.abc import Iterable, Iterator

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError
from ganrec_spark.recommenders.searched import Space, Tunable, Values, choices, one_at_a_time
from ganrec_spark.recommenders.transformer import fit
from ganrec_spark.recommenders.transformer.plans import make_plans
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import delete_checkpoints


def _space(context: Context) -> Space:
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


def _judge(context: Context) -> float:
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


def _configured(config: Config, keys: Iterable[str]) -> Iterator[Values]:
    """Yield each key's values in turn; where the size is auto, those that it may stand for."""
    found = choices(config, keys)
    sizes = {"transformer.embedding_size": list(config.transformer.sizes)}
    yield from one_at_a_time(found | {key: values for key, values in sizes.items() if key in found})


TUNABLE = Tunable(_space, _judge, _configured)
