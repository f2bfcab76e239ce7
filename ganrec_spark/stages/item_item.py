"""Fit both EASEs (where the catalogue fits), RP3beta and GF-CF, and rank the catalogue by the best on validation."""

import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial, reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.config import ItemItem
from ganrec_spark.context import Context
from ganrec_spark.distributed.item_item import (
    Weights,
    by_weights,
    gathered,
    gram_matrix,
    graph_filter,
    graph_vectors,
    item_axis,
    popularity,
    profiles,
    rp3beta_weights,
    ship_weights,
    with_ages,
)
from ganrec_spark.distributed.ranking import histories, lists, rank_catalogue
from ganrec_spark.errors import TrainingError
from ganrec_spark.fills import NONE, fill_variants, of_variant
from ganrec_spark.models.ease import ease_weights, normalised_ease_weights
from ganrec_spark.models.gfcf import LowPass, low_pass
from ganrec_spark.ranking.metrics import hit_matrix, ndcg
from ganrec_spark.ranking.top_n import mask_seen, top_n
from ganrec_spark.seeding import stable_seed

_K = 10
_JUDGED_USERS = 10_000
_BLOCK = 512
_LAMBDAS = {"ease": "ease_regularisation", "normalised_ease": "normalised_regularisation"}
_MOST_LAMBDAS = 7
_HALF_LIFE, _SHORTEST = "history_half_life", 0.25
Setting = dict[str, float | str]


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
        users = profiles(ratings)
        if fill not in weights:
            weights[fill] = Fitter(context, users, item_idx).fit(setting)
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
    exact = config.max_exact_items
    limits = {"ease": exact, "normalised_ease": exact, "rp3beta": n_items, "gfcf": config.max_graph_items}
    return tuple(method for method, limit in limits.items() if n_items <= limit)


def grid(config: ItemItem, tried: Collection[str]) -> list[Setting]:
    """Return the settings of the methods in `tried`, named as in the configuration."""
    settings: dict[str, list[Setting]] = {
        **{name: [{key: value} for value in getattr(config, key)] for name, key in _LAMBDAS.items()},
        "rp3beta": [{"rp3_alpha": config.rp3_alpha, "rp3_beta": beta} for beta in config.rp3_beta],
        "gfcf": [{"gfcf_weight": weight} for weight in config.gfcf_weight],
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

    The half-life of histories is chosen with the first setting, for all. Where an EASE's best lambda is the smallest or
    largest of several, the search goes on beyond it. A single setting is taken as it is, its ndcg is NULL.
    """
    users, half_lives = profiles(ratings), context.config.item_item.history_half_life
    several = len(settings) > 1 or len(half_lives) > 1
    judged = judged_users(context, with_ages(users, ratings)).to_batches() if several else []
    fitter, waiting = Fitter(context, users, item_idx), list(settings)
    tried: list[tuple[Setting, float | None]] = []
    best: tuple[float, Setting, Weights] | None = None
    half_life, searched = half_lives[0], not judged or not has_ages(judged)
    while waiting:
        setting = waiting.pop(0)
        try:
            weights = fitter.fit(setting)
        except TrainingError as error:
            if setting in settings:
                raise
            context.log(f"{_text(setting)}: {error}")
            continue
        judge = partial(validation_ndcg, judged, weights, item_idx)
        if searched:
            scores = {half_life: judge(half_life) if judged else None}
        else:
            scores, searched = search_half_life(half_lives, judge), True
            half_life = max(scores, key=lambda value: scores[value] or 0.0)
        for value, score in scores.items():
            whole = with_half_life(setting, value)
            tried.append((whole, score))
            context.log(_text(whole) + ("" if score is None else f": validation NDCG@{_K} {score:.4f}"))
        score = scores[half_life]
        if best is None or (score or 0.0) > best[0]:
            best = (score or 0.0, with_half_life(setting, half_life), weights)
        method = str(setting["method"])
        if judged and method in _LAMBDAS and not any(later["method"] == method for later in waiting):
            waiting[:0] = beyond_the_edge(method, [(one, value or 0.0) for one, value in tried])
    if best is None:
        raise ValueError("settings must not be empty")
    rows = [(_text(setting), score, setting == best[1]) for setting, score in tried]
    context.lake.write("item_item_choices", context.lake.frame("item_item_choices", rows))
    return best[1], best[2]


def search_half_life(
    half_lives: Sequence[float | None], judge: Callable[[float | None], float]
) -> dict[float | None, float | None]:
    """Return half-life -> NDCG@10 of those given and, while the best is the shortest, of half as long ones to 0.25."""
    found: dict[float | None, float | None] = {value: judge(value) for value in half_lives}
    while len(found) > 1:
        best = max(found, key=lambda value: found[value] or 0.0)
        if best is None or best > min(value for value in found if value is not None) or best / 2 < _SHORTEST:
            break
        found[best / 2] = judge(best / 2)
    return found


def has_ages(judged: list[pa.RecordBatch]) -> bool:
    """Return whether any of the users has rated at more than one time."""
    return any(len(ages) > 0 and ages.max() > 0 for batch in judged for ages in lists(batch, "ages"))


def with_half_life(setting: Setting, half_life: float | None) -> Setting:
    """Return the setting with a half-life of histories, if there is one."""
    return setting if half_life is None else {**setting, _HALF_LIFE: half_life}


def half_life_of(setting: Setting) -> float | None:
    """Return the half-life of histories that belongs to a setting."""
    return float(setting[_HALF_LIFE]) if _HALF_LIFE in setting else None


def beyond_the_edge(method: str, tried: list[tuple[Setting, float]]) -> list[Setting]:
    """Return the next lambda of one EASE to try: beyond the best one, as far as its neighbour is, at most tenfold.

    `tried` are settings of all methods with their NDCG@10; of equals the first counts. Empty where the best has
    neighbours on both sides, where there is only one, and after seven.
    """
    key = _LAMBDAS[method]
    own = [(float(setting[key]), value) for setting, value in tried if setting["method"] == method]
    found: dict[float, float] = {}
    for regularisation, value in own:
        found[regularisation] = max(value, found.get(regularisation, 0.0))
    best, order = max(found, key=lambda value: found[value]), sorted(found)
    if not 1 < len(found) < _MOST_LAMBDAS or best not in (order[0], order[-1]):
        return []
    step = order[0] / order[1] if best == order[0] else order[-1] / order[-2]
    return [{"method": method, key: best * min(max(step, 0.1), 10.0)}]


class Fitter:
    """Fits settings to the `users` of `profiles`; both EASEs' settings share one X'X, GF-CF's one graph."""

    def __init__(self, context: Context, users: DataFrame, item_idx: NDArray[np.int32]) -> None:
        self._context, self._item_idx = context, item_idx
        self._users = gathered(users, item_idx)
        self._neighbours = context.config.item_item.neighbours

    def fit(self, setting: Setting) -> Weights:
        """Return the weights [I history items, I items]; TrainingError where EASE's lambda is too small."""
        if setting["method"] == "ease":
            return ease_weights(self._gram, float(setting["ease_regularisation"]))
        if setting["method"] == "normalised_ease":
            exponent = self._context.config.item_item.normalised_exponent
            return normalised_ease_weights(self._gram, float(setting["normalised_regularisation"]), exponent)
        self.__dict__.pop("_gram", None)  # [I, I], dense: other methods need its memory
        if setting["method"] == "rp3beta":
            alpha, beta = float(setting["rp3_alpha"]), float(setting["rp3_beta"])
            return rp3beta_weights(self._users, self._item_idx, alpha, beta, self._neighbours)
        near, vectors, counts = self._graph
        return low_pass(near, vectors, counts, float(setting["gfcf_weight"]))

    @cached_property
    def _gram(self) -> NDArray[np.float32]:
        return gram_matrix(self._users, self._item_idx)

    @cached_property
    def _graph(self) -> tuple[sparse.csr_array, NDArray[np.float32], NDArray[np.float64]]:
        rank, seed = self._context.config.item_item.gfcf_rank, stable_seed(self._context.seed, "gfcf")
        near = graph_filter(self._users, self._item_idx, self._neighbours)
        vectors = graph_vectors(self._users, self._item_idx, rank, seed)
        return near, vectors, popularity(self._users, self._item_idx)


def judged_users(context: Context, users: DataFrame) -> pa.Table:
    """Return the profiles (user_idx, items, ratings, relevant) of validation users, at most 10,000 by hash."""
    held_out = context.lake.read("validation_ratings")
    relevant = held_out.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("relevant"))
    order = [F.xxhash64(F.lit(context.seed), F.col("user_idx")), F.col("user_idx")]
    return users.join(relevant, "user_idx").orderBy(*order).limit(_JUDGED_USERS).toArrow()


