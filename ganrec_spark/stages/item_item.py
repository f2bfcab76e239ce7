"""Fit EASE (where the catalogue fits), RP3beta, GF-CF and a mixture; rank the catalogue by the best on validation."""

import json
from collections.abc import Callable, Collection, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config import ItemItem
from ganrec_spark.context import Context
from ganrec_spark.distributed.item_item import by_weights, item_axis, profile_matrix, profiles, ship_weights
from ganrec_spark.distributed.item_item_fit import (
    DAMPING,
    MIX,
    PAIR_HALF_LIFE,
    RATING_SLOPE,
    SECOND_WEIGHT,
    Fitter,
    Setting,
    slope_of,
)
from ganrec_spark.distributed.ranking import histories, judged_ndcg, judged_users, lists, rank_catalogue, with_ages
from ganrec_spark.errors import TrainingError
from ganrec_spark.fills import NONE, fill_variants, of_variant
from ganrec_spark.models.item_weights import Weights, columns, mixed, products
from ganrec_spark.ranking.top_n import top_n
from ganrec_spark.seeding import stable_seed

_K = 10
_BLOCK = 512
_LAMBDA, _MOST_LAMBDAS = "ease_regularisation", 7
HISTORY_HALF_LIFE, _SHORTEST = "history_half_life", 0.25
_RANK, _LEAST_RANK = "gfcf_rank", 16
_LEAST_GAIN = 0.01  # of what costs more: a mixture, pairs near in time


def run(context: Context) -> str:
    """Write item_item_choices, item_item_weights and item_item_candidates of the phase."""
    lake, config = context.lake, context.config.item_item
    merged = lake.read("merged_ratings")
    item_idx = item_axis(merged)
    weights: dict[str, Weights] = {}
    if context.phase == "choose":
        settings = grid(config, methods(config, len(item_idx)))
        setting, weights[NONE] = best_setting(context, of_variant(merged, NONE), item_idx, settings)
    else:
        setting = chosen_setting(context)
    fills = fill_variants(merged, "item_item" in context.config.merge.fill_members)
    ranked, strongest = [], []
    for fill in fills:
        ratings = of_variant(merged, fill)
        users = profiles(ratings, slope_of(setting))
        if fill not in weights:
            weights[fill] = Fitter(config, stable_seed(context.seed, "gfcf"), ratings, item_idx).fit(setting)
        # One fill at a time: a dense matrix of weights is the largest thing on the driver.
        fitted = weights.pop(fill)
        strongest.append(weight_rows(context, fill, fitted, item_idx))
        half_life = half_life_of(setting)
        rows = users if half_life is None else with_ages(users, ratings)
        ranked.append(candidates(context, merged, rows, fill, fitted, item_idx, half_life))
    lake.write("item_item_weights", reduce(DataFrame.unionAll, strongest))
    n_lists = lake.write("item_item_candidates", reduce(DataFrame.unionAll, ranked))
    return f"{n_lists} lists, {len(item_idx)} items, fill {' and '.join(fills)}, {_text(setting)}"


def methods(config: ItemItem, n_items: int) -> tuple[str, ...]:
    """Return the methods to try: in auto all whose matrices of so many items the driver is allowed to hold."""
    if config.method != "auto":
        return (config.method,)
    limits = {"ease": config.max_exact_items, "rp3beta": n_items, "gfcf": config.max_graph_items}
    return tuple(method for method, limit in limits.items() if n_items <= limit)


def grid(config: ItemItem, tried: Collection[str]) -> list[Setting]:
    """Return the settings of the methods in `tried`, named as in the configuration."""
    settings: dict[str, list[Setting]] = {
        "ease": [{_LAMBDA: value} for value in config.ease_regularisation],
        "rp3beta": [{"rp3_alpha": config.rp3_alpha, "rp3_beta": beta} for beta in config.rp3_beta],
        "gfcf": [{_RANK: config.gfcf_rank, "gfcf_weight": weight} for weight in config.gfcf_weight],
    }
    return [{"method": method, **setting} for method in settings if method in tried for setting in settings[method]]


def chosen_setting(context: Context) -> Setting:
    """Return the setting that phase choose chose, and write it as the one of this phase."""
    chosen = context.lake.read("item_item_choices", phase="choose").where("chosen")
    context.lake.write("item_item_choices", chosen)
    setting: Setting = json.loads(chosen.collect()[0]["parameters"])
    return setting


