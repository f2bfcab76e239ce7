"""The search for item_item's setting: methods, their grids and what lies beyond, judged by validation users.

What is tried later has to be ahead of the best so far by more than the standard error of the difference
(evaluation.choice.is_ahead); a mixture of the two best methods only must not be behind by more than that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.models import ItemItem
from ganrec_spark.errors import TrainingError
from ganrec_spark.evaluation.choice import foremost, highest, is_ahead, search
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.frames.histories import lists, with_ages
from ganrec_spark.recommenders.catalogue import by_score
from ganrec_spark.recommenders.item_item.alike import Alike
from ganrec_spark.recommenders.item_item.fit import (
    DAMPING,
    HISTORY_HALF_LIFE,
    LIKENESS,
    MIX,
    PAIR_HALF_LIFE,
    RATING_SLOPE,
    SECOND_WEIGHT,
    Fitter,
    ItemItemSetting,
    as_json,
    half_life_of,
    slope_of,
)
from ganrec_spark.recommenders.item_item.grids import LAMBDA, RANK, half_the_rank, next_lambda, shorter
from ganrec_spark.recommenders.item_item.profiles import profile_matrix, profiles, rating_moments
from ganrec_spark.recommenders.item_item.scoring import by_weights
from ganrec_spark.recommenders.item_item.weights import Weights, mixed, products
from ganrec_spark.recommenders.judging import drawn_judges, judged_ndcg
from ganrec_spark.seeding import stable_seed

_BLOCK = 512


@dataclass(frozen=True)
class Found:
    """The best setting of a method, its weights, and what they reach with each judge [U], None without judges."""

    values: NDArray[np.float64] | None
    setting: ItemItemSetting
    weights: Weights

    @property
    def mean(self) -> float:
        """Return the mean over judges, 0 without."""
        return 0.0 if self.values is None else float(self.values.mean())


class ItemItemSearch:
    """Settings of one variant of merged_ratings with their NDCG@10 on validation users, and the best one's weights."""

    def __init__(
        self,
        config: ItemItem,
        ratings: DataFrame,
        item_idx: NDArray[np.int32],
        held_out: DataFrame | None,
        seed: int,
        log: Callable[[str], None],
        alike: Alike | None = None,
    ) -> None:
        """Begin with the first values of the configuration; without `held_out` ratings nothing is measured.

        `alike`: what items are alike by; None where nothing is.
        """
        self._config, self._ratings, self._item_idx = config, ratings, item_idx
        self._held_out, self._seed, self._log, self._alike = held_out, seed, log, alike
        self._fitter = Fitter(config, stable_seed(seed, "gfcf"), ratings, item_idx)
        self._history, self._pair = config.history_half_life_visits[0], config.pair_half_life_visits[0]
        self._slope, self._damping = config.rating_slope[0], config.ease_damping[0]
        self._judges_by: dict[float, list[pa.RecordBatch]] = {}
        self.judged = bool(self.judges(self._slope))
        self.tried: list[tuple[ItemItemSetting, float | None]] = []
        self._values: dict[str, NDArray[np.float64] | None] = {}  # by setting as JSON, of those in `tried`
        self._best: dict[str, Found] = {}  # by method
        self._better: Found | None = None  # than every method's best: a mixture, or one of them with likeness
        self._fitted: tuple[ItemItemSetting, Weights] | None = None
        self._timed = has_ages(self.judges(self._slope))

    def judges(self, slope: float) -> list[pa.RecordBatch]:
        """Return the users who judge, their ratings counting by this slope."""
        if self._held_out is None:
            return []
        if slope not in self._judges_by:
            all_of_them = rating_moments(self._ratings)

            def gathered(own: DataFrame) -> DataFrame:
                return with_ages(profiles(own, slope, all_of_them), own)

            found = drawn_judges(self._ratings, self._held_out, "item_item", self._seed, gathered)
            self._judges_by[slope] = [rows for rows in found.to_batches() if rows.num_rows]
        return self._judges_by[slope]

    @property
    def best(self) -> tuple[ItemItemSetting, Weights]:
        """Return the best setting and its weights."""
        if not self._best:
            raise ValueError("settings must not be empty")
        best = self._found()
        return best.setting, best.weights

    def _found(self) -> Found:
        return self._better or max(self._best.values(), key=lambda one: one.mean)

    def shared(self, setting: ItemItemSetting) -> ItemItemSetting:
        """Return what holds for all settings, as far as this one's method knows it: half-lives, slope, damping."""
        chosen = {HISTORY_HALF_LIFE: self._history, RATING_SLOPE: self._slope or None}
        if setting["method"] == "ease":
            chosen |= {DAMPING: self._damping or None, PAIR_HALF_LIFE: self._pair}
        return {key: value for key, value in chosen.items() if value is not None}

    def all(self, settings: Sequence[ItemItemSetting]) -> None:
        """Try the settings, and what may go with the best of them.

        The half-life of histories is chosen with the first setting, for all, the slope of ratings with the first
        method's best one. Where EASE's best lambda is the smallest or largest of several, the search goes on beyond it,
        and the best one is tried damped and with pairs near in time; GF-CF's rank is halved while that is better. At
        last the best methods' mixtures are tried, and what came of it with items that are alike counting more. What few
        judges cannot tell apart is left as it was, or mixed.
        """
        self.half_lives(settings[0])
        for method in dict.fromkeys(str(setting["method"]) for setting in settings):
            self.method([setting for setting in settings if setting["method"] == method])
        self.mix(self._config.mix_shares)
        self.likeness()

    def half_lives(self, setting: ItemItemSetting) -> None:
        """Choose the half-life of histories with one setting, where users have rated at different times."""
        half_lives = self._config.history_half_life_visits
        if not self._timed or len(half_lives) < 2:
            return

        def judge(value: float | None) -> NDArray[np.float64]:
            self._history = value
            return self._judge(setting)

        self._history = search(half_lives, judge, foremost, shorter)

    def method(self, settings: list[ItemItemSetting]) -> None:
        """Try one method's settings, and what lies beyond the edge of them."""
        first, method = settings[0], str(settings[0]["method"])
        if self.judged and method == "ease":
            listed = [float(setting[LAMBDA]) for setting in settings]

            def judge(value: float) -> NDArray[np.float64]:
                setting = first | {LAMBDA: value}
                return self._judge(setting) if value in listed else self._attempt(setting | self.shared(setting))

            search(listed, judge, highest, next_lambda)
        else:
            if self.judged and RANK in first:
                largest = int(first[RANK])
                ranked = search([largest], lambda rank: self._judge(first | {RANK: rank}), foremost, half_the_rank)
                settings = [setting | {RANK: ranked} for setting in settings]
            for setting in settings:
                self._judge(setting)
        if self.judged and len(self._best) == 1:
            self._rating_slope(method)
        if self.judged and method == "ease":
            self._ease_damping()
        if self._timed and method == "ease":
            self._pair_half_life()

    def _rating_slope(self, method: str) -> None:
        """Try the method's best setting with ratings that count by their height, where they differ."""
        slopes = self._config.rating_slope
        if len(slopes) < 2 or not ratings_differ(self._ratings):
            return
        setting = {key: of for key, of in self._best[method].setting.items() if key != RATING_SLOPE}
        for slope in slopes[1:]:
            self._attempt(setting | {RATING_SLOPE: slope})
        self._slope = slope_of(self._best[method].setting)
        self._fitter.keep(self._slope)

    def _ease_damping(self) -> None:
        """Try EASE's best setting with users and items of many ratings damped."""
        setting = {key: of for key, of in self._best["ease"].setting.items() if key != DAMPING}
        for damping in self._config.ease_damping[1:]:
            self._attempt(setting | {DAMPING: damping})

    def _pair_half_life(self) -> None:
        """Try EASE's best lambda with pairs near in time."""
        best = self._best["ease"].setting
        for other in self._config.pair_half_life_visits[1:]:
            setting = {key: found for key, found in best.items() if key != PAIR_HALF_LIFE}
            self._attempt(setting if other is None else setting | {PAIR_HALF_LIFE: other})

    def mix(self, shares: Sequence[float]) -> None:
        """Try to mix the two best methods: the second one's scores get these shares.

        The best of the mixtures is taken unless the best method is ahead of it: which of two methods is the better one,
        few judges know less well than that both are good.
        """
        if not self.judged or len(self._best) < 2:
            return
        first, second = sorted(self._best.values(), key=lambda one: -one.mean)[:2]
        self._fitted = None  # dense, maybe: its memory is needed
        ratio = self._spread(first.weights) / (self._spread(second.weights) or 1.0)
        method = f"{first.setting['method']}{MIX}{second.setting['method']}"
        for share in shares:
            setting = second.setting | first.setting | {"method": method, SECOND_WEIGHT: share / (1 - share) * ratio}
            weights = mixed(first.weights, second.weights, float(setting[SECOND_WEIGHT]))
            values = self._measure(setting, weights)
            known = first.values
            behind = values is None or known is None or np.array_equal(values, known) or is_ahead(known, values)
            mixture = Found(values, setting, weights)
            if not behind and (self._better is None or mixture.mean > self._better.mean):
                self._better = mixture

    def likeness(self) -> None:
        """Try the best setting so far with items that are alike counting more, where anything is known of items."""
        if self._alike is None:
            return
        self._fitted = None
        plain, (first, *others) = self._found(), self._config.likeness
        self._better = self._raised(plain, first, self._alike)
        for strength in others if self.judged else ():
            found, best = self._raised(plain, strength, self._alike), self._better
            if found.values is not None and best.values is not None and is_ahead(found.values, best.values):
                self._better = found

    def _raised(self, plain: Found, strength: float, alike: Alike) -> Found:
        if not strength:
            return plain
        setting, weights = plain.setting | {LIKENESS: strength}, alike.believed(plain.weights, strength)
        return Found(self._measure(setting, weights), setting, weights)

    def _spread(self, weights: Weights) -> float:
        """Return how far a user's scores are apart: their standard deviation, the mean over some judges."""
        block = self.judges(self._slope)[0].slice(0, _BLOCK)
        scores = products(profile_matrix(block, self._item_idx, self._history).astype(np.float32), weights)
        return float(scores.std(axis=1).mean())

    def _judge(self, setting: ItemItemSetting) -> NDArray[np.float64]:
        """Return what each judge makes of a setting and what all share; without judges one 0."""
        return self._judged(setting | self.shared(setting))

    def _judged(self, setting: ItemItemSetting) -> NDArray[np.float64]:
        self.score(setting)
        values = self._values[as_json(setting)]
        return np.zeros(1) if values is None else values

    def _attempt(self, setting: ItemItemSetting) -> NDArray[np.float64]:
        """Return what each judge makes of a setting that nobody asked for; where it cannot be fitted, say so: -inf."""
        try:
            return self._judged(setting)
        except TrainingError as error:
            self._log(f"{as_json(setting)}: {error}")
            return np.full(1, -np.inf)

    def score(self, setting: ItemItemSetting) -> float | None:
        """Return a setting's NDCG@10, None where nobody can judge."""
        known = next((value for one, value in self.tried if one == setting), None)
        if known is not None:
            return known
        ranking = {key: value for key, value in setting.items() if key != HISTORY_HALF_LIFE}
        if self._fitted is None or self._fitted[0] != ranking:
            self._fitted = None
            self._fitted = ranking, self._fitter.fit(setting)
        weights = self._fitted[1]
        values, method = self._measure(setting, weights), str(setting["method"])
        best = self._best.get(method)
        if best is None or (values is not None and best.values is not None and is_ahead(values, best.values)):
            self._best[method] = Found(values, setting, weights)
        return None if values is None else float(values.mean())

    def _measure(self, setting: ItemItemSetting, weights: Weights) -> NDArray[np.float64] | None:
        """Return the NDCG@10 of a setting's weights by each judge [U], and note it."""
        score = by_weights(self._item_idx, weights, half_life_of(setting))
        values = judged_ndcg(self.judges(slope_of(setting)), by_score(score), JUDGED_K) if self.judged else None
        self._values[as_json(setting)] = values
        self.tried.append((setting, None if values is None else float(values.mean())))
        self._log(as_json(setting) + ("" if values is None else f": validation NDCG@{JUDGED_K} {values.mean():.4f}"))
        return values


def has_ages(judged: list[pa.RecordBatch]) -> bool:
    """Return whether any of the users has rated at more than one time."""
    return any(len(ages) > 0 and ages.max() > 0 for batch in judged for ages in lists(batch, "ages"))


def ratings_differ(ratings: DataFrame) -> bool:
    """Return whether not all observed ratings are the same."""
    bounds = ratings.agg((F.min("rating") < F.max("rating")).alias("differ"))
    return bool(bounds.collect()[0]["differ"])
