"""A generator conditioned on the user's profile, with a critic: a conditional GAN in the line of CFGAN.

Mirza & Osindero 2014 (condition both networks), Chae et al. 2018 (CFGAN: real-valued item vectors conditioned on the
user's history, a reconstruction term beside the adversarial one). Deviations: the generator is factorised and starts
from ALS, its reconstruction is a multinomial likelihood of items that the profile does not show (training profiles
are cut to a few items, as sparse users have them), the critic judges small sets of items by a hinge loss
(Lim & Ye 2017). With critic weight 0 it trains without a critic, by the same seeds and batches.

Letters: B users, L padded length, I item slots, D embedding size, Z noise size, S set size, C candidate items.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ganrec_spark.fills.generators.interactions import Profiles, strengths
from ganrec_spark.fills.generators.sampled_softmax import places, sample_candidates
from ganrec_spark.training.worker import Worker

_SET_SIZE = 5
_START_SCALE, _START_POPULARITY = 8.0, 0.0  # where nothing is held out that would tell better ones


@dataclass(frozen=True)
class Start:
    """The linear model that training starts from: item vectors [I, D] of ALS, users per item [I], and two numbers.

    The logits are `scale` times the projected profile plus `popularity` times log(1 + count).
    """

    vectors: NDArray[np.float32]
    counts: NDArray[np.float32]
    scale: float = _START_SCALE
    popularity: float = _START_POPULARITY


def calibrated(start: Start, watched: Profiles, half_life: float | None, held_out: NDArray[np.int32]) -> Start:
    """Return the start with the scale and popularity that make held-out items [W, H] of the watched profiles likeliest.

    A start whose logits are too small or too large is torn down by the first steps, which mend the scale before they
    learn anything. Padded with -1; without held-out items the start is returned as it is.
    """
    n_items = len(start.vectors)
    kept = ((held_out >= 0) & (held_out < n_items)).any(axis=1)
    y = torch.from_numpy(start.vectors.astype(np.float32))
    if not kept.any() or not y.any():
        return start
    watched = watched[kept]
    profiles, targets = torch.from_numpy(watched.items).long(), torch.from_numpy(held_out[kept]).long()
    inside, wanted = (profiles >= 0) & (profiles < n_items), (targets >= 0) & (targets < n_items)
    places, goals = torch.where(inside, profiles, 0), torch.where(wanted, targets, 0)
    projected = _pooled(_projection(y)[places], inside * torch.from_numpy(watched.recency(half_life))) @ y.T
    blocked = torch.zeros_like(projected).scatter_add_(1, places, inside.float()) > 0
    popular = torch.from_numpy(np.log1p(start.counts))
    wanted &= ~blocked.gather(1, goals)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        numbers = torch.from_numpy(values).requires_grad_()
        logits = (numbers[0].exp() * projected + numbers[1] * popular).masked_fill(blocked, -torch.inf)
        picked = F.log_softmax(logits, dim=1).gather(1, goals).masked_fill(~wanted, 0.0)
        value = -picked.sum() / wanted.sum().clamp(min=1)
        (gradient,) = torch.autograd.grad(value, numbers)
        return value.item(), gradient.numpy()

    # The logarithm of the scale: it is positive, and near the best one by a factor. By SciPy, since an optimizer
    # of PyTorch leaves a folder of its compiler behind.
    begin = [math.log(start.scale), start.popularity]
    exponent, popularity = minimize(loss, begin, jac=True, method="L-BFGS-B").x.tolist()
    scale = math.exp(exponent)
    return replace(start, scale=scale, popularity=popularity) if math.isfinite(scale + popularity) else start


def _projection(y: Tensor) -> Tensor:
    """Return Y (Y'Y + ridge)^-1 [I, D], the ridge the mean of the diagonal."""
    gram = y.T @ y
    ridge = gram.diagonal().mean() * torch.eye(y.shape[1])
    return torch.linalg.solve(gram + ridge, y.T).T


class CganGenerator(nn.Module):
    """G: (profile [B, L], z [B, Z]) -> logits [B, I].

    p = sum of the profile's vectors / sqrt(their number), items counting by their recency; u = p + MLP([p; z]);
    logits = u . items + bias.
    """

    def __init__(self, n_items: int, embedding_size: int, noise_size: int) -> None:
        super().__init__()
        self.noise_size, self.n_items = noise_size, n_items
        self.profile_table = nn.Parameter(torch.randn(n_items, embedding_size) * 0.1)
        self.item_table = nn.Parameter(torch.randn(n_items, embedding_size) * 0.1)
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        last = nn.Linear(2 * embedding_size, embedding_size)
        # At 0 the network starts as the linear model that ALS gave it, and learns what to add.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(embedding_size + noise_size, 2 * embedding_size), nn.Tanh(), last)

    def start_from(self, start: "Start") -> None:
        """Set the tables from ALS item vectors Y [I, D]: items = Y, profile = scale * Y (Y'Y + ridge)^-1, and the bias.

        The logits are then the profile projected on the span of Y: ALS's answer for users it has not met. Items
        without a vector (rows of 0) keep their small random start.
        """
        y = torch.from_numpy(start.vectors.astype(np.float32))
        known = y.abs().sum(dim=1) > 0
        if not known.any():
            return
        profile = start.scale * _projection(y)
        # Both tables at one scale, so that one learning rate suits both; the products do not change.
        balance = (profile[known].std() / y[known].std()).sqrt()
        with torch.no_grad():
            self.item_table[known] = (y * balance)[known].to(self.item_table.device)
            self.profile_table[known] = (profile / balance)[known].to(self.item_table.device)
            self.item_bias.copy_(torch.from_numpy(start.popularity * np.log1p(start.counts)))

    def users(self, items: Tensor, shown: Tensor, noise: Tensor) -> Tensor:
        """Return user vectors [B, D] from the items [B, L], of which each counts by as much as is `shown` (0 to 1)."""
        inside = shown * ((items >= 0) & (items < self.n_items))
        profile = _pooled(self.profile_table[torch.where(inside > 0, items, 0)], inside)
        added: Tensor = self.network(torch.cat([profile, noise], dim=1))
        return profile + added

    def score(self, items: Tensor, weights: Tensor, recency: Tensor, noise: Tensor) -> Tensor:
        """Return log probabilities [B, I] of the items given the whole history [B, L] and noise [B, Z]."""
        users = self.users(items, recency, noise)
        return F.log_softmax(users @ self.item_table.T + self.item_bias, dim=1)


class Critic(nn.Module):
    """D: (profile, set of items), both as means of fixed item vectors [B, D] -> score [B], high for real sets."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * embedding_size, 2 * embedding_size), nn.LeakyReLU(0.2), nn.Linear(2 * embedding_size, 1)
        )

    def forward(self, profile: Tensor, chosen: Tensor) -> Tensor:
        """Return the scores [B]."""
        score: Tensor = self.layers(torch.cat([profile, chosen], dim=1)).squeeze(1)
        return score


class CganTraining:
    """Reconstruction of hidden items by a (sampled) softmax, plus critic_weight times the critic's judgement."""

    def __init__(
        self,
        n_items: int,
        embedding_size: int,
        noise_size: int,
        profile_length: int,
        profile_dropout: float,
        critic_weight: float,
        negatives: int,
        learning_rate: float,
        gradient_clip: float,
        start: Start,
        critic_seed: int,
        worker: Worker,
    ) -> None:
        self.profile_length, self.profile_dropout = profile_length, profile_dropout
        self.critic_weight, self.negatives = critic_weight, negatives
        self.gradient_clip, self.worker = gradient_clip, worker
        self.generator = CganGenerator(n_items, embedding_size, noise_size).to(worker.device)
        self.generator.start_from(start)
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        if critic_weight > 0:
            self.modules["critic"] = Critic(embedding_size).to(worker.device)
        self.optimizers = {
            name: worker.wrap(
                torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True), module, f"cgan.{name}"
            )
            for name, module in self.modules.items()
        }
        # What the critic sees of an item stays fixed: a moving view would let it win by renaming items.
        self.looks = F.normalize(self.generator.item_table.detach().clone(), dim=1)
        self.critic_seed = critic_seed

    def step(self, items: Tensor, weights: Tensor, progress: float) -> dict[str, float]:
        """Take one step of G and, where it has a weight, one of the critic, on items and weights [B, L]."""
        shown = self.hide(items)
        hidden = (items >= 0) & ~shown
        noise = torch.randn(len(items), self.generator.noise_size, device=items.device)
        users = self.generator.users(items, shown, noise)
        candidates, logits = self._logits(users, items, shown, hidden)
        loss = _reconstruction(logits, candidates, items, strengths(items, weights) * hidden)
        losses = {"reconstruction": loss.item()}
        if self.critic_weight > 0:
            # Own random numbers: with weight 0 nothing else may change.
            draws = torch.Generator(device=items.device).manual_seed(
                (self.critic_seed + round(progress * 2**40)) % 2**63
            )
            profile, real, count = self._real_sets(items, shown, hidden, draws)
            fake = self._fake_sets(logits, candidates, count, draws)
            critic = self.modules["critic"]
            frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
            adversarial = -functional_call(critic, frozen, (profile, fake)).mean()
            critic_loss = F.relu(1 - critic(profile, real)).mean() + F.relu(1 + critic(profile, fake.detach())).mean()
            losses |= {"adversarial": adversarial.item(), "critic_loss": critic_loss.item()}
            loss = loss + self.critic_weight * adversarial
        self._descend("generator", loss)
        if self.critic_weight > 0:
            self._descend("critic", critic_loss)
        return {"loss": loss.item(), **losses}

    def hide(self, items: Tensor) -> Tensor:
        """Return which items [B, L] the generator is shown: about profile_length of them, fewer by dropout.

        A random number of 1 to 2 * profile_length - 1 random items of the history, at least one hidden, then each
        hidden with profile_dropout. Half the users show their history uncut, but for dropout, so that longer
        profiles are met in training too.
        """
        valid = items >= 0
        n = valid.sum(dim=1, keepdim=True)
        order = torch.rand(items.shape, device=items.device).masked_fill(~valid, 2.0).argsort(1).argsort(1)
        cut = torch.randint(1, 2 * self.profile_length, n.shape, device=items.device)
        cut = torch.where(torch.rand(n.shape, device=items.device) < 0.5, cut, n)
        kept = torch.rand(items.shape, device=items.device) >= self.profile_dropout
        return valid & (order < torch.minimum(cut, n - 1)) & kept

    def _logits(self, users: Tensor, items: Tensor, shown: Tensor, hidden: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the candidate items [C] (None: all) and logits [B, C]; shown items are no candidates of their user."""
        candidates = sample_candidates(items, hidden, self.generator.n_items, self.negatives)
        chosen = slice(None) if candidates is None else candidates
        table, bias = self.generator.item_table[chosen], self.generator.item_bias[chosen]
        logits = users @ table.T + bias
        columns, found = places(items, candidates)
        blocked = torch.zeros_like(logits).scatter_add_(1, columns, (shown & found).to(logits.dtype))
        return candidates, logits.masked_fill(blocked > 0, -torch.inf)

    def _real_sets(
        self, items: Tensor, shown: Tensor, hidden: Tensor, draws: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the shown profile [B, D], up to S hidden items [B, D], as mean looks, and the sets' sizes [B, 1]."""
        keys = torch.rand(items.shape, device=items.device, generator=draws).masked_fill(~hidden, 2.0)
        chosen = hidden & (keys.argsort(1).argsort(1) < _SET_SIZE)
        looks = self.looks[items.clamp(min=0)]
        return _mean(looks, shown), _mean(looks, chosen), chosen.sum(dim=1, keepdim=True)

    def _fake_sets(self, logits: Tensor, candidates: Tensor | None, count: Tensor, draws: torch.Generator) -> Tensor:
        """Return the mean look [B, D] of `count` items drawn by Gumbel-top-k; gradients flow through the softmax."""
        uniform = torch.rand(logits.shape, device=logits.device, generator=draws).clamp(1e-9, 1 - 1e-7)
        drawn = (logits.detach() - torch.log(-torch.log(uniform))).topk(min(_SET_SIZE, logits.shape[1]), dim=1).indices
        looks = self.looks if candidates is None else self.looks[candidates]
        places = torch.arange(drawn.shape[1], device=logits.device)
        hard = _mean(looks[drawn], places < count)
        soft = torch.softmax(logits, dim=1) @ looks
        return hard + soft - soft.detach()

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer, module = self.optimizers[name], self.modules[name]
        optimizer.zero_grad()
        loss.backward()
        self.worker.clip(optimizer, module.parameters(), self.gradient_clip)
        self.worker.step(optimizer)


def _reconstruction(logits: Tensor, candidates: Tensor | None, items: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over users of the weighted cross entropy of their hidden items; users without one count 0."""
    log_probabilities = F.log_softmax(logits, dim=1)
    columns, found = places(items, candidates)
    weights = weights * found
    # Shown items sit at -inf with weight 0: left out before the product, which would be not-a-number.
    picked = log_probabilities.gather(1, columns).masked_fill(weights == 0, 0.0)
    return -((picked * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-12)).mean()


def _pooled(vectors: Tensor, shares: Tensor) -> Tensor:
    """Return the sum [B, D] of vectors [B, L, D], each by its share [B, L], over the root of the shares' sum."""
    total = shares.sum(dim=1, keepdim=True)
    # An old item alone is as good a profile as a new one: only no item at all is less.
    return (vectors * shares.unsqueeze(2)).sum(dim=1) / torch.where(total > 0, total, 1.0).sqrt()


def _mean(vectors: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean [B, D] of the chosen vectors [B, L, D]; 0 where none is."""
    return (vectors * chosen.unsqueeze(2)).sum(dim=1) / chosen.sum(dim=1, keepdim=True).clamp(min=1)
