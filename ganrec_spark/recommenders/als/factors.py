"""The vectors of a fit: as tables, as arrays on every worker, and as a score of the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.frames.best_products import best_products
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.ship import ship
from ganrec_spark.frames.top_n import Lists
from ganrec_spark.recommenders.catalogue import Best


@dataclass(frozen=True)
class AlsFactors:
    """A fitted ALS: users' vectors as rows (user_idx int, factors array<float>), where they were solved or stored.

    Row i of `items` [I, D] is the vector of item `item_idx[i]`; item_idx is ascending and may have gaps.
    `went_on`: whether the fit began from the vectors of an earlier one.
    """

    user_rows: DataFrame | pa.Table
    item_idx: NDArray[np.int32]
    items: NDArray[np.float32]
    went_on: bool = False

    @cached_property
    def users(self) -> DataFrame:
        """The users' vectors in Spark."""
        rows = self.user_rows
        return SparkSession.active().createDataFrame(rows) if isinstance(rows, pa.Table) else rows

    def users_here(self, wanted: DataFrame) -> pa.Table:
        """Return the users' vectors on the driver, at least those of the `wanted` (user_idx) that have one."""
        if isinstance(self.user_rows, pa.Table):
            return self.user_rows
        return self.user_rows.join(wanted, "user_idx", "left_semi").toArrow()

    def item_slots(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors by item index, [item slots, D] with zeros in gaps, and which slots have a vector."""
        slots = int(self.item_idx[-1]) + 1 if len(self.item_idx) else 0
        table = np.zeros((slots, self.items.shape[1]), dtype=np.float32)
        known = np.zeros(slots, dtype=np.bool_)
        table[self.item_idx], known[self.item_idx] = self.items, True
        return table, known


def factor_rows(spark: SparkSession, fitted: AlsFactors) -> DataFrame:
    """Return (side, idx, factors), one row per user and item of a fit."""
    table = {"idx": pa.array(fitted.item_idx), "factors": arrow_lists(fitted.items)}
    items = spark.createDataFrame(pa.table(table)).select(F.lit("item").alias("side"), "idx", "factors")
    users = fitted.users.select(F.lit("user").alias("side"), F.col("user_idx").alias("idx"), "factors")
    return users.unionByName(items)


def factors_of(rows: DataFrame) -> AlsFactors:
    """Return the fit whose rows `factor_rows` gave."""
    items = rows.where("side = 'item'").orderBy("idx").select("idx", "factors").toArrow()
    flat = items.column("factors").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    idx = items.column("idx").to_numpy().astype(np.int32)
    users = rows.where("side = 'user'").select(F.col("idx").alias("user_idx"), "factors")
    return AlsFactors(users, idx, flat.astype(np.float32).reshape(len(idx), -1))


def by_factors(spark: SparkSession, fitted: AlsFactors) -> Best:
    """Return what finds a block of users' best items: the largest products of their `factors` and item vectors."""
    table, known = fitted.item_slots()
    shipped = ship(spark, table=table, known=known)

    def best(block: pa.RecordBatch, seen: Sequence[NDArray[np.integer[Any]]], n: int) -> Lists:
        return best_products(np.stack(lists(block, "factors")), shipped["table"], shipped["known"], seen, n)

    return best


def arrow_lists(vectors: NDArray[np.float32]) -> pa.ListArray:
    """Return each row of a matrix as one list."""
    offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
