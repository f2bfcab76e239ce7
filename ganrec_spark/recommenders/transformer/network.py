"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018).

Shapes: B users, L length of the longest history in the batch, D embedding size, I item slots, M valid positions,
N negatives. Histories are lists of item indices, oldest first, padded behind with -1.

Deviations from the paper: the loss is a sampled softmax with negatives shared by the batch (the paper has one
negative and binary cross entropy per position); the activation is GELU; embeddings are not scaled by sqrt(D);
attention weights are not dropped out (with that PyTorch has no fused kernel on CPUs: docs/adr/0012).
As in the paper, positions count from the end, so that the latest item always has the same position.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrec_spark.recommenders.transformer.loss import fused_softmax_loss


@dataclass(frozen=True)
class Shape:
    """All that is needed to build a network for a state dict; `n_items` is the length of the item axis I."""

    n_items: int
    max_length: int
    embedding_size: int
    blocks: int
    heads: int
    dropout: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields, for a checkpoint's card."""
        return asdict(self)


class Dropout(nn.Module):
    """Dropout by a random byte for each element: on CPUs ten times as fast as PyTorch's (docs/adr/0017).

    The share that is kept is a multiple of 1/256.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.kept = max(1, round((1 - share) * 256))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, in training with some elements 0 and the others larger by as much."""
        if not self.training or self.kept == 256:
            return x
        drawn = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device).view(torch.uint8)
        return x * (drawn[: x.numel()].view(x.shape) < self.kept).to(x.dtype).mul_(256 / self.kept)


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each with residual and layer norm (section III.B)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.embedding_size
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(size)
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.output = nn.Linear(size, size)
        self.feed_norm = nn.LayerNorm(size)
        self.feed = nn.Sequential(
            nn.Linear(size, size),
            nn.GELU(),
            Dropout(shape.dropout),
            nn.Linear(size, size),
            Dropout(shape.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, L, D] from [B, L, D]; position l sees positions up to l, so padding behind is never seen."""
        b, length, size = x.shape
        normed = self.attention_norm(x)
        query, key, value = (
            layer(part).view(b, length, self.heads, size // self.heads).transpose(1, 2)
            for layer, part in ((self.query, normed), (self.key, x), (self.value, x))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = normed + self.output(mixed.transpose(1, 2).reshape(b, length, size))
        normed = self.feed_norm(x)
        return torch.as_tensor(normed + self.feed(normed))


class SASRec(nn.Module):
    """Scores the next item of a history by the inner product of its last state and the item embeddings (eq. 6)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.n_items + 1, shape.embedding_size, padding_idx=shape.n_items)
        self.positions = nn.Embedding(shape.max_length, shape.embedding_size)
        self.dropout = Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.embedding_size)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            self.items.weight[shape.n_items] = 0

    def states(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the state [B, L, D] after each position of histories `items` [B, L] of `lengths` [B]."""
        return self.encoded(self.items(self.rows(items)), lengths)

    def rows(self, items: Tensor) -> Tensor:
        """Return the rows of the embedding table that hold `items` [...], for padding the row of zeros."""
        return torch.where(items >= 0, items, self.shape.n_items).long()

    def encoded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return `states` of histories whose items' embeddings [B, L, D] are at hand."""
        steps = torch.arange(embedded.shape[1], device=embedded.device)
        from_end = (self.shape.max_length - lengths[:, None] + steps).clamp(0, self.shape.max_length - 1)
        x = self.dropout(embedded + self.positions(from_end.long()))
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.norm(x))

    def last_states(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the state [B, D] after the last item of each history; histories must not be empty."""
        states = self.states(items, lengths)
        return states[torch.arange(len(items), device=items.device), lengths.long() - 1]

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a model of the same shape with the same items at the same indices, maybe fewer or more.

        Items that it does not have keep their random vectors.
        """
        items = self.items.weight.detach().clone()
        n_items = min(len(items), len(state["items.weight"])) - 1  # the last is the padding's
        items[:n_items] = state["items.weight"][:n_items]
        self.load_state_dict({**state, "items.weight": items})

    def item_vectors(self) -> Tensor:
        """Return the item embeddings [I, D]."""
        return self.items.weight[: self.shape.n_items]


def next_item_loss(
    model: SASRec,
    look_up: Callable[[Tensor], Tensor],
    items: Tensor,
    lengths: Tensor,
    negatives: Tensor,
    adversary_radius: float = 0.0,
) -> Tensor:
    """Return the mean sampled-softmax loss of predicting each next item of the histories in the batch.

    `look_up` gives the vectors [N, D] of rows [N] of the model's item table, as `model.items` does.
    `negatives` [N], distinct and ascending, are shared by all positions; one that equals a position's target does not
    count there. Returns 0 (with a gradient) where no history has two items.

    An adversary may move each position's target vector by at most `adversary_radius` of its length (adversarial
    training of the item table: He et al., SIGIR 2018, who take one step along the gradient). Its worst move is against
    the state, so the maximum over its moves has a closed form: the target's score less radius * |target| * |state|.
    """
    length = max(int(lengths.max()) - 1, 1)
    targets = items[:, 1 : length + 1]
    valid = torch.arange(targets.shape[1], device=items.device) < (lengths - 1)[:, None]
    target, rows = targets[valid].long(), model.rows(items[:, :length])  # [M], [B, L]
    embedded = look_up(torch.cat([rows.flatten(), target, negatives]))  # once: each has a gradient of its own
    if len(target) == 0:
        return embedded.sum() * 0
    own, wanted, others = embedded.split([rows.numel(), len(target), len(negatives)])
    states = model.encoded(own.view(*rows.shape, -1), (lengths - 1).clamp(min=0))[valid]  # [M, D]
    positive = (states * wanted).sum(1)
    if adversary_radius:
        positive = positive - adversary_radius * wanted.norm(dim=1) * states.norm(dim=1)
    return fused_softmax_loss(states, positive, others, negatives, target)
