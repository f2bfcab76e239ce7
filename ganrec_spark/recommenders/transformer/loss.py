"""Sampled softmax loss whose gradient is found together with its value, a few positions at a time.

The scores of all positions are never in memory at once: a slab of them stays in the cache from the product to the
gradient, which on CPUs takes a third of the time (docs/adr/0017). Liger Kernel fuses a linear layer
and the cross entropy behind it in the same way (Hsu et al. 2024, arXiv:2410.10989).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores at a time: on CPUs 2 MiB, which stay in the cache; on GPUs as many as keep one busy.
_CPU_SLAB_CELLS, _GPU_SLAB_CELLS = 2**19, 2**25


def fused_softmax_loss(states: Tensor, positive: Tensor, vectors: Tensor, negatives: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over positions of -log softmax of the target among itself and the negatives.

    `states` [M, D]; `positive` [M], each position's score of its target; `vectors` [N, D] of the `negatives` [N],
    distinct and ascending; `targets` [M]. A negative that equals a position's target does not count there.
    """
    # Few targets are among the negatives: a comparison of all with all would cost as much as the product.
    place = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)
    rows = (negatives[place] == targets).nonzero().squeeze(1)
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        states, positive, vectors, rows, place[rows]
    )
    return loss


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, states: Tensor, positive: Tensor, vectors: Tensor, rows: Tensor, places: Tensor
    ) -> Tensor:
        """`rows` ascending, `places`: the scores [row, place] that do not count."""
        cells = _CPU_SLAB_CELLS if states.device.type == "cpu" else _GPU_SLAB_CELLS
        n, size = len(states), max(1, cells // len(vectors))
        of_states, of_positive = torch.empty_like(states), torch.empty_like(positive)
        of_vectors, total = torch.zeros_like(vectors), positive.new_zeros(())
        starts = range(0, n, size)
        bounds = torch.searchsorted(rows, torch.arange(0, n + size, size, device=rows.device)).tolist()
        buffer = states.new_empty((min(size, n), len(vectors)))
        for start, first, last in zip(starts, bounds, bounds[1:], strict=False):
            part = slice(start, min(start + size, n))
            own, wanted = states[part], positive[part]
            scores = torch.mm(own, vectors.T, out=buffer[: len(own)])
            scores[rows[first:last] - start, places[first:last]] = float("-inf")
            top = torch.maximum(scores.amax(1), wanted)
            shares, target_share = scores.sub_(top[:, None]).exp_(), (wanted - top).exp()
            sums = shares.sum(1) + target_share
            total += (top + sums.log() - wanted).sum()
            # d loss / d score = (softmax - 1 at the target) / M
            factors = 1 / (n * sums)
            shares.mul_(factors[:, None])
            torch.mm(shares, vectors, out=of_states[part])
            of_vectors.addmm_(shares.T, own)
            of_positive[part] = target_share * factors - 1 / n
        context.save_for_backward(of_states, of_positive, of_vectors)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(part * gradient for part in context.saved_tensors), None, None
