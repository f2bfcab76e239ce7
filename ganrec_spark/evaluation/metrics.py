"""Metrics of ranked lists; each is computed here and nowhere else.

Gains are binary. Letters: B users, K positions of the longest list kept, k cut-off (k <= K), R held-out items of
a user. A list shorter than k counts as filled with misses: a user without a list scores 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Lists = Sequence[NDArray[np.integer[Any]]]
JUDGED_K = 10  # settings, epochs, weights and trees are chosen by NDCG at this depth


def hit_matrix(items: Lists, relevant: Lists, k: int) -> NDArray[np.bool_]:
    """Return [B, k]: whether position j of each user's list holds one of the user's held-out items."""
    hits = np.zeros((len(items), k), dtype=np.bool_)
    listed, rows, positions = _flatten(items, k)
    if not len(listed):
        return hits
    wanted, owners, _ = _flatten(relevant, None)
    size = int(max(listed.max(), wanted.max(initial=0))) + 1
    hits[rows, positions] = np.isin(rows * size + listed, owners * size + wanted)
    return hits


def precision(hits: NDArray[np.bool_], n_relevant: NDArray[np.integer[Any]], k: int) -> Floats:
    """Return [B] hits among the first k / k."""
    return np.asarray(hits[:, :k].sum(axis=1) / k, dtype=np.float64)


def recall(hits: NDArray[np.bool_], n_relevant: NDArray[np.integer[Any]], k: int) -> Floats:
    """Return [B] hits among the first k / R."""
    return np.asarray(hits[:, :k].sum(axis=1) / n_relevant, dtype=np.float64)


def ndcg(hits: NDArray[np.bool_], n_relevant: NDArray[np.integer[Any]], k: int) -> Floats:
    """Return [B] discounted hits / those of an ideal list, which has min(k, R) hits (Jarvelin & Kekalainen 2002)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(n_relevant, k) - 1]
    # Not a matrix product: a user's last bit must not depend on whose lists are in the same batch.
    return np.asarray((hits[:, :k] * discounts).sum(axis=1) / ideal, dtype=np.float64)


def mrr(hits: NDArray[np.bool_], n_relevant: NDArray[np.integer[Any]], k: int) -> Floats:
    """Return [B] 1 / position of the first hit among the first k, 0 without one."""
    first = hits[:, :k].argmax(axis=1)
    return np.asarray(hits[:, :k].any(axis=1) / (first + 1), dtype=np.float64)


def average_precision(hits: NDArray[np.bool_], n_relevant: NDArray[np.integer[Any]], k: int) -> Floats:
    """Return [B] sum of the precision at each hit among the first k / min(k, R).

    trec_eval's map_cut divides by R, so that no list of k < R items could reach 1.
    """
    cut = hits[:, :k]
    at_hits = cut * np.cumsum(cut, axis=1) / np.arange(1, k + 1)
    return np.asarray(at_hits.sum(axis=1) / np.minimum(n_relevant, k), dtype=np.float64)


Metric = Callable[[NDArray[np.bool_], NDArray[np.integer[Any]], int], Floats]

PER_USER: dict[str, Metric] = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}


def novelty(items: Lists, information: Floats, k: int) -> Floats:
    """Return [B] mean self-information of the first k items in bits; NaN for an empty list (Zhou et al. 2010).

    `information` [I items] is -log2 of the share of users that rated the item (`self_information`).
    """
    listed, rows, _ = _flatten(items, k)
    totals = np.bincount(rows, weights=information[listed], minlength=len(items))
    counts = np.bincount(rows, minlength=len(items))
    return np.divide(totals, counts, out=np.full(len(items), np.nan), where=counts > 0)


def self_information(rating_counts: NDArray[np.integer[Any]], n_users: int) -> Floats:
    """Return [I] -log2(users that rated the item / users); an item that nobody rated counts as rated by one."""
    return np.asarray(-np.log2(np.maximum(rating_counts, 1) / max(n_users, 1)), dtype=np.float64)


def diversity(items: Lists, neighbours: scipy.sparse.csr_array, k: int) -> Floats:
    """Return [B] 1 - mean similarity over the pairs of the first k items; NaN for fewer than two items.

    `neighbours` [I, I] has rows of length 1 (`neighbour_sets`), so with s = the sum of the rows of m listed items
    the mean cosine over pairs is (s.s - m) / (m (m - 1)): no pair is ever formed.
    """
    listed, rows, _ = _flatten(items, k)
    counts = np.bincount(rows, minlength=len(items))
    membership = scipy.sparse.csr_array(
        (np.ones(len(listed)), listed, np.concatenate([[0], np.cumsum(counts)])),
        shape=(len(items), neighbours.shape[0]),
    )
    sums = membership @ neighbours
    squares = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    pairs = counts * (counts - 1)
    similarity = np.divide(squares - counts, pairs, out=np.full(len(items), np.nan), where=pairs > 0)
    return np.asarray(1 - similarity, dtype=np.float64)


def neighbour_sets(
    indptr: NDArray[np.integer[Any]], indices: NDArray[np.integer[Any]], n_items: int
) -> scipy.sparse.csr_array:
    """Return [I, I]: row i is the set of item i's stored neighbours and i itself, scaled to length 1.

    The product of two rows is the cosine of the two neighbour sets: |A and B| / sqrt(|A| |B|).
    """
    sets = scipy.sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(n_items, n_items))
    sets = (sets + scipy.sparse.eye_array(n_items, format="csr")).tocsr()
    sets.data[:] = 1.0
    lengths = np.diff(sets.indptr)
    sets.data /= np.sqrt(np.repeat(lengths, lengths))
    return sets


def coverage(list_counts: NDArray[np.integer[Any]], n_items: int) -> float:
    """Return the share of the catalogue that is listed for anyone; `list_counts` has one entry per listed item."""
    return float(np.count_nonzero(list_counts) / n_items) if n_items else 0.0


def gini(list_counts: NDArray[Any], n_items: int) -> float:
    """Return the Gini coefficient of how often items are listed, over the whole catalogue: 0 equal, near 1 few.

    `list_counts` has one entry per listed item; the rest of the `n_items` items count as 0.
    """
    counts = np.sort(np.asarray(list_counts, dtype=np.float64))
    total = counts.sum()
    if not n_items or not total:
        return 0.0
    places = np.arange(n_items - len(counts) + 1, n_items + 1)
    return float((2 * places - n_items - 1) @ counts / (n_items * total))


def _flatten(lists: Lists, k: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first k entries of all lists, each with its list's row and its position."""
    cut = [row[:k] for row in lists]
    lengths = np.array([len(row) for row in cut], dtype=np.int64)
    flat = np.concatenate(cut).astype(np.int64) if len(cut) else np.empty(0, dtype=np.int64)
    rows = np.repeat(np.arange(len(cut)), lengths)
    return flat, rows, np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
