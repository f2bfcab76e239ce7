"""What a run of any size takes: hours, memory, bytes, and what breaks first. Behind `ganrec sizing`; pure functions.

Costs are sums of terms (fixed, by ratings, by users, by items, by pairs of user and item) whose constants
benchmarks/scale.py fits to generated worlds and writes to sizing.json. Memory and limits follow from the code: where a
constant here stands for one elsewhere, its name says which (docs/scaling.md).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.pipeline import STAGE_BY_NAME

CONSTANTS = Path(__file__).with_name("sizing.json")
MEASURES = ("cpu", "driver_cpu", "shuffled", "written")
GIB = 2**30
_MAX_INDEX = 2**31 - 1  # frames.dense_index
_MOST_OF_ONE_ITEM = 2**27  # recommenders.popularity counts in units of 2^-36, in 63 bits
_HEAP_A_RATING = 60  # run.doctor
_RESULT_BYTES = GIB  # Spark's spark.driver.maxResultSize
_RATINGS_ON_DRIVER = 2_000_000  # recommenders.als.solver
_SUMS_ON_DRIVER = 200_000_000  # recommenders.item_item.sums, of pairs of items
_SUM_TASKS = 16  # there, beyond that, for EASE
_BYTES_A_SUM = 12  # a cell of a sparse matrix: double, int32
_CELLS_A_SLAB, _SLAB_TASKS = 2**24, 10_000  # recommenders.item_item.slabs, for other methods
_BATCH_BYTES = 2**28  # Spark's spark.sql.execution.arrow.maxBytesPerBatch
_BLOCK, _CELLS = 256, 2**25  # recommenders.catalogue: users, and scores, at a time
_ARRAYS_A_BLOCK = 3  # of float32 that a score and its best items hold
_STEP_COPIES = 4  # weights of the Transformer, their mean, two moments of Adam
_OVERSAMPLING = 32  # recommenders.item_item.gfcf
_NEIGHBOUR_BYTES = 8  # item, weight
_EXPLAINED_BYTES = 600  # an item's stored neighbours in pandas
_TORCH = GIB  # resident, of a process that has loaded it
_HEAP_A_CORE = 2 * GIB  # as conf/cluster.yaml gives


@dataclass(frozen=True)
class Size:
    """So many users, items and ratings. Raise ConfigError where there cannot be such data."""

    users: int
    items: int
    ratings: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"--{name}: expected 1 or more, found {value}")
        for name in ("users", "items"):
            if (found := getattr(self, name)) > self.ratings:
                raise ConfigError(
                    f"--{name}: expected at most one for each of {self.ratings} ratings, found {found}; count only "
                    f"{name} with ratings"
                )
        if self.ratings > self.users * self.items:
            raise ConfigError(
                f"--ratings: expected at most one of each user for each item, {self.users * self.items}, found "
                f"{self.ratings}; ratings of one pair count once"
            )

    def terms(self) -> dict[str, float]:
        """Return what costs are proportional to: millions of ratings, users and items, billions of pairs; 1."""
        return {
            "fixed": 1.0,
            "ratings": self.ratings / 1e6,
            "users": self.users / 1e6,
            "items": self.items / 1e6,
            "pairs": self.users * self.items / 1e9,
        }


@dataclass(frozen=True)
class Constants:
    """What was measured: by which models, on how many cores, in worlds of which sizes, and each stage's constants.

    `stages`: stage -> measure (MEASURES) -> term -> seconds or bytes of one unit of the term. `left_out`: stages that
    those models do not call for.
    """

    models: str
    measured: str
    cores: int
    worlds: tuple[Size, ...]
    stages: Mapping[str, Mapping[str, Mapping[str, float]]]
    left_out: tuple[str, ...]

    @classmethod
    def read(cls, file: Path = CONSTANTS) -> "Constants":
        """Return the constants that benchmarks/scale.py wrote. Raises ConfigError where they are not there."""
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{file}: expected the constants of `ganrec sizing`, found none; run benchmarks/scale.py"
            ) from None
        return cls.of(found)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Constants":
        """Return the constants of the file's content."""
        worlds = tuple(Size(**world) for world in found["worlds"])
        return cls(**{**found, "worlds": worlds, "left_out": tuple(found["left_out"])})

    @property
    def largest(self) -> Size:
        """The world with most ratings."""
        return max(self.worlds, key=lambda world: world.ratings)


