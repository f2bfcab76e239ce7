"""The search for ALS's setting: fits that validation users judge, one key after the other, beyond the edge, too."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.models import Als
from ganrec_spark.evaluation.choice import search, simplest
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.frames import dislikes, ignored
from ganrec_spark.frames.best_products import best_products
from ganrec_spark.frames.histories import histories
from ganrec_spark.frames.top_n import Lists
from ganrec_spark.recommenders.als.factors import AlsFactors
from ganrec_spark.recommenders.als.setting import AlsSetting, latest_time, objective_of, weighted
from ganrec_spark.recommenders.als.solver import AlsRatings
from ganrec_spark.recommenders.judging import drawn_judges, judged_ndcg
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed

_MOST_STEPS = 4  # beyond an edge
# How far beyond the edge of a key's values the next one lies; keys are searched in this order: the best ridge hangs on
# the number of factors, and what follows the factors costs more with many of them.
_FACTORS = {
    "alpha": 3.0,
    "rating_scale": None,
    "half_life_days": None,
    "dislike_weight": None,
    "ignored_weight": None,
    "embedding_size": 2.0,
    "regularisation": 4.0,
}
_LEAST_GAIN = 0.05  # of twice the factors, which cost twice the time in every fit to come


class AlsJudges:
    """Fits settings on train_ratings; judges are validation users that have a history, at most 10,000 by hash."""

    def __init__(self, context: Context) -> None:
        read = context.lake.read
        # Read by every fit.
        self._context, self.train = context, read("train_ratings").cache()
        self.dislikes = dislikes.of_phase(read("known_dislikes"), self.train, "choose")
        self.ignored = ignored.of_phase(read("known_ignored"), self.train, "choose")
        self._latest = latest_time(self.train)
        self._prepared: dict[tuple[str, float | None, float, float], AlsRatings] = {}
        held_out, disliked = read("validation_ratings"), self.dislikes
        self._judged = drawn_judges(
            self.train, held_out, "als", context.seed, lambda own: dislikes.never_listed(histories(own), disliked)
        )
        self._ids = context.spark.createDataFrame(self._judged.select(["user_idx"])).cache()

    @property
    def is_empty(self) -> bool:
        """Return whether nobody can judge."""
        return bool(self._judged.num_rows == 0)

    def close(self) -> None:
        """Let go of the cached rows."""
        for prepared in self._prepared.values():
            prepared.close()
        for rows in (self._ids, self.train):
            rows.unpersist()

    def fit(self, setting: AlsSetting, iterations: int | None = None, start: AlsFactors | None = None) -> AlsFactors:
        """Return the fit of a setting; without `iterations` of as many as compare it with others."""
        config, seed = self._context.config.als, stable_seed(self._context.seed, "als")
        against = (setting.dislike_weight, setting.ignored_weight)
        weighing = (setting.rating_scale, setting.half_life_days, *against)
        if weighing not in self._prepared:
            rows = dislikes.learned(self.train, self.train, self.dislikes, setting.dislike_weight, config.implicit)
            rows = ignored.learned(rows, self.train, self.ignored, setting.ignored_weight, config.implicit)
            rows = weighted(rows, setting, self._latest)
            self._prepared[weighing] = AlsRatings(rows, config.implicit)
        objective = objective_of(setting, config, iterations or min(config.search_iterations, config.iterations), seed)
        checkpoints = f"{self._context.work_dir}/mllib"
        return self._prepared[weighing].fit(objective, config.solver, config.max_gathered_gib, checkpoints, start)

    def ndcg(self, fitted: AlsFactors) -> NDArray[np.float64]:
        """Return the NDCG@10 of a fit by each judge."""
        own = fitted.users_here(self._ids).combine_chunks()
        places = pc.index_in(self._judged["user_idx"], own["user_idx"].combine_chunks())
        items, known = fitted.item_slots()
        # One row more, at -1, for those without a vector: they are listed nothing.
        vectors = np.zeros((own.num_rows + 1, items.shape[1]), dtype=np.float32)
        vectors[:-1] = own["factors"].combine_chunks().flatten().to_numpy().reshape(-1, items.shape[1])

        def best(block: pa.RecordBatch, seen: Sequence[NDArray[np.integer[Any]]], n: int) -> Lists:
            place = block.column("place").to_numpy()
            listed, values = best_products(vectors[place], items, known, seen, n)
            nothing: tuple[NDArray[np.int32], NDArray[np.float32]] = listed[0][:0], values[0][:0]
            pairs = zip(listed, values, place >= 0, strict=True)
            own = [(these, theirs) if has_vector else nothing for these, theirs, has_vector in pairs]
            return [these for these, _ in own], [theirs for _, theirs in own]

        placed = self._judged.append_column("place", pc.fill_null(places, -1)).combine_chunks()
        return judged_ndcg(placed.to_batches(), best, JUDGED_K)


def idle_keys(ratings: DataFrame, disliked: DataFrame | None = None, shown: DataFrame | None = None) -> frozenset[str]:
    """Return the keys of which every value gives the same fits: half-lives of one time, scales of one rating.

    And weights of dislikes, and of items that were shown and ignored, where there is none.
    """
    second = F.unix_timestamp("ts")  # a microsecond's difference is an order (ingest.tie_order), no age
    bounds = (F.min(second).eqNullSafe(F.max(second)), F.min("rating") == F.max("rating"))
    same = ratings.agg(*bounds).collect()[0]
    keys = ("half_life_days", "rating_scale", "dislike_weight", "ignored_weight")
    found = (*same, disliked is None, shown is None)
    return frozenset(key for key, idle in zip(keys, found, strict=True) if idle)


def first_setting(config: Als, idle: Collection[str] = ()) -> AlsSetting:
    """Return the setting of every key's first value."""
    values = {key: values[0] for key, values in _choices(config, idle).items()}
    return AlsSetting(**values, implicit=config.implicit)


