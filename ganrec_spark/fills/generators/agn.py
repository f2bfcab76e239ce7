"""The plain generative adversarial network over interaction vectors: Goodfellow et al. 2014, algorithm 1.

A generator turns noise z into a whole interaction vector, a discriminator tells such vectors from users' real ones.
Kept as published, the baseline of the adversarial family: it does not see the user for whom it generates, so its
fills are the same mixture for everyone, and it tends to collapse onto few items. The gate judges it like any other.

Letters: B users, L padded length, I item slots, Z noise size.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ganrec_spark.fills.generators.interactions import dense, strengths
from ganrec_spark.training.worker import Worker

_HIDDEN = (128, 256, 512)


class AgnGenerator(nn.Module):
    """G: z [B, Z] -> logits of an interaction vector [B, I], hidden layers 128-256-512."""

    def __init__(self, n_items: int, noise_size: int) -> None:
        super().__init__()
        self.noise_size = noise_size
        self.layers = _perceptron((noise_size, *_HIDDEN, n_items))

    def forward(self, noise: Tensor) -> Tensor:
        """Return the logits [B, I]; their sigmoid is the generated vector."""
        logits: Tensor = self.layers(noise)
        return logits

    def score(self, items: Tensor, weights: Tensor, recency: Tensor, noise: Tensor) -> Tensor:
        """Return the log of the generated vector [B, I]; the user's history plays no part."""
        return F.logsigmoid(self(noise))


class Discriminator(nn.Module):
    """D: interaction vector [B, I] -> logit of the probability that it is real [B], hidden layers 512-256-128.

    The sigmoid that ends D is taken inside the loss, where it cannot round to 0 or 1 and lose its gradient.
    """

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.layers = _perceptron((n_items, *reversed(_HIDDEN), 1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the logits [B]."""
        logits: Tensor = self.layers(vectors).squeeze(1)
        return logits


class AgnTraining:
    """Alternating steps of D and G with binary cross entropy; G maximises log D(G(z)), as the paper advises."""

    def __init__(
        self, n_items: int, noise_size: int, learning_rate: float, gradient_clip: float, worker: Worker
    ) -> None:
        self.n_items, self.gradient_clip, self.worker = n_items, gradient_clip, worker
        self.generator = AgnGenerator(n_items, noise_size).to(worker.device)
        self.discriminator = Discriminator(n_items).to(worker.device)
        self.modules: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {
            name: worker.wrap(
                torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.5, 0.999), fused=True),
                module,
                f"agn.{name}",
            )
            for name, module in self.modules.items()
        }

    def step(self, items: Tensor, weights: Tensor, progress: float) -> dict[str, float]:
        """Take one step of D, then one of G, on items and weights [B, L]; return both losses."""
        real = dense(items, strengths(items, weights), self.n_items)
        noise = torch.randn(len(items), self.generator.noise_size, device=items.device)
        fake = torch.sigmoid(self.generator(noise))
        critic_loss = _cross_entropy(self.discriminator(real), real=True) + _cross_entropy(
            self.discriminator(fake.detach()), real=False
        )
        self._descend("discriminator", critic_loss)
        # Detached parameters: D judges, and gets no gradient that its optimizer would then average over workers.
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        generator_loss = _cross_entropy(functional_call(self.discriminator, frozen, (fake,)), real=True)
        self._descend("generator", generator_loss)
        return {"loss": generator_loss.item(), "critic_loss": critic_loss.item()}

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer, module = self.optimizers[name], self.modules[name]
        optimizer.zero_grad()
        loss.backward()
        self.worker.clip(optimizer, module.parameters(), self.gradient_clip)
        self.worker.step(optimizer)


def _perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def _cross_entropy(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
