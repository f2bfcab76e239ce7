"""Judge a scorer by the held-out items of the users who were drawn for it, on the driver."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.evaluation.draws import draw_order, drawn
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.recommenders.catalogue import BLOCK, Best


def drawn_judges(
    ratings: DataFrame, held_out: DataFrame, purpose: str, seed: int, gathered: Callable[[DataFrame], DataFrame]
) -> pa.Table:
    """Return the rows that `gathered` makes of judges' ratings (user_idx, items, ...), with relevant, on the driver.

    Judges are the draw for `purpose` (draws.drawn) of the users who have ratings and `held_out` ones, of which relevant
    are the items. The rows come in the draw's order. In: ratings, one row per user and item.
    """
    able = ratings.select("user_idx").join(held_out.select("user_idx"), "user_idx", "left_semi").distinct()
    judges = F.broadcast(drawn(able, purpose, seed))
    own, held = (rows.join(judges, "user_idx", "left_semi") for rows in (ratings, held_out))
    rows = gathered(own).join(relevant_items(held), "user_idx")
    order = {f"order_{place}": column for place, column in enumerate(draw_order(purpose, seed))}
    return sorted_here(rows.withColumns(order), *order).drop_columns(list(order))


def judged_ndcg(judged: list[pa.RecordBatch], best: Best, k: int) -> NDArray[np.float64]:
    """Return the NDCG@k of each of `drawn_judges` [U], their `items` never listed, by the driver's threads."""

    def judge(block: pa.RecordBatch) -> NDArray[np.float64]:
        relevant = lists(block, "relevant")
        counts = np.array([len(items) for items in relevant])
        return ndcg(hit_matrix(best(block, lists(block, "items"), k)[0], relevant, k), counts, k)

    blocks = [batch.slice(start, BLOCK) for batch in judged for start in range(0, batch.num_rows, BLOCK)]
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        values = list(pool.map(judge, blocks))
    return np.concatenate(values) if values else np.empty(0)
