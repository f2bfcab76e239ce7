"""Choose ALS's setting on validation users, without fill, for the gate and for the recommender alike."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config import Als
from ganrec_spark.context import Context
from ganrec_spark.distributed.als import AlsFactors, by_factors, factor_rows
from ganrec_spark.distributed.als_setting import Setting, fit_setting, latest_time
from ganrec_spark.distributed.quality import mean_ndcg
from ganrec_spark.distributed.ranking import histories, rank_catalogue
from ganrec_spark.seeding import stable_seed

_K = 10
_MOST_STEPS = 4  # beyond an edge
# How far beyond the edge of a key's values the next one lies; in this order keys are searched: fits of many factors,
# which take longest, come last.
_FACTORS = {"alpha": 3.0, "rating_scale": None, "half_life_days": None, "regularisation": 2.0, "embedding_size": 2.0}


def run(context: Context) -> str:
    """Write als_choices and als_unfilled_factors, the factors of the best NDCG@10 on validation."""
    lake, judge = context.lake, Judge(context)
    best_fit: dict[Setting, AlsFactors] = {}

    def score(setting: Setting) -> float:
        fitted = judge.fit(setting)
        value = judge.ndcg(fitted)
        context.log(f"{setting.text()}: validation NDCG@{_K} {value:.4f}")
        if value > max(search.found.values(), default=-1.0):
            best_fit.clear()
            best_fit[setting] = fitted
        return value

    search = Search(context.config.als, score, timed=has_times(judge.train))
    best = first_setting(context.config.als) if judge.users.isEmpty() else search.best()
    fitted = best_fit[best] if best in best_fit else judge.fit(best)
    lake.write("als_unfilled_factors", factor_rows(context.spark, fitted))
    rows = [(setting.text(), value, setting == best) for setting, value in search.found.items()]
    lake.write("als_choices", lake.frame("als_choices", rows or [(best.text(), None, True)]))
    return f"{best.text()}, {f'the best of {len(rows)}' if rows else 'the only one'}"


class Judge:
    """Fits settings on train_ratings and judges them on the validation users that have a history."""

    def __init__(self, context: Context) -> None:
        read = context.lake.read
        self._context, self.train, self._held_out = context, read("train_ratings"), read("validation_ratings")
        self._latest = latest_time(self.train)
        judged = self._held_out.select("user_idx").distinct()
        self.users = histories(self.train).join(judged, "user_idx", "left_semi")

    def fit(self, setting: Setting) -> AlsFactors:
        """Return the fit of a setting."""
        seed, checkpoints = stable_seed(self._context.seed, "als"), f"{self._context.work_dir}/mllib"
        return fit_setting(self.train, setting, self._context.config.als, self._latest, seed, checkpoints)

    def ndcg(self, fitted: AlsFactors) -> float:
        """Return the mean NDCG@10 of a fit."""
        rows = self.users.join(fitted.users, "user_idx")
        ranked = rank_catalogue(rows, by_factors(self._context.spark, fitted), _K)
        return mean_ndcg(ranked, self._held_out, _K)


def has_times(ratings: DataFrame) -> bool:
    """Return whether ratings differ in time: without, every half-life is the same."""
    first, last = ratings.agg(F.min("ts"), F.max("ts")).collect()[0]
    return bool(first != last)


def first_setting(config: Als, timed: bool = True) -> Setting:
    """Return the setting of every key's first value."""
    return Setting(**{key: values[0] for key, values in _choices(config, timed).items()})


def _choices(config: Als, timed: bool) -> dict[str, tuple[Any, ...]]:
    """Return the values to try by key, in the order of the search; explicit ALS has no confidence to choose."""
    values: dict[str, tuple[Any, ...]] = {key: getattr(config, key) for key in _FACTORS}
    if not config.implicit:
        values |= {"alpha": config.alpha[:1], "rating_scale": ("raw",), "half_life_days": (None,)}
    return values if timed else values | {"half_life_days": (None,)}


@dataclass
class Search:
    """A search by coordinates: one key after the other, the others at the best so far.

    A key with several values is never left at the smallest or largest of them while the next one beyond is better
    (embedding_size: up to als.max_embedding_size). A key with one value keeps it.
    """

    config: Als
    score: Callable[[Setting], float]
    timed: bool = True
    found: dict[Setting, float] = field(default_factory=dict)

    def best(self) -> Setting:
        """Return the best setting, of equals the first; if there is but one it is not scored."""
        best = first_setting(self.config, self.timed)
        for key, values in _choices(self.config, self.timed).items():
            if len(values) > 1:
                best = self._along(key, values, best)
        return best

    def _along(self, key: str, values: tuple[Any, ...], best: Setting) -> Setting:
        tried = {value: self._scored(replace(best, **{key: value})) for value in values}
        for _ in range(_MOST_STEPS):
            beyond = self._beyond(key, tried)
            if beyond is None:
                break
            tried[beyond] = self._scored(replace(best, **{key: beyond}))
        return replace(best, **{key: max(tried, key=lambda value: tried[value])})

    def _beyond(self, key: str, tried: dict[Any, float]) -> Any:
        """Return the next value beyond the best one where that is the smallest or largest number, else None."""
        top, factor = max(tried, key=lambda value: tried[value]), _FACTORS[key]
        if factor is None or min(tried) < top < max(tried):
            return None
        beyond = top * factor if top == max(tried) else top / factor
        if key != "embedding_size":
            return beyond
        return int(beyond) if 1 <= beyond <= self.config.max_embedding_size else None

    def _scored(self, setting: Setting) -> float:
        if setting not in self.found:
            self.found[setting] = round(self.score(setting), 10)
        return self.found[setting]
