"""The items that speak most for each item, by the item-item models, as a rule that fills profiles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from scipy import sparse

from ganrec_spark.recommenders.item_item.ease import ease_weights
from ganrec_spark.recommenders.item_item.profiles import item_axis, profiles
from ganrec_spark.recommenders.item_item.sums import gathered, gram_matrix, rp3beta_weights

# A fill needs the head of the ranking only; which setting ranks best is the item_item stage's concern.
_MAX_EXACT_ITEMS = 5_000
_EASE_REGULARISATION = 400.0
_RP3_ALPHA, _RP3_BETA = 0.7, 0.2


def item_neighbours(observed: DataFrame, neighbours: int) -> dict[str, NDArray[Any]]:
    """Return for each history item its strongest positive weights, by EASE or, beyond 5,000 items, RP3beta.

    In: one row per user and item (user_idx, item_idx, rating). Out: the arrays indptr, indices, values of a CSR
    matrix [item slots, item slots]; row i holds at most `neighbours` items, ascending.
    """
    items = item_axis(observed)
    users = gathered(profiles(observed), items)
    if len(items) <= _MAX_EXACT_ITEMS:
        gram = gram_matrix(users, items)
        weights = strongest(ease_weights(gram, _EASE_REGULARISATION), neighbours)
    else:
        weights = rp3beta_weights(users, items, _RP3_ALPHA, _RP3_BETA, neighbours)
    entries = weights.tocoo()
    slots = int(items.max(initial=-1)) + 1
    by_slot = sparse.csr_array((entries.data, (items[entries.row], items[entries.col])), shape=(slots, slots))
    by_slot.sort_indices()
    return {
        "indptr": by_slot.indptr.astype(np.int64),
        "indices": by_slot.indices.astype(np.int64),
        "values": by_slot.data.astype(np.float32),
    }


def strongest(weights: NDArray[np.float32], n: int) -> sparse.csr_array:
    """Return the n largest positive weights of each row of a dense [I, I] matrix; ties by smaller column."""
    n = min(n, weights.shape[1])
    rows, columns, values = [], [], []
    for row, line in enumerate(weights):
        kept = np.argpartition(-line, n - 1)[:n] if n < len(line) else np.arange(n)
        last = line[kept].min()
        # Ties for the last place: all above it, then the smallest columns at it.
        above, level = np.flatnonzero(line > last), np.flatnonzero(line == last)
        kept = np.concatenate([above, level[: n - len(above)]])
        kept = kept[line[kept] > 0]
        rows.append(np.full(len(kept), row))
        columns.append(kept)
        values.append(line[kept])
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(parts, shape=weights.shape)