def fixed_values(config: Als) -> dict[str, Any]:
    """Return the keys that are no choice, with their value."""
    return {key: values[0] for key, values in _choices(config, ()).items() if len(values) == 1}


def _choices(config: Als, idle: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values to try by key, in the order of the search; explicit ALS has no confidence to choose."""
    values: dict[str, tuple[Any, ...]] = {key: getattr(config, key) for key in _FACTORS}
    if not config.implicit:
        values |= {"alpha": config.alpha[:1], "rating_scale": ("raw",), "half_life_days": (None,)}
        values |= {"ignored_weight": (0.0,)}
    return values | {key: (None,) if key == "half_life_days" else values[key][:1] for key in idle}


@dataclass
class AlsSearch:
    """A search by coordinates: one key after the other, the others at the best so far.

    `score` gives the NDCG@10 of a setting by each judge. Of a key's values the first is taken that is within one
    standard error of the best (evaluation.choice.simplest): few judges know no better than the order of the values.
    A key with several values is never left at the smallest or largest of them while the next one beyond is chosen
    (embedding_size: up to als.max_embedding_size). More factors than the first value have to gain 5 % a doubling.
    A key with one value keeps it, and an idle one (`idle_keys`) its first.
    """

    config: Als
    score: Callable[[AlsSetting], NDArray[np.float64]]
    idle: Collection[str] = ()
    found: dict[AlsSetting, NDArray[np.float64]] = field(default_factory=dict)

    def best(self) -> AlsSetting:
        """Return the setting that is chosen; if there is but one it is not scored."""
        best = first_setting(self.config, self.idle)
        for key, values in _choices(self.config, self.idle).items():
            if len(values) > 1:
                best = self._along(key, values, best)
        return best

    def _along(self, key: str, values: tuple[Any, ...], best: AlsSetting) -> AlsSetting:
        def scored(value: Any) -> NDArray[np.float64]:
            scores = self._scored(replace(best, **{key: value}))
            doublings = math.log2(value / values[0]) if key == "embedding_size" else 0.0
            return scores * math.pow(1 + _LEAST_GAIN, -max(doublings, 0.0))

        def beyond(top: Any, tried: Collection[Any]) -> Any:
            return None if len(tried) == len(values) + _MOST_STEPS else self._beyond(key, top, tried)

        return replace(best, **{key: search(values, scored, simplest, beyond)})

    def _beyond(self, key: str, top: Any, tried: Collection[Any]) -> Any:
        """Return the next value beyond the chosen one where that is the smallest or largest number, else None."""
        factor = _FACTORS[key]
        if factor is None or min(tried) < top < max(tried):
            return None
        beyond = float(f"{top * factor if top == max(tried) else top / factor:.6g}")
        if key != "embedding_size":
            return beyond
        return int(beyond) if 1 <= beyond <= self.config.max_embedding_size else None

    def _scored(self, setting: AlsSetting) -> NDArray[np.float64]:
        if setting not in self.found:
            self.found[setting] = self.score(setting)
        return self.found[setting]
