"""Padded histories as tensors: what every generator reads from a batch of user_rows.

Letters: B users, L padded length, I item slots. Padding is item -1 with weight 0 and age 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Profiles:
    """Histories [B, L]: items, weights, and ages, which count the later times that the user rated at."""

    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    ages: NDArray[np.int32]

    def __len__(self) -> int:
        """Return B."""
        return len(self.items)

    def __getitem__(self, rows: NDArray[Any] | slice) -> "Profiles":
        """Return the histories of `rows`."""
        return Profiles(self.items[rows], self.weights[rows], self.ages[rows])

    def recency(self, half_life: float | None) -> NDArray[np.float32]:
        """Return [B, L] in (0, 1]: what an item of each age still says, half as much with every half_life."""
        if half_life is None:
            return np.ones(self.ages.shape, dtype=np.float32)
        return np.power(np.float32(0.5), self.ages.astype(np.float32) / np.float32(half_life))


def strengths(items: Tensor, weights: Tensor) -> Tensor:
    """Return [B, L] strengths in [0, 1]: each weight as a share of its row's largest; padding and negatives are 0.

    Relative, so that stars, purchases and views need no scale of their own. A weight that is not finite makes its
    row not finite, which training notices.
    """
    kept = torch.where(items >= 0, weights.float(), 0.0).clamp(min=0.0)
    return kept / kept.amax(dim=1, keepdim=True).clamp(min=1e-12)


def dense(items: Tensor, values: Tensor, n_items: int) -> Tensor:
    """Return [B, I] with `values` [B, L] at `items` [B, L] and 0 elsewhere; items outside 0..I-1 are left out."""
    outside = (items < 0) | (items >= n_items)
    # One slot more takes all padding, so that no mask of ragged rows is needed.
    table = values.new_zeros(items.shape[0], n_items + 1)
    table.scatter_(1, torch.where(outside, n_items, items), values)
    return table[:, :n_items]
