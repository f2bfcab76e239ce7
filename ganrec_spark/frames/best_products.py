"""The items whose vectors have the largest products with a user's, without all products ever being there.

Letters: B users, I items, D numbers a vector.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.errors import TrainingError
from ganrec_spark.frames.products import products
from ganrec_spark.frames.top_n import Lists, first_n, mask_seen, top_n

_CELLS = 2**17  # scores at a time: 512 KiB, which stay in a core's cache
_EXACT = 2**14  # products in double precision at a time
_ROUNDING = 2.0**-23  # twice a float32's
_MOST = 16  # times n contenders of a user; of more the items are level, and all products are made


def best_products(
    users: NDArray[np.float32],
    table: NDArray[np.float32],
    known: NDArray[np.bool_],
    seen: Sequence[NDArray[np.integer[Any]]],
    n: int,
) -> Lists:
    """Return per user [B, D] the n items of `table` [I, D] with the largest products, as `top_n(products(...))` does.

    Left out are items that are not `known` [I], and the user's own `seen`. Single precision finds the contenders, with
    a bound of its error; double precision ranks them. Memory: _CELLS scores, and some n contenders a user.
    """
    n = min(n, len(table))
    if not n or not len(users):
        return [np.empty(0, dtype=np.int32)] * len(users), [np.empty(0, dtype=np.float32)] * len(users)
    search = _Search(users, table, n)
    width = max(n, _CELLS // len(users))
    owners, listed = _by_item(seen)
    for start in range(0, len(table), width):
        part = slice(start, start + width)
        scores = users @ table[part].T
        scores[:, ~known[part]] = -np.inf
        own = slice(*np.searchsorted(listed, (start, start + width)))
        scores[owners[own], listed[own] - start] = -np.inf
        search.see(scores, start)
    items, values = search.best()
    for row in search.level:
        scores = products(users[row : row + 1], table.T)
        scores[:, ~known] = -np.inf
        mask_seen(scores, seen[row : row + 1])
        (items[row],), (values[row],) = top_n(scores, n)
    return items, values


class _Search:
    """The contenders among the items that were seen so far."""

    def __init__(self, users: NDArray[np.float32], table: NDArray[np.float32], n: int) -> None:
        self._users, self._table, self._n = users, table, n
        # A product of D numbers is off by at most D roundings of |x| |y|; an item's and the bound's may differ so.
        longest = float(np.sqrt(np.einsum("id,id->i", table, table).max()))
        lengths = np.sqrt(np.einsum("bd,bd->b", users, users))
        self._margin = 2 * (users.shape[1] + 2) * _ROUNDING * longest * lengths
        if not np.isfinite(self._margin).all():
            raise TrainingError("lists by vectors: expected finite vectors, found some that are not, or beyond 1e19")
        self._bound = np.full(len(users), -np.inf, dtype=np.float32)
        self._rows = np.empty(0, dtype=np.int64)
        self._items = np.empty(0, dtype=np.int64)
        self._values = np.empty(0, dtype=np.float32)
        self._fresh = 0
        self.level: list[int] = []

    def see(self, scores: NDArray[np.float32], start: int) -> None:
        """Take the scores [B, items from `start` on], -inf for what must not be listed."""
        if start == 0:
            self._raise(np.partition(scores, -self._n, axis=1)[:, -self._n])
            mask = scores >= self._least()[:, None]
        else:
            mask = scores > self._least()[:, None]
        rows, items = np.divmod(np.flatnonzero(mask), scores.shape[1])
        self._rows = np.concatenate([self._rows, rows])
        self._items = np.concatenate([self._items, items + start])
        self._values = np.concatenate([self._values, scores[rows, items]])
        self._fresh += len(rows)
        if self._fresh > self._n * len(scores):
            self._tighten()

    def best(self) -> Lists:
        """Return the lists by exact products; those of `level` users are to be made otherwise."""
        self._tighten()
        exact = np.empty(len(self._rows), dtype=np.float32)
        for start in range(0, len(exact), _EXACT):
            part = slice(start, start + _EXACT)
            users, items = self._users[self._rows[part]], self._table[self._items[part]]
            exact[part] = np.einsum("nd,nd->n", users.astype(np.float64), items.astype(np.float64))
        return first_n(self._rows, self._items, exact, len(self._users), self._n)

    def _least(self) -> NDArray[np.float32]:
        """Return what a score has to be above to matter [B]."""
        least = np.where(np.isfinite(self._bound), self._bound - self._margin, np.finfo(np.float32).min)
        least[self.level] = np.inf
        return least.astype(np.float32)

    def _raise(self, bound: NDArray[np.float32]) -> None:
        self._bound = np.maximum(self._bound, bound)

    def _tighten(self) -> None:
        """Raise each user's bound to the n-th best of the contenders and leave out those below it."""
        order = np.lexsort((-self._values, self._rows))
        values, rows = self._values[order], self._rows[order]
        starts = np.searchsorted(rows, np.arange(len(self._users) + 1))
        enough = np.flatnonzero(np.diff(starts) >= self._n)
        bound = np.full_like(self._bound, -np.inf)
        bound[enough] = values[starts[enough] + self._n - 1]
        self._raise(bound)
        kept = self._values >= self._least()[self._rows]
        counts = np.bincount(self._rows[kept], minlength=len(self._users))
        self.level = sorted({*self.level, *np.flatnonzero(counts > _MOST * self._n).tolist()})
        kept &= ~np.isin(self._rows, self.level)
        self._rows, self._items, self._values = self._rows[kept], self._items[kept], self._values[kept]
        self._fresh = 0


def _by_item(seen: Sequence[NDArray[np.integer[Any]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (users' places, items) of all pairs of the lists, by item."""
    owners = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    items = np.concatenate([np.empty(0, dtype=np.int64), *seen]).astype(np.int64)
    order = np.argsort(items, kind="stable")
    return owners[order], items[order]
