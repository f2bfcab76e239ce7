"""Mult-VAE^PR: Liang, Krishnan, Hoffman, Jebara 2018, "Variational Autoencoders for Collaborative Filtering".

Letters: B users, L padded length, I item slots, H hidden size, K latent size.
Deviation: x_ui is the strength of the interaction in [0, 1] where the paper has clicks, 0 or 1.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganrec_spark.fills.generators.interactions import strengths
from ganrec_spark.fills.generators.sampled_softmax import places, sample_candidates
from ganrec_spark.training.worker import Worker

_INPUT_DROPOUT = 0.5
# KL's weight rises from 0 to beta over this share of the steps, then stays (section 2.2.2).
_ANNEALING_SHARE = 0.5


class Vae(nn.Module):
    """Encoder I -> H -> (mu, log sigma^2) [B, K]; decoder K -> H -> I logits of a multinomial (equations 1 and 2)."""

    def __init__(self, n_items: int, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.noise_size = 0
        self.n_items, self.latent_size = n_items, latent_size
        # The first layer of the encoder, read only where x is not 0.
        self.items = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_items, hidden_size)))
        self.items_bias = nn.Parameter(nn.init.normal_(torch.empty(hidden_size), std=0.001))
        self.encoder = nn.Sequential(nn.Tanh(), nn.Linear(hidden_size, 2 * latent_size))
        self.decoder = nn.Sequential(nn.Linear(latent_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, n_items))
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):  # as the authors' code; torch's own start is too small for sparse inputs
                nn.init.xavier_normal_(layer.weight)
                nn.init.normal_(layer.bias, std=0.001)

    def forward(self, items: Tensor, x: Tensor, candidates: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [B, I], mu and log sigma^2 [B, K] from items and their x [B, L].

        With `candidates` [C] the logits are those of these items, [B, C]. z is drawn in training mode and is mu
        otherwise. Items outside 0..I-1 are left out.
        """
        known = (items >= 0) & (items < self.n_items)
        inputs = F.dropout(F.normalize(torch.where(known, x, 0.0), dim=1), _INPUT_DROPOUT, self.training)
        summed = F.embedding_bag(torch.where(known, items, 0), self.items, per_sample_weights=inputs, mode="sum")
        mu, log_variance = self.encoder(summed + self.items_bias).split(self.latent_size, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_variance) if self.training else mu
        if candidates is None:
            return self.decoder(z), mu, log_variance
        hidden, last = self.decoder[:-1](z), cast(nn.Linear, self.decoder[-1])
        return F.linear(hidden, last.weight[candidates], last.bias[candidates]), mu, log_variance

    def score(self, items: Tensor, weights: Tensor, recency: Tensor, noise: Tensor) -> Tensor:
        """Return log probabilities [B, I] of the items given the history [B, L]; there is no noise."""
        logits, _, _ = self(items, strengths(items, weights) * recency)
        return F.log_softmax(logits, dim=1)


class VaeTraining:
    """Minimises the negative ELBO with an annealed KL (equation 6); on long catalogues its softmax is sampled."""

    def __init__(
        self,
        n_items: int,
        latent_size: int,
        hidden_size: int,
        beta: float,
        negatives: int,
        learning_rate: float,
        gradient_clip: float,
        worker: Worker,
    ) -> None:
        self.beta, self.negatives = beta, negatives
        self.gradient_clip, self.worker = gradient_clip, worker
        self.generator = Vae(n_items, latent_size, hidden_size).to(worker.device)
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        adam = torch.optim.Adam(self.generator.parameters(), lr=learning_rate, fused=True)
        self.optimizers = {"generator": worker.wrap(adam, self.generator, "vae")}

    def step(self, items: Tensor, weights: Tensor, progress: float) -> dict[str, float]:
        """Take one step on items and weights [B, L]; `progress` is the share of all steps taken before, 0 to 1."""
        values = strengths(items, weights)
        candidates = sample_candidates(items, items >= 0, self.generator.n_items, self.negatives)
        logits, mu, log_variance = self.generator(items, values, candidates)
        columns, found = places(items, candidates)
        x = values * found
        # The sum over all items of x log softmax, gathered at the history's: no second array of the logits' size.
        picked = (x * logits.gather(1, columns)).sum(dim=1)
        reconstruction = (x.sum(dim=1) * logits.logsumexp(dim=1) - picked).mean()
        kl = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum(dim=1).mean()
        loss = reconstruction + self.beta * min(1.0, progress / _ANNEALING_SHARE) * kl
        optimizer = self.optimizers["generator"]
        optimizer.zero_grad()
        loss.backward()
        self.worker.clip(optimizer, self.generator.parameters(), self.gradient_clip)
        self.worker.step(optimizer)
        return {"loss": loss.item(), "kl": kl.item()}
