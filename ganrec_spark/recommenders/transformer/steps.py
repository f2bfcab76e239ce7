"""Adam's steps, and the running mean of the weights after each, at a cost that does not grow with the catalogue.

A step reads few items, but Adam moves all: a row of the item table whose gradient is 0 goes on by its momentum, and the
mean follows. What n such steps come to has a closed form, so a row is brought up to date when it is read next
(`RowSteps`): the same weights as of dense steps, but for rounding and Adam's epsilon. TensorFlow's LazyAdam and
PyTorch's SparseAdam leave such rows where they are, which are other weights.

Adam: Kingma and Ba, ICLR 2015. Its step k moves a row by -lr a_k m_k / sqrt(v_k), a_k = sqrt(1 - b2^k) / (1 - b1^k).
After step s without gradients m_k / sqrt(v_k) = r^(k-s) m_s / sqrt(v_s), r = b1 / sqrt(b2).
"""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ganrec_spark.recommenders.transformer.network import SASRec
from ganrec_spark.training.worker import Worker

_BETAS = 0.9, 0.98
_EPSILON = 1e-8
MOST_POWER = 5.0  # of the mean's weights in RowSteps: with larger ones its closed form loses digits
_TAIL = 1000  # steps beyond the last one after which nothing is left of a momentum
_ROWS_AT_ONCE = 2**16
_ALL = 1e300  # against it nothing is left: of the weights before the first step the mean has no share


def adam(model: SASRec, learning_rate: float) -> torch.optim.Adam:
    """Return the optimizer of all weights."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, betas=_BETAS, eps=_EPSILON, fused=True)


def mean_of(model: SASRec, power: float) -> AveragedModel:
    """Return the mean of the weights, in which step t weighs about as t^power."""
    return AveragedModel(model, multi_avg_fn=polynomial_decay(power))


def polynomial_decay(power: float) -> Callable[[Any, Any, Any], None]:
    """Return the update of a mean of the first t weights to that of the first t + 1, for AveragedModel."""

    def update(mean: list[Tensor], weights: list[Tensor], t: Tensor | int) -> None:
        torch._foreach_lerp_(mean, weights, float((power + 1) / (t + 1 + power)))

    return update


class Steps:
    """Steps of workers that train one model together: each moves and averages the whole table."""

    def __init__(
        self, worker: Worker, model: SASRec, mean: AveragedModel, optimizer: torch.optim.Optimizer, max_norm: float
    ) -> None:
        self._worker, self._model, self._mean, self._optimizer = worker, model, mean, optimizer
        self._max_norm = max_norm

    def look_up(self, rows: Tensor) -> Tensor:
        """Return the vectors of rows of the item table, once a step."""
        return cast(Tensor, self._model.items(rows))

    def take(self, loss: Tensor) -> None:
        """Take a step down the gradient of a loss whose item vectors were looked up here."""
        self._optimizer.zero_grad()
        loss.backward()
        self._worker.clip(self._optimizer, self._model.parameters(), self._max_norm)
        self._worker.step(self._optimizer)
        self._mean.update_parameters(self._model)

    def settle(self) -> None:
        """Bring all weights, their mean and Adam's state to the last step; before anybody reads them."""


