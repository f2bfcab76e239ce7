"""What validation chooses of ALS, and how a rating becomes a confidence by it."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.models import Als
from ganrec_spark.recommenders.als.factors import AlsFactors
from ganrec_spark.recommenders.als.solver import Objective, fit_als

_SECONDS_PER_DAY = 86_400
_LEAST_DECAY = 1e-6  # a rating stays one, however old


@dataclass(frozen=True)
class AlsSetting:
    """One value of each key of section als that may list several; sizes and rates as documented there."""

    embedding_size: int
    regularisation: float
    alpha: float
    rating_scale: str = "raw"
    half_life_days: float | None = None
    dislike_weight: float = 0.0
    ignored_weight: float = 0.0
    implicit: bool = True

    def text(self) -> str:
        """Return the setting as JSON, keys in order; weights against items and implicit only where they are unusual."""
        usual = {"dislike_weight": 0.0, "ignored_weight": 0.0, "implicit": True}
        values = {key: value for key, value in asdict(self).items() if key not in usual or value != usual[key]}
        return json.dumps(values, sort_keys=True)

    @staticmethod
    def parsed(text: str) -> "AlsSetting":
        """Return the setting that `text` gave."""
        values: dict[str, Any] = json.loads(text)
        return AlsSetting(**values)


def chosen_setting(choices: DataFrame) -> AlsSetting:
    """Return the chosen setting, of table als_choices."""
    return AlsSetting.parsed(choices.where("chosen").collect()[0]["parameters"])


def latest_time(observed: DataFrame) -> float:
    """Return the newest `ts` of observed ratings in seconds: the present, from which ages are counted."""
    return float(observed.agg(F.max(F.col("ts").cast("double")).alias("latest")).collect()[0]["latest"] or 0.0)


def weighted(ratings: DataFrame, setting: AlsSetting, latest: float) -> DataFrame:
    """Return `ratings` (rating, ts and more) with each rating scaled and decayed: what alpha multiplies.

    log: sign(r) ln(1 + |r|), as Hu et al. 2008, eq. 6. half_life_days: a rating so much older than `latest` counts
    half; one without a time counts in full, and so does a younger one: of a dislike, or since the run.
    """
    rating = F.col("rating").cast("double")
    if setting.rating_scale == "log":
        rating = F.signum(rating) * F.log1p(F.abs(rating))
    if setting.half_life_days is not None:
        seconds = F.greatest(F.lit(latest) - F.col("ts").cast("double"), F.lit(0.0))
        decay = F.pow(F.lit(0.5), seconds / _SECONDS_PER_DAY / setting.half_life_days)
        rating = rating * F.greatest(decay, F.lit(_LEAST_DECAY))
    return ratings.withColumn("rating", rating.cast("float"))


def fit_setting(
    ratings: DataFrame,
    setting: AlsSetting,
    config: Als,
    latest: float,
    seed: int,
    checkpoint_dir: str,
    start: AlsFactors | None = None,
) -> AlsFactors:
    """Fit ALS with a setting on (user_idx, item_idx, rating, ts) rows, not yet weighted."""
    rows, objective = weighted(ratings, setting, latest), objective_of(setting, config, config.iterations, seed)
    return fit_als(rows, objective, config.solver, config.max_gathered_gib, checkpoint_dir, start)


def objective_of(setting: AlsSetting, config: Als, iterations: int, seed: int) -> Objective:
    """Return what ALS minimises with a setting, ratings weighted."""
    return Objective(setting.embedding_size, iterations, setting.regularisation, setting.alpha, config.implicit, seed)
