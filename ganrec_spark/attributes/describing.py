"""What is known of items, as rows in Spark and as matrices on a machine."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.attributes.features import features_of
from ganrec_spark.attributes.likeness import Described, Matrix
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.lake.stage_lake import StageLake

_PARTS = ("data", "indices", "indptr")  # of a sparse matrix


@dataclass(frozen=True)
class Descriptions:
    """Rows (item_idx, places, weights as attributes.features has them, and a column for each of `vectors`).

    `words`: of each column of attributes the places that are its own. `vectors`: the lengths of vectors, by modality.
    """

    rows: DataFrame
    words: Mapping[str, NDArray[np.int64]]
    vectors: Mapping[str, int]

    @property
    def columns(self) -> tuple[str, ...]:
        """What items are alike by."""
        return (*self.words, *self.vectors)

    def here(self, rows: DataFrame) -> Described:
        """Return the description of some of the rows, on the driver."""
        table = sorted_here(rows, "item_idx")
        batches = table.to_batches()
        block = batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
        return described(block, self.words, self.vectors)


def described(block: pa.RecordBatch, words: Mapping[str, NDArray[np.int64]], vectors: Mapping[str, int]) -> Described:
    """Return the description of the items of a block of `Descriptions.rows`."""
    places, weights = lists(block, "places"), lists(block, "weights")
    starts = np.concatenate([[0], np.cumsum([len(own) for own in places])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, np.int64), *places]).astype(np.int64)
    values = np.concatenate([np.empty(0, np.float32), *weights]).astype(np.float32)
    width = sum(map(len, words.values()))
    table = sparse.csr_array((values, flat, starts), shape=(block.num_rows, width)).tocsc()
    columns: dict[str, Matrix] = {name: sparse.csr_array(table[:, own]) for name, own in words.items()}
    columns |= {name: _unit_rows(lists(block, f"vector {name}"), length) for name, length in vectors.items()}
    return Described(block.column("item_idx").to_numpy().astype(np.int32), columns)


def shipped_description(spark: SparkSession, known: Described, names: Iterable[str]) -> Callable[[], Described]:
    """Ship some columns of a description; return what opens it where it arrives."""
    idx = ship(spark, idx=known.idx)
    found = {name: _shipped_matrix(spark, known.columns[name]) for name in names}
    return lambda: Described(idx["idx"], {name: opened() for name, opened in found.items()})


def _shipped_matrix(spark: SparkSession, matrix: Matrix) -> Callable[[], Matrix]:
    if isinstance(matrix, np.ndarray):
        dense = ship(spark, dense=matrix)
        return lambda: dense["dense"]
    parts, shape = ship(spark, **{name: getattr(matrix, name) for name in _PARTS}), matrix.shape
    return lambda: sparse.csr_array(tuple(parts[name] for name in _PARTS), shape=shape)


def descriptions(lake: StageLake, most: int) -> Descriptions:
    """Return what is known of every item of which anything is: by the `most` frequent values and words, and vectors.

    Sensitive columns say nothing here.
    """
    features = features_of(lake, "item", most)
    owners = np.array([name for name, _ in features.names], dtype=object)
    words = {name: np.flatnonzero(owners == name) for name in dict.fromkeys(owners)}
    rows = features.rows.withColumnRenamed("idx", "item_idx")
    usable = lake.read("attribute_columns").where("role = 'item' AND NOT sensitive").select(F.col("name"))
    known = lake.read("item_vectors").join(F.broadcast(usable), F.col("modality") == F.col("name"))
    sizes = known.groupBy("modality").agg(F.max(F.size("vector")).alias("length")).orderBy("modality").collect()
    for modality, _ in sizes:
        own = known.where(F.col("modality") == modality).select("item_idx", F.col("vector").alias(f"vector {modality}"))
        rows = rows.join(own, "item_idx", "full")
    return Descriptions(rows, words, dict(map(tuple, sizes)))


def _unit_rows(vectors: list[NDArray[Any]], length: int) -> NDArray[np.float32]:
    """Return [N, length]: each vector at length 1; zeros where there is none."""
    table = np.zeros((len(vectors), length))
    given = [row for row, vector in enumerate(vectors) if len(vector)]
    if given:
        table[given] = np.stack([vectors[row] for row in given])
    size = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(np.divide(table, size, out=table, where=size > 0), dtype=np.float32)