class RowSteps(Steps):
    """The steps of one worker, which move and average only the rows that were looked up, and later the others.

    `steps`: how many there are in the whole training, those of an earlier process too; `power`: the mean's, at most
    MOST_POWER.
    """

    def __init__(
        self,
        worker: Worker,
        model: SASRec,
        mean: AveragedModel,
        optimizer: torch.optim.Optimizer,
        max_norm: float,
        steps: int,
        power: float,
    ) -> None:
        super().__init__(worker, model, mean, optimizer, max_norm)
        self._table, table_of_mean = model.items.weight, cast(SASRec, mean.module).items.weight
        pairs = zip(model.parameters(), mean.module.parameters(), strict=True)
        others = [pair for pair in pairs if pair[0] is not self._table]
        self._others: list[Tensor] = [own for own, _ in others]
        self._others_mean: list[Tensor] = [its_mean for _, its_mean in others]
        self._state = optimizer.state[self._table]
        if not self._state:
            zeros = {name: torch.zeros_like(self._table) for name in ("exp_avg", "exp_avg_sq")}
            self._state.update(step=torch.zeros((), device=self._table.device), **zeros)
        self._done = int(self._state["step"])
        self._last = torch.full((len(self._table),), self._done, device=self._table.device)
        self._parts = [self._table.data, self._state["exp_avg"], self._state["exp_avg_sq"], table_of_mean.data]
        self._rate, self._power = float(optimizer.param_groups[0]["lr"]), power
        self._drift, self._kept, self._late = (
            torch.from_numpy(values).to(self._table.device) for values in _prefixes(steps, power)
        )

    def look_up(self, rows: Tensor) -> Tensor:
        """Return the vectors of rows of the item table, once a step; the last row is padding and does not move."""
        self._rows, place = rows.unique(return_inverse=True)
        self._own = self._up_to_date(self._rows, self._done)
        self._own[0].requires_grad_()
        padding = len(self._rows) - 1 if self._rows[-1] == len(self._table) - 1 else None
        return F.embedding(place, self._own[0], padding)

    def take(self, loss: Tensor) -> None:
        """Take a step down the gradient of a loss whose item vectors were looked up here."""
        vectors, m, v, mean = self._own
        self._optimizer.zero_grad()
        loss.backward()
        self._worker.clip(self._optimizer, [vectors, *self._others], self._max_norm)
        self._worker.step(self._optimizer)
        self._done += 1
        share = (self._power + 1) / (self._done + self._power)
        with torch.no_grad():
            gradient, (b1, b2) = cast(Tensor, vectors.grad), _BETAS
            m.lerp_(gradient, 1 - b1)
            v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            size = v.sqrt().div_(math.sqrt(1 - b2**self._done)).add_(_EPSILON)
            vectors = vectors.detach().addcdiv_(m, size, value=-self._rate / (1 - b1**self._done))
            self._write(self._rows, [vectors, m, v, mean.lerp_(vectors, share)], self._done)
            torch._foreach_lerp_(self._others_mean, self._others, share)
            self._mean.n_averaged += 1

    def settle(self) -> None:
        """Bring all weights, their mean and Adam's state to the last step; before anybody reads them."""
        for rows in torch.arange(len(self._table), device=self._table.device).split(_ROWS_AT_ONCE):
            self._write(rows, self._up_to_date(rows, self._done), self._done)
        self._state["step"].fill_(self._done)

    def _up_to_date(self, rows: Tensor, now: int) -> list[Tensor]:
        """Return the rows' vectors, Adam's two moments, and the mean, after step `now`."""
        with torch.no_grad():
            vectors, m, v, mean = (part.index_select(0, rows) for part in self._parts)
            since = self._last[rows]
            n = (now - since).double()
            b1, b2 = _BETAS
            fade = (b1 / math.sqrt(b2)) ** n
            # Sums over the steps since then, of the drift by the momentum and of what the mean has of it.
            drift = self._drift[since] - fade * self._drift[now]
            kept = self._kept[now] / self._kept[since]
            late = (1 - kept) * self._drift[since] - self._kept[now] * (self._late[since] - fade * self._late[now])
            numbers = (self._rate * drift, self._rate * late, kept, b1**n, b2**n)
            drift, late, kept, of_m, of_v = (number.to(m.dtype)[:, None] for number in numbers)
            direction = m / v.sqrt().add_(_EPSILON)
            mean = torch.lerp(vectors, mean, kept).addcmul_(late, direction, value=-1)
            return [vectors.addcmul_(drift, direction, value=-1), m.mul_(of_m), v.mul_(of_v), mean]

    def _write(self, rows: Tensor, values: list[Tensor], now: int) -> None:
        for part, value in zip(self._parts, values, strict=True):
            part.index_copy_(0, rows, value)
        self._last.index_fill_(0, rows, now)


def _prefixes(steps: int, power: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return three numbers of each step, 0 to `steps`, by whose differences sums over steps are found.

    drift_s = sum over k > s of r^(k-s) a_k; kept_s, the share that the first step's weights have in the mean after step
    s, up to a factor; late_s = sum over k > s of share_k / kept_k r^(k-s) drift_k, share_k being step k's in the mean.
    """
    b1, b2 = _BETAS
    r, k = b1 / math.sqrt(b2), np.arange(1, steps + _TAIL + 1, dtype=np.float64)
    a = np.sqrt(1 - b2**k) / (1 - b1**k)
    share = (power + 1) / (k + power)
    kept = np.concatenate([[1.0], np.cumprod(1 - share[1:])])  # after step 1 the mean is its weights
    drift, late = np.empty(len(k) + 1), np.zeros(len(k) + 1)
    drift[-1] = r / (1 - r)
    for step in range(len(k) - 1, -1, -1):
        drift[step] = r * (a[step] + drift[step + 1])
        late[step] = r * (share[step] / kept[step] * drift[step + 1] + late[step + 1])
    return drift[: steps + 1], np.concatenate([[_ALL], kept])[: steps + 1], late[: steps + 1]
