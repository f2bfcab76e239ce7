"""A softmax over a batch's own items and uniform negatives instead of the whole catalogue (Jean et al. 2015).

Deviation: no correction for how likely an item is to be a candidate, so scores lean towards what the data say beyond
popularity; they rank within a user, and are no probabilities of the whole catalogue.

Letters: B users, L padded length, I item slots, C candidates.
"""

import torch
from torch import Tensor

# Up to so many items a softmax over all of them for every user of a batch is cheap enough.
FULL_SOFTMAX_ITEMS = 5_000
_TARGETS_PER_USER = 16


def sample_candidates(items: Tensor, targets: Tensor, n_items: int, negatives: int) -> Tensor | None:
    """Return the distinct ones, ascending [C], of at most 16 random target items of each user and uniform negatives.

    `targets` is a mask of `items` [B, L]. None stands for all items, where these are few.
    """
    if n_items <= FULL_SOFTMAX_ITEMS:
        return None
    order = torch.rand(items.shape, device=items.device).masked_fill(~targets, 2.0).argsort(1).argsort(1)
    chosen = items[targets & (order < _TARGETS_PER_USER)]
    drawn = torch.randint(n_items, (negatives,), device=items.device)
    distinct: Tensor = torch.cat([chosen, drawn]).unique()
    return distinct


def places(items: Tensor, candidates: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the column [B, L] of each item among the candidates, and whether it is one; padding is none."""
    if candidates is None:
        return items.clamp(min=0), items >= 0
    columns = torch.searchsorted(candidates, items).clamp(max=len(candidates) - 1)
    return columns, candidates[columns] == items