@dataclass(frozen=True)
class StageForecast:
    """Seconds of processors, seconds from beginning to end, and bytes of one stage.

    `driver_seconds` is the part of `seconds` that more executors do not shorten.
    """

    stage: str
    cpu: float
    driver_seconds: float
    seconds: float
    shuffled: float
    written: float


def forecast(constants: Constants, size: Size, cores: int) -> list[StageForecast]:
    """Return what each stage takes on so many cores of executors, all of which are taken to be busy.

    The driver's Python (training, with one worker, and what is few) works as fast as it was measured to, on
    `constants.cores`; what becomes too much for it executors do.
    """
    if cores < 1:
        raise ConfigError(f"--cores: expected 1 or more, found {cores}")
    terms, found = size.terms(), []
    for stage, measures in constants.stages.items():
        cost = {name: sum(of[term] * terms[term] for term in of) for name, of in measures.items()}
        alone = min(cost["driver_cpu"], cost["cpu"]) if _on_driver(STAGE_BY_NAME[stage].module, size) else 0.0
        driver_seconds = alone / constants.cores
        seconds = driver_seconds + (cost["cpu"] - alone) / cores
        found.append(StageForecast(stage, cost["cpu"], driver_seconds, seconds, cost["shuffled"], cost["written"]))
    return found


def _on_driver(module: str, size: Size) -> bool:
    """Return whether the driver does by itself what it did in the small worlds that were measured."""
    if module in ("als", "als_setting"):
        return size.ratings <= _RATINGS_ON_DRIVER
    if module == "item_item":
        return min(pairs(size), size.items**2) <= _SUMS_ON_DRIVER
    return True


@dataclass(frozen=True)
class Memory:
    """Bytes that a run of these settings needs: of the driver, and of each executor; and what needs most."""

    driver_heap: float
    driver_python: float
    driver_most: str
    executor_heap: float
    executor_overhead: float
    executor_most: str


def memory(size: Size, config: Config, executors: int, executor_cores: int) -> Memory:
    """Return what driver and executors need. Stages come one after the other, so the one that needs most counts."""
    driver = {
        "Torch": 0.0,
        "item_item_weights, for explanations": _EXPLAINED_BYTES * size.items,
        "RP3beta's weights": 3.0 * _NEIGHBOUR_BYTES * config.item_item.neighbours * size.items,
    }
    if gathered(size, config) <= config.als.max_gathered_gib * GIB:
        driver["ALS's vectors"] = gathered(size, config)
    if size.items <= config.item_item.max_exact_items:
        driver["EASE's matrices"] = 8.0 * size.items**2
    if size.items <= config.item_item.max_graph_items:
        driver["GF-CF's vectors"] = 20.0 * size.items * (config.item_item.gfcf_rank + _OVERSAMPLING)
    worker = {
        "scores of a block of users": 4.0 * _ARRAYS_A_BLOCK * max(size.items, min(_BLOCK * size.items, _CELLS)),
        "the Transformer's weights, their mean and Adam": 4.0
        * _STEP_COPIES
        * size.items
        * config.transformer.size(size.ratings),
        "item_item's sums of pairs of items": bytes_of_sums(size, config),
    }
    if gathered(size, config) <= config.als.max_gathered_gib * GIB:
        worker["ALS's vectors"] = gathered(size, config)  # each task gets both sides'
    driver_most, worker_most = (max(parts, key=parts.__getitem__) for parts in (driver, worker))
    # The tasks of item_item's sums may come to lie on one executor.
    return Memory(
        GIB + 2 * _RESULT_BYTES,  # as tasks send them, and on their way to Python
        _TORCH + driver[driver_most],
        driver_most,
        _HEAP_A_CORE * executor_cores + _HEAP_A_RATING * size.ratings / executors,
        executor_cores * (_TORCH + worker[worker_most]),
        worker_most,
    )


