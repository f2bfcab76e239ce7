"""What items' vectors start from: where items are alike by what is known of them, so are the vectors.

A network that starts at random has to learn from ratings alone that two items are alike, and of few ratings it cannot.
Letters: I item slots, D embedding size, F features of a column.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ganrec_spark.attributes.describing import descriptions
from ganrec_spark.attributes.likeness import Described
from ganrec_spark.recommenders.transformer.training import SasRecPlan
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_rng

_MOST = 100_000  # items whose description the driver holds
_GAIN = 0.02  # of validation NDCG@10, by a start after the first: as for the adversary's radius


def known_items(context: Context, catalogue: NDArray[np.int64]) -> Described | None:
    """Return what is known of the items; None where that is nothing, or there are more than 100,000 of them."""
    found = descriptions(context.lake, context.config.newcomers.max_features)
    if not found.columns or len(catalogue) > _MOST:
        return None
    items = context.spark.createDataFrame(pa.table({"item_idx": catalogue.astype(np.int32)}))
    return found.here(found.rows.join(items, "item_idx", "left_semi"))


def item_vectors(known: Described, n_items: int, size: int, length: float, seed: int) -> NDArray[np.float32]:
    """Return a start [I, D]: inner products are about the square of `length` times the mean of columns' cosines.

    Random projections (Johnson & Lindenstrauss 1984) of each column's matrix [N, F]. Items of which nothing is known
    have zeros.
    """
    vectors = np.zeros((n_items, size), dtype=np.float32)
    for name, matrix in known.columns.items():
        directions = stable_rng(seed, "item start", name).standard_normal((matrix.shape[1], size), dtype=np.float32)
        vectors[known.idx] += np.asarray(matrix @ directions, dtype=np.float32)
    return vectors * np.float32(length / np.sqrt(size * max(1, len(known.columns))))


def better_start(plans: list[SasRecPlan], ndcg_of: Mapping[str, float]) -> list[SasRecPlan]:
    """Return the plans of the start that is best by the mean validation NDCG@10 of its models, by name in `ndcg_of`.

    To replace the first one it must gain 2 %. A model that is not there counts as 0.
    """
    by_start: dict[float, list[SasRecPlan]] = {}
    for plan in plans:
        by_start.setdefault(plan.item_start, []).append(plan)
    if len(by_start) < 2:
        return plans
    reached = {start: np.mean([ndcg_of.get(plan.name, 0.0) for plan in own]) for start, own in by_start.items()}
    first, best = next(iter(reached)), max(reached, key=lambda start: reached[start])
    return by_start[best if reached[best] > reached[first] * (1 + _GAIN) else first]
