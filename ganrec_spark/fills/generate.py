"""Fill users' histories by generators and rules, in Spark, a block of users at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.fills.generators.by_name import Generator, load_generator
from ganrec_spark.fills.generators.collapse import score_block
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.histories import histories, lists, spread, with_ages
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.frames.top_n import mask_seen, top_n
from ganrec_spark.plan.members import MAY_FILL
from ganrec_spark.plan.tables import TABLE_BY_NAME
from ganrec_spark.seeding import stable_rng, stable_seed

_USERS_PER_BLOCK = 256
_CELLS_PER_BLOCK = 2**24  # of users x items: what a block may take in memory, 64 MiB a matrix
_MIN_CONFIDENCE = 1e-6
_TOGETHER = 32  # profiles of one width that go through a network at once
_COLUMNS = TABLE_BY_NAME["generated_ratings"].columns
_SCHEMA = ", ".join(f"{column.name} {column.type}" for column in _COLUMNS)
_ARROW = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "bigint": pa.int64()}
_ARROW_SCHEMA = pa.schema([(column.name, _ARROW[column.type]) for column in _COLUMNS])

# Generators of this Python worker by version, built once and kept over tasks.
_LOADED: dict[str, Generator] = {}

# Log scores [B, I] of a block: its table, its profiles and its users [B].
Scorer = Callable[[pa.Table, Profiles, NDArray[np.int32]], NDArray[np.float32]]


@dataclass(frozen=True)
class FillPlan:
    """How one fill is made: by which generator or rule, how many of its items, and whether the top or a sample."""

    generator: str
    how: str
    n: int

    @property
    def name(self) -> str:
        """Return the name in generated_ratings, such as cgan_top3."""
        return f"{self.generator}_{self.how}{self.n}"


@dataclass(frozen=True)
class Source:
    """A generator or rule as it travels to the executors: `kind`, its version, its card, and its shipped arrays."""

    kind: str
    version: str
    card: dict[str, Any]
    arrays: Shipped


def generate(
    spark: SparkSession,
    observed: DataFrame,
    sparse_users: DataFrame,
    sources: dict[str, Source],
    plans: list[FillPlan],
    temperature: float,
    seed: int,
    listed: Mapping[str, DataFrame] | None = None,
    disliked: DataFrame | None = None,
) -> DataFrame:
    """Return rows of generated_ratings: per fill and user up to n items that the user has not, best first.

    In: observed ratings (user_idx, item_idx, rating, ts), one row per user and item; sparse_users (user_idx) those who
    are filled, one row each;
    listed, by member, (user_idx, items, scores), lists with log probabilities, which the source of that name takes its
    items from; disliked (user_idx, item_idx), what is never generated. Only items with an observed rating are.
    confidence = exp(score - best score of the user's unseen items), scores being logs: a generator's probability as a
    share of the probability of the user's surest item.
    Samples are drawn without replacement by Gumbel-top-k at `temperature` (Kool et al. 2019).

    A user's rows do not hang on who else is filled.
    """
    items = observed.select("item_idx").distinct().orderBy("item_idx").toArrow()["item_idx"].to_numpy()
    shipped = ship(spark, catalogue=items.astype(np.int64))

    own_ratings = observed.join(sparse_users, "user_idx", "left_semi")
    users = with_ages(histories(own_ratings), own_ratings)
    for member, rows in (listed or {}).items():
        columns = (F.col(name).alias(f"{member}_{name}") for name in ("items", "scores"))
        users = users.join(rows.select("user_idx", *columns), "user_idx", "left")
    if disliked is not None:
        users = dislikes.never_listed(users.withColumn("never", F.col("items")), disliked, "never")
    users_per_block = min(_USERS_PER_BLOCK, max(1, _CELLS_PER_BLOCK // (1 + int(items.max(initial=0)))))

    def fill(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, users_per_block):
                block = pa.Table.from_batches([batch.slice(start, users_per_block)])
                yield from _fill_block(block, shipped["catalogue"], sources, plans, temperature, seed).to_batches()

    return spread(users).mapInArrow(fill, _SCHEMA)


def _fill_block(
    table: pa.Table,
    catalogue: NDArray[np.int64],
    sources: dict[str, Source],
    plans: list[FillPlan],
    temperature: float,
    seed: int,
) -> pa.Table:
    table = table.combine_chunks()
    users = table["user_idx"].to_numpy().astype(np.int32)
    profiles = _padded(table)
    never = "never" if "never" in table.column_names else "items"
    seen = lists(table.to_batches()[0], never) if table.num_rows else []
    parts = []
    for source in sources.values():
        scores = _scorer(source, seed)(table, profiles, users)
        scores = _eligible(scores, catalogue, seen)
        best = scores.max(axis=1, keepdims=True, initial=-np.inf)
        own = [plan for plan in plans if plan.generator == source.kind]
        # The best are sought once: those of the longest list contain the others'.
        ranked, _ = top_n(scores, max((plan.n for plan in own if plan.how == "top"), default=0))
        for plan in own:
            seeds = [stable_seed(seed, plan.name, int(user)) for user in users]
            if plan.how == "top":
                chosen = [row[: plan.n] for row in ranked]
            else:
                chosen, _ = top_n(_perturbed(scores / np.float32(temperature), seeds), plan.n)
            parts.append(_rows(plan, source.version, users, scores, best[:, 0], chosen, seeds))
    return pa.concat_tables(parts)


def _padded(table: pa.Table) -> Profiles:
    """Return the histories padded to the length L of the block's longest."""
    lengths = table["items"].combine_chunks().value_lengths().to_numpy()
    valid = np.arange(lengths.max(initial=1)) < lengths[:, None]
    items, weights = np.full(valid.shape, -1, dtype=np.int32), np.zeros(valid.shape, dtype=np.float32)
    ages = np.zeros(valid.shape, dtype=np.int32)
    for padded, name in ((items, "items"), (weights, "ratings"), (ages, "ages")):
        padded[valid] = table[name].combine_chunks().flatten().to_numpy()
    return Profiles(items, weights, ages)


def _eligible(
    scores: NDArray[np.float32], catalogue: NDArray[np.int64], seen: list[NDArray[np.integer[Any]]]
) -> NDArray[np.float32]:
    """Return the scores with -inf for items outside the catalogue and for what the user has."""
    n_items = scores.shape[1]
    outside = np.ones(n_items, dtype=np.bool_)
    outside[catalogue[catalogue < n_items]] = False
    eligible = np.where(outside, np.float32(-np.inf), scores)
    mask_seen(eligible, [row[row < n_items] for row in seen])
    return eligible


def _rows(
    plan: FillPlan,
    version: str,
    users: NDArray[np.int32],
    scores: NDArray[np.float32],
    best: NDArray[np.float32],
    chosen: list[NDArray[np.int32]],
    seeds: list[int],
) -> pa.Table:
    """Return the fill's rows of generated_ratings for a block of users, the surest item first."""
    lengths = np.array([len(picked) for picked in chosen], dtype=np.int64)
    owners, picked = np.repeat(np.arange(len(chosen)), lengths), np.concatenate(chosen)
    own = scores[owners, picked]
    order = np.lexsort((picked, -own, owners))
    owners, picked, own = owners[order], picked[order], own[order]
    starts = np.cumsum(lengths) - lengths
    values = {
        "fill": pa.repeat(plan.name, len(owners)),
        "user_idx": users[owners],
        "item_idx": picked,
        "position": np.arange(len(owners)) - starts[owners] + 1,
        "confidence": np.exp((own - best[owners]).astype(np.float64)).clip(_MIN_CONFIDENCE, 1.0),
        "generator": pa.repeat(plan.generator, len(owners)),
        "strategy": pa.repeat(plan.how, len(owners)),
        "generator_version": pa.repeat(version, len(owners)),
        "seed": np.asarray(seeds, dtype=np.int64)[owners],
    }
    return pa.table([pa.array(values[field.name], field.type) for field in _ARROW_SCHEMA], schema=_ARROW_SCHEMA)


def _perturbed(scores: NDArray[np.float32], seeds: list[int]) -> NDArray[np.float32]:
    """Return scores + Gumbel noise (minus the log of exponential noise), each user's from the user's own seed."""
    noise = np.empty_like(scores)
    for row, seed in enumerate(seeds):
        np.random.default_rng(seed).standard_exponential(dtype=np.float32, out=noise[row])
    # Zero is drawn now and then, and its log would be infinite.
    perturbed: NDArray[np.float32] = scores - np.log(noise.clip(np.finfo(np.float32).tiny))
    return perturbed


def _scorer(source: Source, seed: int) -> Scorer:
    if source.kind == "popularity":
        return lambda table, profiles, users: np.tile(_log(source.arrays["strength"]), (len(users), 1))
    if source.kind == "item_item":
        return lambda table, profiles, users: _log(_neighbour_scores(source.arrays, profiles.items))
    if source.kind in MAY_FILL:
        return lambda table, profiles, users: _listed_scores(table, source.kind)
    return lambda table, profiles, users: _generator_scores(source, seed, profiles, users)


def _listed_scores(table: pa.Table, member: str) -> NDArray[np.float32]:
    """Return [B, I], -inf for what is not in the user's list."""
    listed, values = (table[name].combine_chunks() for name in (f"{member}_items", f"{member}_scores"))
    lengths = pc.fill_null(pc.list_value_length(listed), 0).to_numpy(zero_copy_only=False)
    items, scores = listed.flatten().to_numpy(), values.flatten().to_numpy()
    matrix = np.full((len(lengths), 1 + int(items.max(initial=0))), -np.inf, dtype=np.float32)
    matrix[np.repeat(np.arange(len(lengths)), lengths), items] = scores
    return matrix


def _generator_scores(source: Source, seed: int, profiles: Profiles, users: NDArray[np.int32]) -> NDArray[np.float32]:
    if source.version not in _LOADED:
        torch.set_num_threads(1)  # Spark already runs one Python worker per core
        card, state = source.card, source.arrays["state"].tobytes()
        _LOADED[source.version] = load_generator(source.kind, card["n_items"], card["settings"], state)
    generator = _LOADED[source.version]
    noise = np.stack(
        [
            stable_rng(seed, source.kind, "noise", int(user)).standard_normal(generator.noise_size, dtype=np.float32)
            for user in users
        ]
    )
    half_life, cpu = source.card["history_half_life_visits"], torch.device("cpu")
    lengths = (profiles.items >= 0).sum(axis=1)
    widths = 1 << np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    scores = np.empty((len(users), source.card["n_items"]), dtype=np.float32)
    # Always as many rows, of a width that hangs on them alone: a network rounds by the shape of what it is given.
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        for part in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER)):
            padded = np.resize(part, _TOGETHER)
            block = _cut(profiles[padded], int(width))
            scores[part] = score_block(generator, block, half_life, noise[padded], cpu)[: len(part)]
    return scores


def _cut(profiles: Profiles, width: int) -> Profiles:
    """Return the profiles padded to another width, at least the longest one's length."""

    def cut(table: NDArray[Any], empty: int) -> NDArray[Any]:
        found = np.full((len(table), width), empty, dtype=table.dtype)
        kept = table[:, :width]
        found[:, : kept.shape[1]] = kept
        return found

    return Profiles(cut(profiles.items, -1), cut(profiles.weights, 0), cut(profiles.ages, 0))


def _neighbour_scores(arrays: Shipped, items: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return [B, I]: the sum of the weights by which the user's items speak for each item."""
    n_items = len(arrays["indptr"]) - 1
    neighbours = sparse.csr_matrix((arrays["values"], arrays["indices"], arrays["indptr"]), shape=(n_items, n_items))
    rows, columns = np.nonzero(items >= 0)
    history = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, items[rows, columns])), shape=(len(items), n_items)
    )
    scores: NDArray[np.float32] = (history @ neighbours).toarray()
    return scores


def _log(values: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        result: NDArray[np.float32] = np.log(values)
    return result