def best_setting(
    context: Context, ratings: DataFrame, item_idx: NDArray[np.int32], settings: list[Setting]
) -> tuple[Setting, Weights]:
    """Try the settings on validation users, write item_item_choices; return the best of NDCG@10 and its weights.

    The half-life of histories is chosen with the first setting, for all, the slope of ratings with the first method's
    best one. Where EASE's best lambda is the smallest or largest of several, the search goes on beyond it, and the best
    one is tried damped and with pairs near in time; GF-CF's rank is halved while that is better. At last the best
    methods' mixtures are tried. A setting without alternatives is taken as it is, its ndcg is NULL.
    """
    config = context.config.item_item
    alternatives = config.history_half_life, config.rating_slope, config.ease_damping, config.pair_half_life
    several = max(len(settings), *(len(values) for values in alternatives)) > 1
    search = Search(context, ratings, item_idx, judged=several)
    search.half_lives(settings[0])
    for method in dict.fromkeys(str(setting["method"]) for setting in settings):
        search.method([setting for setting in settings if setting["method"] == method])
    search.mix(config.mix_shares)
    best, weights = search.best
    rows = [(_text(setting), score, setting == best) for setting, score in search.tried]
    context.lake.write("item_item_choices", context.lake.frame("item_item_choices", rows))
    return best, weights