def gathered(size: Size, config: Config) -> float:
    """Return the bytes of ALS's vectors of both sides, of as many factors as its search begins with."""
    return 4.0 * config.als.embedding_size[0] * (size.users + size.items)


def pairs(size: Size) -> float:
    """Return how many pairs of items users have together, if all are equally active; with a long tail they are more."""
    return size.ratings**2 / size.users


def bytes_of_sums(size: Size, config: Config) -> float:
    """Return what a task of item_item's sums holds: EASE's pairs of items, or a slab of sums and a batch of rows."""
    rows = _BYTES_A_SUM * min(pairs(size), float(size.ratings * slabs(size))) / sum_tasks(size)
    slab = 8.0 * max(_CELLS_A_SLAB, size.items) + min(rows, _BATCH_BYTES)
    if size.items > config.item_item.max_exact_items:
        return slab
    return max(slab, _BYTES_A_SUM * min(pairs(size) / _SUM_TASKS, float(size.items) ** 2))


def slabs(size: Size) -> int:
    """Return into how many slabs of items the sums of RP3beta and GF-CF are cut."""
    return ceil(size.items / max(1, _CELLS_A_SLAB // size.items))


def sum_tasks(size: Size) -> int:
    """Return how many tasks add up the sums of RP3beta and GF-CF."""
    return min(slabs(size), _SLAB_TASKS)


@dataclass(frozen=True)
class Limit:
    """Something that changes or ends at a bound: how much of it there is, the bound, the key, and what comes then."""

    what: str
    found: float
    bound: float
    key: str
    then: str

    @property
    def share(self) -> float:
        """How much of the bound is used; above 1 it is broken."""
        return self.found / self.bound


def limits(size: Size, config: Config, cores: int) -> list[Limit]:
    """Return what breaks, that which is furthest beyond its bound first."""
    return sorted(_limits(size, config, cores), key=lambda limit: -limit.share)


def _limits(size: Size, config: Config, cores: int) -> Iterator[Limit]:
    own, most = config.item_item, config.als.max_gathered_gib
    if config.als.solver == "auto":
        then = "MLlib fits, which is slower: not measured"
        yield Limit("ALS's vectors, GiB", gathered(size, config) / GIB, most, "als.max_gathered_gib", then)
    if own.method == "auto":
        exact, graph = "item_item.max_exact_items", "item_item.max_graph_items"
        yield Limit("items for EASE", size.items, own.max_exact_items, exact, "EASE is left out")
        yield Limit("items for GF-CF", size.items, own.max_graph_items, graph, "GF-CF is left out")
    weights = _NEIGHBOUR_BYTES * own.neighbours * size.items / GIB
    result = "spark.driver.maxResultSize (spark.properties), item_item.neighbours"
    yield Limit("RP3beta's weights, GiB", weights, _RESULT_BYTES / GIB, result, "item_item fails")
    then = "more cores do not help its sums"
    yield Limit("cores for item_item's sums", cores, sum_tasks(size), "none", then)
    yield Limit("users who may rate one item", size.users, _MOST_OF_ONE_ITEM, "none", "popularity's counts overflow")
    yield Limit("ids", max(size.users, size.items), _MAX_INDEX, "none", "ingest refuses")


def executors_of(cores: int, executor_cores: int) -> int:
    """Return how many executors give so many cores."""
    if executor_cores < 1:
        raise ConfigError(f"--executor-cores: expected 1 or more, found {executor_cores}")
    return ceil(cores / executor_cores)
