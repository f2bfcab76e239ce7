"""What a member says of its settings for `ganrec tune`: the TUNABLE of its room's module `tuning`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from ganrec_spark.config.sections import Config
from ganrec_spark.run.context import Context

Values = dict[str, Any]  # key, such as als.alpha -> value
Space = dict[str, BaseDistribution]


@dataclass(frozen=True)
class Trial:
    """One row of tuning_trials."""

    number: int
    values: Values
    ndcg: float
    seconds: float


def best(trials: list[Trial]) -> Trial:
    """Return the trial of the best NDCG@10, of equally good ones the first."""
    return max(trials, key=lambda trial: (trial.ndcg, -trial.number))


def value_of(config: Config, key: str) -> Any:
    """Return the value of `section.name`."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def choices(config: Config, keys: Iterable[str]) -> dict[str, list[Any]]:
    """Return the configured values of each key: those of a key that lists several, else its one."""
    values = {key: value_of(config, key) for key in keys}
    return {key: list(value) if isinstance(value, tuple) else [value] for key, value in values.items()}


def one_at_a_time(found: dict[str, list[Any]]) -> Iterator[Values]:
    """Yield each key's values in turn, the others at their first."""
    first = {key: values[0] for key, values in found.items()}
    yield first
    yield from (first | {key: value} for key, values in found.items() for value in values[1:])


@dataclass(frozen=True)
class Tunable:
    """What is tried for one member: key -> distribution, and the NDCG@10 of a context with values of them.

    `configured`: the settings that the configuration holds, of these keys. `chosen`: what the run's own search found.
    `found`: what is written of the trials.
    """

    space: Callable[[Context], Space]
    judge: Callable[[Context], float]
    configured: Callable[[Config, Iterable[str]], Iterator[Values]] = lambda config, keys: one_at_a_time(
        choices(config, keys)
    )
    chosen: Callable[[Context], list[Values]] = lambda _: []
    found: Callable[[Config, list[Trial]], Values] = lambda _, trials: best(trials).values
