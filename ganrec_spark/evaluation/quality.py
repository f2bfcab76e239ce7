"""Quality of ranked lists, in Spark: sums of every metric for the report."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StringType, StructField, StructType
from scipy.sparse import csr_array

from ganrec_spark.evaluation import metrics
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.ship import Shipped

# What the sums of `metric_sums` are kept apart by; users of the same segments add up to one sum.
GROUP = ("recommender", "fill", "segments")

# Sums are decimals of so many places: exact, so that no order of rows and partitions shows in a digit.
_PLACES = 12
# So many squares, each below 47^2 (the novelty that needs 2^47 users), add up to less than 2^63 units.
_SLICE = 4096
_SUMS = (
    "recommender string, fill string, segments array<string>, metric string, k int, item_idx int, "
    "n bigint, total decimal(38, 12), squares decimal(38, 12)"
)
_ARROW = pa.schema(
    [
        ("recommender", pa.string()),
        ("fill", pa.string()),
        ("segments", pa.list_(pa.string())),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("item_idx", pa.int32()),
        ("n", pa.int64()),
        ("total", pa.decimal128(38, _PLACES)),
        ("squares", pa.decimal128(38, _PLACES)),
    ]
)


def metric_sums(rows: DataFrame, ks: tuple[int, ...], facts: Shipped) -> DataFrame:
    """Return what every metric's mean and interval need, summed over users: one pass over the lists.

    In: one row per user and list: GROUP columns, items (best first), relevant (the user's held-out items, at least
    one). `facts`: `information` [I] of evaluation.metrics.self_information, `indptr` and `indices` of the items'
    stored neighbours.
    Out: one row per group, metric and k, with n users, the sum and the sum of squares of their values (each value and
    square rounded to 12 places, their sums exact), item_idx NULL; and metric `listed`: n lists that hold item_idx at
    a position after the next smaller of `ks`, up to k.
    """
    cuts = sorted(ks)

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        information = facts["information"]
        neighbours = metrics.neighbour_sets(facts["indptr"], facts["indices"], len(information))
        sums: dict[tuple[object, ...], list[int]] = {}
        listed: dict[tuple[object, ...], list[NDArray[np.integer[Any]]]] = {}
        for batch in (whole.slice(at, _SLICE) for whole in batches for at in range(0, whole.num_rows, _SLICE)):
            items, relevant = lists(batch, "items"), lists(batch, "relevant")
            groups, codes = _codes(batch)
            for metric, k, values in _user_values(items, relevant, cuts, information, neighbours):
                for group, row in zip(groups, _moments(codes, values, len(groups)), strict=True):
                    key = (*group, metric, k)
                    sums[key] = [before + more for before, more in zip(sums.get(key, (0, 0, 0)), row, strict=True)]
            for below, k in zip([0, *cuts], cuts, strict=False):
                for code, part in zip(codes, items, strict=True):
                    listed.setdefault((*groups[code], "listed", k), []).append(part[below:k])
        yield from _partial_rows(sums, listed)

    return (
        rows.mapInArrow(measure, _SUMS)
        .groupBy(*GROUP, "metric", "k", "item_idx")
        .agg(F.sum("n").alias("n"), F.sum("total").alias("total"), F.sum("squares").alias("squares"))
    )


def _user_values(
    items: list[NDArray[np.integer[Any]]],
    relevant: list[NDArray[np.integer[Any]]],
    cuts: list[int],
    information: NDArray[np.float64],
    neighbours: csr_array,
) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    hits = metrics.hit_matrix(items, relevant, cuts[-1])
    n_relevant = np.array([len(row) for row in relevant])
    for k in cuts:
        for name, metric in metrics.PER_USER.items():
            yield name, k, metric(hits, n_relevant, k)
        yield "novelty", k, metrics.novelty(items, information, k)
        yield "diversity", k, metrics.diversity(items, neighbours, k)


def _codes(batch: pa.RecordBatch) -> tuple[list[tuple[object, ...]], NDArray[np.int64]]:
    """Return the distinct groups of a batch and, per row, which of them it is in."""
    *columns, segments = (batch.column(name).to_pylist() for name in GROUP)
    keys = list(zip(*columns, map(tuple, segments), strict=True))
    position = {group: code for code, group in enumerate(dict.fromkeys(keys))}
    return list(position), np.array([position[key] for key in keys], dtype=np.int64)


def _moments(codes: NDArray[np.int64], values: NDArray[np.float64], n_groups: int) -> list[list[int]]:
    """Return [groups, 3]: number, sum and sum of squares of the values, the sums in units of 10^-12.

    NaN (undefined for the user) is left out.
    """
    defined = np.isfinite(values)
    codes, values = codes[defined], values[defined]
    moments = np.zeros((n_groups, 3), dtype=np.int64)
    np.add.at(moments[:, 0], codes, 1)
    for column, power in ((1, values), (2, values * values)):
        np.add.at(moments[:, column], codes, np.rint(power * 10**_PLACES).astype(np.int64))
    # Python's integers, which have no largest, add up over batches.
    return [list(map(int, row)) for row in moments]


def _partial_rows(
    sums: dict[tuple[object, ...], list[int]], listed: dict[tuple[object, ...], list[NDArray[np.integer[Any]]]]
) -> Iterator[pa.RecordBatch]:
    yield _batch([(*key, None, n, _decimal(total), _decimal(squares)) for key, (n, total, squares) in sums.items()])
    for key, parts in listed.items():
        ids, counts = np.unique(np.concatenate(parts), return_counts=True)
        zero = Decimal(0)
        yield _batch([(*key, item, n, zero, zero) for item, n in zip(ids.tolist(), counts.tolist(), strict=True)])


def _decimal(units: int) -> Decimal:
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -_PLACES))


def _batch(rows: list[tuple[object, ...]]) -> pa.RecordBatch:
    columns: list[Sequence[object]] = list(zip(*rows, strict=True)) if rows else [[] for _ in _ARROW]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, _ARROW, strict=True)], schema=_ARROW
    )


def catalogue_spread(counts: DataFrame, n_items: int) -> DataFrame:
    """Return (..., metric, value): coverage and gini of each row's `counts`, one entry per item listed there.

    In: any columns and `counts` array<bigint>. Out: two rows per row, without `counts`.
    """
    kept = [field for field in counts.schema.fields if field.name != "counts"]
    schema = StructType([*kept, StructField("metric", StringType()), StructField("value", DoubleType())])

    def spread(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rest = [batch.column(field.name) for field in kept]
            per_row = lists(batch, "counts")
            for metric, function in (("coverage", metrics.coverage), ("gini", metrics.gini)):
                values = pa.array([function(row, n_items) for row in per_row], pa.float64())
                names = pa.array([metric] * batch.num_rows, pa.string())
                yield pa.RecordBatch.from_arrays(
                    [*rest, names, values], names=[*(field.name for field in kept), "metric", "value"]
                )

    return counts.mapInArrow(spread, schema)