def validation_ndcg(
    judged: list[pa.RecordBatch], weights: Weights, item_idx: NDArray[np.int32], half_life: float | None = None
) -> float:
    """Return the mean NDCG@10 of the users in `judged`, their profile's items excluded."""
    values = []
    for batch in judged:
        for start in range(0, batch.num_rows, _BLOCK):
            block = batch.slice(start, _BLOCK)
            scores = by_weights(item_idx, weights, half_life)(block)
            mask_seen(scores, lists(block, "items"))
            relevant = lists(block, "relevant")
            counts = np.array([len(items) for items in relevant])
            values.append(ndcg(hit_matrix(top_n(scores, _K)[0], relevant, _K), counts, _K))
    return float(np.concatenate(values).mean()) if values else 0.0


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
    values: list[NDArray[np.float32]] = []
    for start in range(0, len(item_idx), _BLOCK):
        columns = _columns(weights, slice(start, start + _BLOCK))
        positive = np.where(columns > 0, columns, np.float32(-np.inf)).T
        best, strengths = top_n(positive, context.config.item_item.stored_neighbours)
        neighbours += [item_idx[row] for row in best]
        values += strengths
    table = {
        "item_idx": pa.array(item_idx, pa.int32()),
        "neighbours": pa.array(neighbours, pa.list_(pa.int32())),
        "weights": pa.array(values, pa.list_(pa.float32())),
    }
    frame = context.spark.createDataFrame(pa.table(table))
    return frame.select(F.lit(fill).alias("fill"), "item_idx", "neighbours", "weights")


def _columns(weights: Weights, part: slice) -> NDArray[np.float32]:
    if isinstance(weights, LowPass):
        return weights.columns(part)
    block: NDArray[np.float32] = weights[:, part] if isinstance(weights, np.ndarray) else weights[:, part].toarray()
    return block


def _text(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)