class Search:
    """Settings of one variant of merged_ratings with their NDCG@10 on validation users, and the best one's weights."""

    def __init__(self, context: Context, ratings: DataFrame, item_idx: NDArray[np.int32], judged: bool = True) -> None:
        """Begin with the first values of the configuration; without `judged` nothing is measured."""
        self._context, self._ratings, self._item_idx = context, ratings, item_idx
        config = context.config.item_item
        self._fitter = Fitter(config, stable_seed(context.seed, "gfcf"), ratings, item_idx)
        self._history, self._pair = config.history_half_life[0], config.pair_half_life[0]
        self._slope, self._damping = config.rating_slope[0], config.ease_damping[0]
        self._judges_by: dict[float, list[pa.RecordBatch]] = {} if judged else {self._slope: []}
        self.judged = bool(self.judges(self._slope))
        self.tried: list[tuple[Setting, float | None]] = []
        self._best: dict[str, tuple[float, Setting, Weights]] = {}  # by method
        self._fitted: tuple[Setting, Weights] | None = None
        self._timed = has_ages(self.judges(self._slope))

    def judges(self, slope: float) -> list[pa.RecordBatch]:
        """Return the users who judge, their ratings counting by this slope."""
        if slope not in self._judges_by:
            users = with_ages(profiles(self._ratings, slope), self._ratings)
            held_out = self._context.lake.read("validation_ratings")
            found = judged_users(users, held_out, self._context.seed)
            self._judges_by[slope] = [rows for rows in found.to_batches() if rows.num_rows]
        return self._judges_by[slope]

    @property
    def best(self) -> tuple[Setting, Weights]:
        """Return the best setting and its weights."""
        if not self._best:
            raise ValueError("settings must not be empty")
        _, setting, weights = max(self._best.values(), key=lambda one: one[0])
        return setting, weights

    def shared(self, setting: Setting) -> Setting:
        """Return what holds for all settings, as far as this one's method knows it: half-lives, slope, damping."""
        chosen = {HISTORY_HALF_LIFE: self._history, RATING_SLOPE: self._slope or None}
        if setting["method"] == "ease":
            chosen |= {DAMPING: self._damping or None, PAIR_HALF_LIFE: self._pair}
        return {key: value for key, value in chosen.items() if value is not None}

    def half_lives(self, setting: Setting) -> None:
        """Choose the half-life of histories with one setting, where users have rated at different times."""
        half_lives = self._context.config.item_item.history_half_life
        if not self._timed or len(half_lives) < 2:
            return

        def judge(value: float | None) -> float:
            self._history = value
            return self._judge(setting)

        self._history = search_half_life(half_lives, judge)

    def method(self, settings: list[Setting]) -> None:
        """Try one method's settings, and what lies beyond the edge of them."""
        waiting = list(settings)
        if self.judged and _RANK in waiting[0]:
            ranked = search_rank(int(waiting[0][_RANK]), lambda rank: self._judge(waiting[0] | {_RANK: rank}))
            waiting = [setting | {_RANK: ranked} for setting in waiting]
        while waiting:
            setting = waiting.pop(0)
            if setting in settings:
                self._judge(setting)
            elif self._attempt(setting | self.shared(setting)) is None:
                continue
            if self.judged and not waiting and setting["method"] == "ease":
                waiting = beyond_the_edge([(one, value or 0.0) for one, value in self.tried])
        method = str(settings[0]["method"])
        if self.judged and len(self._best) == 1:
            self._rating_slope(method)
        if self.judged and method == "ease":
            self._ease_damping()
        if self._timed and method == "ease":
            self._pair_half_life()

    def _rating_slope(self, method: str) -> None:
        """Try the method's best setting with ratings that count by their height, where they differ."""
        slopes = self._context.config.item_item.rating_slope
        if len(slopes) < 2 or not ratings_differ(self._ratings):
            return
        setting = {key: of for key, of in self._best[method][1].items() if key != RATING_SLOPE}
        for slope in slopes[1:]:
            self._attempt(setting | {RATING_SLOPE: slope})
        self._slope = slope_of(self._best[method][1])
        self._fitter.keep(self._slope)

    def _ease_damping(self) -> None:
        """Try EASE's best setting with users and items of many ratings damped."""
        setting = {key: of for key, of in self._best["ease"][1].items() if key != DAMPING}
        for damping in self._context.config.item_item.ease_damping[1:]:
            self._attempt(setting | {DAMPING: damping})

    def _pair_half_life(self) -> None:
        """Try EASE's best lambda with pairs near in time; that has to gain 1 %, too, for it takes other sums."""
        value, best, _ = self._best["ease"]
        for other in self._context.config.item_item.pair_half_life[1:]:
            setting = {key: found for key, found in best.items() if key != PAIR_HALF_LIFE}
            self._attempt(setting if other is None else setting | {PAIR_HALF_LIFE: other}, value * (1 + _LEAST_GAIN))

    def mix(self, shares: Sequence[float]) -> None:
        """Try to mix the two best methods: the second one's scores get these shares. A mixture has to gain 1 %."""
        if not self.judged or len(self._best) < 2:
            return
        (value, first, weights), (_, second, others) = sorted(self._best.values(), key=lambda one: -one[0])[:2]
        self._fitted = None  # dense, maybe: its memory is needed
        ratio = self._spread(weights) / (self._spread(others) or 1.0)
        method = f"{first['method']}{MIX}{second['method']}"
        for share in shares:
            setting = second | first | {"method": method, SECOND_WEIGHT: share / (1 - share) * ratio}
            self._measure(setting, mixed(weights, others, float(setting[SECOND_WEIGHT])), value * (1 + _LEAST_GAIN))

    def _spread(self, weights: Weights) -> float:
        """Return how far a user's scores are apart: their standard deviation, the mean over some judges."""
        block = self.judges(self._slope)[0].slice(0, _BLOCK)
        scores = products(profile_matrix(block, self._item_idx, self._history).astype(np.float32), weights)
        return float(scores.std(axis=1).mean())

    def _judge(self, setting: Setting) -> float:
        return self.score(setting | self.shared(setting)) or 0.0

    def _attempt(self, setting: Setting, least: float = 0.0) -> float | None:
        """Return the `score` of a setting that nobody asked for; where it cannot be fitted, say so and return None."""
        try:
            return self.score(setting, least)
        except TrainingError as error:
            self._context.log(f"{_text(setting)}: {error}")
            return None

    def score(self, setting: Setting, least: float = 0.0) -> float | None:
        """Return a setting's NDCG@10, None where nobody can judge; below `least` it is not taken."""
        known = next((value for one, value in self.tried if one == setting), None)
        if known is not None:
            return known
        ranking = {key: value for key, value in setting.items() if key != HISTORY_HALF_LIFE}
        if self._fitted is None or self._fitted[0] != ranking:
            self._fitted = None
            self._fitted = ranking, self._fitter.fit(setting)
        return self._measure(setting, self._fitted[1], least)

    def _measure(self, setting: Setting, weights: Weights, least: float = 0.0) -> float | None:
        """Return the NDCG@10 of a setting's weights, and keep them if they are the method's best, and above `least`."""
        score = by_weights(self._item_idx, weights, half_life_of(setting))
        value = judged_ndcg(self.judges(slope_of(setting)), score, _K) if self.judged else None
        self.tried.append((setting, value))
        self._context.log(_text(setting) + ("" if value is None else f": validation NDCG@{_K} {value:.4f}"))
        method = str(setting["method"])
        known = max(least, self._best[method][0] if method in self._best else -1.0)
        if (value or 0.0) > known or (method not in self._best and (value or 0.0) >= least):
            self._best[method] = value or 0.0, setting, weights
        return value


