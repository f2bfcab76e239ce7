"""Blend the recommenders' lists in Spark, a partition of users at a time."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from ganrec_spark.distributed.ranking import lists
from ganrec_spark.distributed.ship import Shipped
from ganrec_spark.ranking import blend
from ganrec_spark.ranking.serving import Catalogue, final_list

_LISTS = pa.schema([("user_idx", pa.int32()), ("items", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))])
_SUMS = "setting int, n bigint, total double, n_sparse bigint, total_sparse double"
_SUMS_ARROW = pa.schema(
    [
        ("setting", pa.int32()),
        ("n", pa.int64()),
        ("total", pa.float64()),
        ("n_sparse", pa.int64()),
        ("total_sparse", pa.float64()),
    ]
)
_SERVED = (
    "user_idx int, items array<int>, scores array<double>, sources array<int>, because array<int>, "
    "n_unseen int, n_available int"
)
_SERVED_ARROW = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("items", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float64())),
        ("sources", pa.list_(pa.int32())),
        ("because", pa.list_(pa.int32())),
        ("n_unseen", pa.int32()),
        ("n_available", pa.int32()),
    ]
)


def grid_sums(
    rows: DataFrame, members: Sequence[str], weights: NDArray[np.float64], constant: float, k: int
) -> DataFrame:
    """Return, per setting of `weights` [W, M], number and sum of NDCG@k over all users and over sparse ones.

    In: one row per validation user: a list column per member (NULL: no list), relevant, is_sparse (NULL: no).
    Out: W rows per partition that has users; add them up.
    """

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts, totals = np.zeros(2, dtype=np.int64), np.zeros((2, len(weights)))
        for batch in batches:
            columns = [lists(batch, member) for member in members]
            sparse = batch.column("is_sparse").to_pylist()
            for *ranked, relevant, is_sparse in zip(*columns, lists(batch, "relevant"), sparse, strict=True):
                ndcg = blend.grid_ndcg(ranked, relevant, weights, constant, k)
                for segment in (0, 1) if is_sparse else (0,):
                    counts[segment] += 1
                    totals[segment] += ndcg
        size = len(weights)
        sums = (np.arange(size), np.full(size, counts[0]), totals[0], np.full(size, counts[1]), totals[1])
        arrays = [pa.array(values, field.type) for values, field in zip(sums, _SUMS_ARROW, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SUMS_ARROW)

    return rows.mapInArrow(judge, _SUMS)


def fuse_lists(
    rows: DataFrame, members: Sequence[str], tail: str, weights: NDArray[np.float64], constant: float, n: int
) -> DataFrame:
    """Return (user_idx, items, scores): each user's n best items of the blend with `weights` [M].

    In: one row per user: user_idx, a list column per member; the list of column `tail` follows what is fused.
    """

    def fuse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = [lists(batch, member) for member in members]
            fused = [
                blend.fuse(ranked, weights, constant, popular)
                for *ranked, popular in zip(*columns, lists(batch, tail), strict=True)
            ]
            items = pa.array([row[:n].astype(np.int32) for row, _ in fused], pa.list_(pa.int32()))
            scores = pa.array([row[:n].astype(np.float32) for _, row in fused], pa.list_(pa.float32()))
            yield pa.RecordBatch.from_arrays([batch.column("user_idx"), items, scores], schema=_LISTS)

    return rows.mapInArrow(fuse, "user_idx int, items array<int>, scores array<float>")


def serve(
    rows: DataFrame,
    members: Sequence[str],
    tail: str,
    weights: NDArray[np.float64],
    constant: float,
    n: int,
    facts: Shipped,
) -> DataFrame:
    """Return each user's final list: ranking.serving.Served as columns, one row per user.

    In: one row per user: user_idx, a list column per member, seen (observed items); the list of column `tail` fills
    up. `facts`: the arrays of ranking.serving.Catalogue.
    """

    def recommend(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        catalogue = Catalogue(facts["popular"], facts["allowed"], facts["indptr"], facts["neighbours"])
        for batch in batches:
            columns = [lists(batch, member) for member in members]
            served = [
                final_list(ranked, weights, constant, popular, seen, catalogue, n)
                for *ranked, popular, seen in zip(*columns, lists(batch, tail), lists(batch, "seen"), strict=True)
            ]
            values = {field.name: [getattr(user, field.name) for user in served] for field in list(_SERVED_ARROW)[1:]}
            arrays = [pa.array(values[field.name], field.type) for field in list(_SERVED_ARROW)[1:]]
            yield pa.RecordBatch.from_arrays([batch.column("user_idx"), *arrays], schema=_SERVED_ARROW)

    return rows.mapInArrow(recommend, _SERVED)
