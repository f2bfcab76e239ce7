"""Judge a scorer by the held-out items of the users who were drawn for it, on the driver."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from ganrec_spark.evaluation.draws import drawn
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.top_n import mask_seen, top_n
from ganrec_spark.recommenders.catalogue import BLOCK, Score


def drawn_judges(users: DataFrame, held_out: DataFrame, purpose: str, seed: int) -> pa.Table:
    """Return rows of `users` (user_idx, items, ...) with relevant, their held-out items, on the driver.

    Of those that have some the draw for `purpose` (draws.drawn). `held_out`: one row per user and item.
    """
    return drawn(users.join(relevant_items(held_out), "user_idx"), purpose, seed).toArrow().combine_chunks()


def judged_ndcg(judged: list[pa.RecordBatch], score: Score, k: int) -> NDArray[np.float64]:
    """Return the NDCG@k of each of `drawn_judges` [U], their `items` never listed, by the driver's threads."""

    def judge(block: pa.RecordBatch) -> NDArray[np.float64]:
        scores = score(block)
        mask_seen(scores, lists(block, "items"))
        relevant = lists(block, "relevant")
        counts = np.array([len(items) for items in relevant])
        return ndcg(hit_matrix(top_n(scores, k)[0], relevant, k), counts, k)

    blocks = [batch.slice(start, BLOCK) for batch in judged for start in range(0, batch.num_rows, BLOCK)]
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        values = list(pool.map(judge, blocks))
    return np.concatenate(values) if values else np.empty(0)
