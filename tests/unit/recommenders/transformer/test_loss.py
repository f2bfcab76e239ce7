"""The fused loss and the cheap dropout against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from ganrec_spark.recommenders.transformer import loss as fused_softmax
from ganrec_spark.recommenders.transformer.loss import fused_softmax_loss
from ganrec_spark.recommenders.transformer.network import Dropout


def inputs(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """States [M, D], items [I, D], targets [M], some of which are among the negatives [N]."""
    generator = torch.Generator().manual_seed(3)
    states, items = (torch.randn(size, 5, generator=generator, dtype=torch.float64) for size in (n, 12))
    targets, negatives = torch.randint(12, (n,), generator=generator), torch.tensor([0, 2, 3, 7, 9])
    return states.requires_grad_(), items.requires_grad_(), targets, negatives


def dense_loss(
    states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    """Return PyTorch's cross entropy over [target, negatives], a negative equal to the target at -inf."""
    scores = states @ items[negatives].T
    scores = scores.masked_fill(negatives == targets[:, None], float("-inf"))
    positive = (states * items[targets]).sum(1, keepdim=True)
    return F.cross_entropy(torch.cat([positive, scores], dim=1), torch.zeros(len(states), dtype=torch.long))


# The 40 positions in one slab, in eight, and in six of which the last is not full.
@pytest.mark.parametrize("cells", [10_000, 25, 35])
def test_loss_and_gradients_equal_those_of_cross_entropy(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_softmax, "_CPU_SLAB_CELLS", cells)
    states, items, targets, negatives = inputs()
    expected = dense_loss(states, items, targets, negatives)
    wanted = torch.autograd.grad(3 * expected, (states, items))
    positive = (states * items[targets]).sum(1)
    loss = fused_softmax_loss(states, positive, items[negatives], negatives, targets)
    found = torch.autograd.grad(3 * loss, (states, items))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for own, other in zip(found, wanted, strict=True):
        assert torch.allclose(own, other, rtol=1e-10, atol=1e-14)


def test_large_scores_do_not_overflow() -> None:
    states, vectors = torch.full((2, 1), 1000.0), torch.ones(2, 1)
    loss = fused_softmax_loss(
        states, torch.tensor([999.0, 1001.0]), vectors, torch.tensor([0, 1]), torch.tensor([5, 6])
    )
    # By hand: log(1 + 2e) and log(1 + 2 / e).
    assert loss.item() == pytest.approx((1.861995 + 0.551445) / 2, rel=1e-4)


def test_dropout_drops_the_share_keeps_the_mean_and_does_nothing_outside_training() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(1001, 1001, requires_grad=True)
    dropped = layer(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    # Four standard deviations of a million draws.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1001**2) ** 0.5)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())
    assert not torch.equal(layer(x), dropped)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
