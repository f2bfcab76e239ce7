"""Rated items play newcomers, to judge what likeness is worth; then new items get neighbours, and users new items."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import sparse
from threadpoolctl import threadpool_limits

from ganrec_spark.attributes.describing import Descriptions, described, shipped_description
from ganrec_spark.attributes.likeness import Described
from ganrec_spark.evaluation.choice import in_words, simplest
from ganrec_spark.evaluation.draws import chance
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.frames.histories import histories, lists, spread
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.recommenders.catalogue import Score, by_score, rank_catalogue
from ganrec_spark.recommenders.judging import judged_ndcg
from ganrec_spark.recommenders.newcomers.neighbours import Predicted, neighbours, predicted
from ganrec_spark.seeding import stable_rng

_PURPOSE = "newcomers"
_MOST_RATED = 50_000  # items that newcomers are compared with, the most rated ones
_MOST_NEW = 100_000  # items that get neighbours, the newest ids
_PLAY = 10  # one of so many rated items plays a newcomer
_FEWEST_PLAYERS, _MOST_PLAYERS = 100, 2000
_MOST_JUDGES = 5000
TASTES = (0.0, 0.5, 1.0)  # how much of the score is by vectors of ALS, beside that by who rated the neighbours

Floats = NDArray[np.float64]
Fold = Callable[[DataFrame], DataFrame]  # ratings -> (user_idx, factors)


@dataclass(frozen=True)
class Setting:
    """What validation chooses: the shares of columns in likeness, the shrinkage of neighbours, the share of taste."""

    shares: tuple[tuple[str, float], ...]
    shrinkage: float
    taste: float

    def values(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"shares": dict(self.shares), "shrinkage": self.shrinkage, "taste": self.taste}

    def in_words(self) -> str:
        """Return it for a person to read."""
        rest = in_words({"shrinkage": self.shrinkage, "taste": self.taste})
        return f"alike by {in_words(dict(self.shares))}; {rest}"

    @staticmethod
    def parsed(values: Mapping[str, Any] | None) -> "Setting | None":
        """Return the setting whose `values` these are; None: nothing is said of new items."""
        if values is None:
            return None
        return Setting(tuple(sorted(values["shares"].items())), values["shrinkage"], values["taste"])


NOTHING: dict[Setting | None, Floats] = {None: np.empty(0)}  # what judges make of no setting at all


def mixtures(columns: Sequence[str]) -> list[tuple[tuple[str, float], ...]]:
    """Return the shares that are tried, the simplest first: each column alone, all alike, all with one twice."""
    weights = [{name: 1.0} for name in columns]
    if len(columns) > 1:
        weights.append(dict.fromkeys(columns, 1.0))
        weights += [{name: 1.0 + (name == twice) for name in columns} for twice in columns]
    return [tuple(sorted((name, value / sum(own.values())) for name, value in own.items())) for own in weights]


def rated_items(found: Descriptions, observed: DataFrame) -> Described:
    """Return the description of rated items: the 50,000 most rated ones. Driver memory: what is known of them."""
    counts = users_per_item(observed)
    kept = found.rows.join(counts, "item_idx").orderBy(F.desc("n"), "item_idx").limit(_MOST_RATED).drop("n")
    return found.here(kept)


class Rehearsal:
    """Some rated items play newcomers: who rated them is to be found by the other items alone.

    A tenth of the rated items plays, but 100 to 2,000, and half of them at most, drawn by chance. Of the users who
    rated some of them, and others, at most 5,000 judge, by NDCG@10 of the players ranked among themselves. `fold`
    solves users' vectors of ALS from their ratings of the other items; None where there are no such vectors. `table`:
    the items' vectors [I, D].
    """

    def __init__(
        self,
        rated: Described,
        observed: DataFrame,
        shrinkages: Sequence[float],
        table: NDArray[np.float32],
        seed: int,
        fold: Fold | None,
    ) -> None:
        order = stable_rng(seed, _PURPOSE).permutation(len(rated.idx))
        plays = np.zeros(len(rated.idx), dtype=np.bool_)
        wanted = min(_MOST_PLAYERS, max(_FEWEST_PLAYERS, len(order) // _PLAY))
        plays[order[: min(wanted, len(order) // 2)]] = True
        self._players, self._others = rated.taken(np.flatnonzero(plays)), rated.taken(np.flatnonzero(~plays))
        self._table, self._seed = table, seed
        self.shrinkages, self.tastes = sorted(shrinkages), TASTES if fold else TASTES[:1]
        self._judges = _judges(observed, self._players.idx, seed, fold).to_batches()

    def by_chance(self) -> Floats:
        """Return the NDCG@10 of each judge where the players come in any order."""

        def score(block: pa.RecordBatch) -> NDArray[np.float32]:
            rng = stable_rng(self._seed, _PURPOSE, block.column("user_idx")[0].as_py())
            return rng.random((block.num_rows, len(self._players.idx)), dtype=np.float32)

        return judged_ndcg(self._judges, by_score(score), JUDGED_K)

    def judged(self, shares: tuple[tuple[str, float], ...], shrinkage: float, tastes: Sequence[float]) -> list[Floats]:
        """Return the NDCG@10 of each judge with these shares and shrinkage, for each taste."""
        places, weights = neighbours(self._players, self._others, dict(shares), shrinkage)
        items = [self._others.idx[own] for own in places]
        found = [predicted(self._players.idx, items, weights, self._table, taste) for taste in tastes]
        return [judged_ndcg(self._judges, by_score(partial(_scores, own, "history")), JUDGED_K) for own in found]


def choose(columns: Sequence[str], rehearsal: Rehearsal) -> dict[Setting | None, Floats]:
    """Return what judges make of the settings that are tried, the simplest first; None: new items in any order.

    First what items are alike by, with the least shrinkage and without taste; then, with the shares that are the
    simplest within one standard error of the best, each shrinkage with each taste.
    """
    least = rehearsal.shrinkages[0]
    found: dict[Setting | None, Floats] = {None: rehearsal.by_chance()}
    for shares in mixtures(columns):
        found[Setting(shares, least, 0.0)] = rehearsal.judged(shares, least, [0.0])[0]
    best = best_of(found)
    if best is None:
        return found
    for shrinkage in rehearsal.shrinkages:
        tastes = [taste for taste in rehearsal.tastes if Setting(best.shares, shrinkage, taste) not in found]
        values = rehearsal.judged(best.shares, shrinkage, tastes)
        found |= {Setting(best.shares, shrinkage, taste): own for taste, own in zip(tastes, values, strict=True)}
    return found


def best_of(found: Mapping[Setting | None, Floats]) -> Setting | None:
    """Return the setting that judges choose; None where nobody judges, or likeness helps by no more than noise."""
    return simplest(found) if any(len(own) for own in found.values()) else None


def choice_rows(found: Mapping[Setting | None, Floats]) -> list[tuple[str, float | None, bool]]:
    """Return what `choose` gave as rows of newcomers_choices; ndcg is NULL where nobody judges."""
    best = best_of(found)
    return [
        (json.dumps(one and one.values(), sort_keys=True), float(own.mean()) if len(own) else None, one == best)
        for one, own in found.items()
    ]


def weight_rows(found: Descriptions, observed: DataFrame, rated: Described, setting: Setting) -> DataFrame:
    """Return (item_idx, neighbours, weights) of every new item that is like some rated ones, at most 100,000 items."""
    shares, shrinkage, words, vectors = dict(setting.shares), setting.shrinkage, found.words, found.vectors
    opened = shipped_description(observed.sparkSession, rated, shares)

    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = opened()
        with threadpool_limits(1):  # Spark runs one Python worker per core
            for batch in batches:
                places, weights = neighbours(described(batch, words, vectors), known, shares, shrinkage)
                items = pa.array([known.idx[own] for own in places], pa.list_(pa.int32()))
                columns = [batch.column("item_idx"), items, pa.array(weights, pa.list_(pa.float32()))]
                yield pa.RecordBatch.from_arrays(columns, names=["item_idx", "neighbours", "weights"])

    new = found.rows.join(observed.select("item_idx").distinct(), "item_idx", "left_anti")
    newest = spread(new.orderBy(F.desc("item_idx")).limit(_MOST_NEW), "item_idx")
    rows = newest.mapInArrow(find, "item_idx int, neighbours array<int>, weights array<float>")
    return rows.where(F.size("neighbours") > 0)


def predicted_of(written: DataFrame, table: NDArray[np.float32], taste: float) -> Predicted:
    """Return what is predicted of the new items of table newcomers_weights. Driver memory: the table."""
    rows = sorted_here(written.select("item_idx", "neighbours", "weights"), "item_idx")
    block = rows.to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], rows.schema)
    idx = block.column("item_idx").to_numpy().astype(np.int32)
    return predicted(idx, lists(block, "neighbours"), lists(block, "weights"), table, taste)


def score_of(spark: SparkSession, found: Predicted) -> Score:
    """Return the score of every item by index for users with columns items and factors; -inf but of new items."""
    matrix = found.weights
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    shipped, shape, taste = ship(spark, idx=found.idx, vectors=found.vectors, **parts), matrix.shape, found.taste

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        weights = sparse.csr_array((shipped["data"], shipped["indices"], shipped["indptr"]), shape=shape)
        own = Predicted(shipped["idx"], weights, shipped["vectors"], taste)
        # By item index, up to the largest that there is.
        slots = 1 + max(int(items.max(initial=-1)) for items in (own.idx, *lists(block, "items")))
        table = np.full((block.num_rows, slots), -np.inf, dtype=np.float32)
        table[:, own.idx] = _scores(own, "items", block)
        return table

    return score


def ranked_by(users: DataFrame, score: Score, n: int, run: Mapper = by_tasks) -> DataFrame:
    """Return (user_idx, items, scores): each user's n best new items that their history speaks for.

    In: a row per user with items, what they rated and what they must not be listed, and factors (NULL: none).
    """
    ranked = rank_catalogue(users, score, n, run=run)
    return ranked.where(F.size("items") > 0)


def _judges(observed: DataFrame, players: NDArray[np.int32], seed: int, fold: Fold | None) -> pa.Table:
    """Return the judges: user_idx, history (what they rated but players), relevant (which players they rated), factors.

    Players are told by their places; none is among `items`, which must not be listed.
    """
    spark = observed.sparkSession
    playing = F.broadcast(spark.createDataFrame(pa.table({"item_idx": players})))
    relevant = relevant_items(observed.where("rating > 0").join(playing, "item_idx", "left_semi"))
    others = observed.join(playing, "item_idx", "left_anti")
    able = relevant.join(others.select("user_idx").distinct(), "user_idx", "left_semi")
    drawn = F.broadcast(able.orderBy(chance(_PURPOSE, seed), "user_idx").limit(_MOST_JUDGES))
    own = others.join(drawn.select("user_idx"), "user_idx", "left_semi")
    rows = histories(own).select("user_idx", F.col("items").alias("history")).join(drawn, "user_idx")
    if fold:
        rows = rows.join(fold(own), "user_idx", "left")
    table = sorted_here(rows, "user_idx")
    items = table["relevant"].combine_chunks()
    places = pa.array(np.searchsorted(players, items.flatten().to_numpy()).astype(np.int32))
    by_place, none = pa.ListArray.from_arrays(items.offsets, places), pa.array([[]] * len(items), items.type)
    return table.set_column(table.schema.get_field_index("relevant"), "relevant", by_place).append_column("items", none)


def _scores(found: Predicted, history: str, block: pa.RecordBatch) -> NDArray[np.float32]:
    """Return the scores [B, N] of the new items for users with column `history` of items, and factors where needed.

    -inf of those that nothing speaks for. What came after the models were made says nothing to them.
    """
    n_items, size = found.weights.shape[1], found.vectors.shape[1]
    known = [own[own < n_items] for own in lists(block, history)]
    starts = np.concatenate([[0], np.cumsum([len(own) for own in known])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, np.int64), *known]).astype(np.int64)
    rows = sparse.csr_array((np.ones(len(flat), np.float32), flat, starts), shape=(len(known), n_items))
    factors = np.zeros((len(known), size), dtype=np.float32)
    if found.taste:
        for row, own in enumerate(lists(block, "factors")):
            if len(own):
                factors[row] = own
    values = found.scores(rows, factors)
    return np.where(values > 0, values, np.float32(-np.inf))