def search_half_life(half_lives: Sequence[float | None], judge: Callable[[float | None], float]) -> float | None:
    """Return the best of the half-lives given and, while the best is the shortest, of half as long ones to 0.25."""
    found = {value: judge(value) for value in half_lives}
    while True:
        best = max(found, key=found.__getitem__)
        if best is None or best > min(value for value in found if value is not None) or best / 2 < _SHORTEST:
            return best
        found[best / 2] = judge(best / 2)


def search_rank(largest: int, judge: Callable[[int], float]) -> int:
    """Return the best of the largest rank and, while the smallest is the best, of half as many to 16."""
    best, found = largest, judge(largest)
    while best // 2 >= _LEAST_RANK and (value := judge(best // 2)) > found:
        best, found = best // 2, value
    return best


def has_ages(judged: list[pa.RecordBatch]) -> bool:
    """Return whether any of the users has rated at more than one time."""
    return any(len(ages) > 0 and ages.max() > 0 for batch in judged for ages in lists(batch, "ages"))


def ratings_differ(ratings: DataFrame) -> bool:
    """Return whether not all observed ratings are the same."""
    bounds = ratings.where("source = 'observed'").agg((F.min("rating") < F.max("rating")).alias("differ"))
    return bool(bounds.collect()[0]["differ"])


def half_life_of(setting: Setting) -> float | None:
    """Return the half-life of histories that belongs to a setting."""
    return float(setting[HISTORY_HALF_LIFE]) if HISTORY_HALF_LIFE in setting else None


def beyond_the_edge(tried: list[tuple[Setting, float]]) -> list[Setting]:
    """Return EASE's next lambda to try, in a list: beyond the best one, as far as its neighbour is, at most tenfold.

    `tried` are settings of all methods with their NDCG@10; of equals the first counts. Empty where the best has
    neighbours on both sides, where there is only one, and after seven.
    """
    own = [(float(setting[_LAMBDA]), value) for setting, value in tried if setting["method"] == "ease"]
    found: dict[float, float] = {}
    for regularisation, value in own:
        found[regularisation] = max(value, found.get(regularisation, 0.0))
    best, order = max(found, key=lambda value: found[value]), sorted(found)
    if not 1 < len(found) < _MOST_LAMBDAS or best not in (order[0], order[-1]):
        return []
    step = order[0] / order[1] if best == order[0] else order[-1] / order[-2]
    return [{"method": "ease", _LAMBDA: best * min(max(step, 0.1), 10.0)}]


def candidates(
    context: Context,
    merged: DataFrame,
    users: DataFrame,
    fill: str,
    weights: Weights,
    item_idx: NDArray[np.int32],
    half_life: float | None,
) -> DataFrame:
    """Return item_item_candidates of one fill: for each user in `users`, the n best items that were not observed."""
    observed = histories(merged.where("source = 'observed'")).select("user_idx", F.col("items").alias("seen"))
    score = ship_weights(context.spark, item_idx, weights, half_life)
    ranked = rank_catalogue(users.join(observed, "user_idx"), score, context.config.recommend.n_candidates, "seen")
    return ranked.select(F.lit(fill).alias("fill"), "user_idx", "items", "scores")


def weight_rows(context: Context, fill: str, weights: Weights, item_idx: NDArray[np.int32]) -> DataFrame:
    """Return item_item_weights: of each item, the history items of largest positive weight."""
    neighbours: list[NDArray[np.int32]] = []
    strengths: list[NDArray[np.float32]] = []
    for start in range(0, len(item_idx), _BLOCK):
        values = columns(weights, slice(start, start + _BLOCK))
        positive = np.where(values > 0, values, np.float32(-np.inf)).T
        best, of_best = top_n(positive, context.config.item_item.stored_neighbours)
        neighbours += [item_idx[row] for row in best]
        strengths += of_best
    table = {
        "item_idx": pa.array(item_idx, pa.int32()),
        "neighbours": pa.array(neighbours, pa.list_(pa.int32())),
        "weights": pa.array(strengths, pa.list_(pa.float32())),
    }
    frame = context.spark.createDataFrame(pa.table(table))
    return frame.select(F.lit(fill).alias("fill"), "item_idx", "neighbours", "weights")


def _text(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)
