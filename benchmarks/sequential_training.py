"""One model of RecTools' that is trained, watched and asked for lists; runs in the peers' environment (`make peers`).

Only where logits are computed differs from RecTools' own training: not at padded positions, which the loss leaves out,
for there most of the time would go on CPUs.
"""

import copy
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.ligr import LiGRLayers
from search import Setting

from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.top_n import mask_seen, top_n

DEPTH = 20
_PATIENCE = 10  # judgements
_STEPS = 100  # between two judgements, and never less than an epoch
Lists = dict[int, NDArray[np.int32]]  # user -> items
# What is RecTools' SASRecModel in each; the rest is searched.
PEERS: dict[str, dict[str, Any]] = {
    "SASRec": {},
    "eSASRec": {"transformer_layers_type": LiGRLayers, "use_key_padding_mask": True},
}


class Training:
    """One model that is trained on `ratings`, at once or piece by piece, and ranks the users in `wanted`.

    Where `wanted` has items to find, each epoch is judged by them and the lists are those of the best one.
    """

    def __init__(self, peer: str, setting: Setting, ratings: pd.DataFrame, seed: int, wanted: Lists) -> None:
        seed_everything(seed, verbose=False)
        self.length = max_length(ratings)
        self.histories = {user: items for user, items in of_users(ratings).items() if user in wanted}
        self.judged = any(len(items) for items in wanted.values())
        watch = Watch(self.histories, wanted if self.judged else {}, self.length)
        self.dataset = dataset(ratings)
        self.model = SASRecModel(
            **PEERS[peer],
            **setting,
            n_heads=1,
            session_max_len=self.length,
            loss="sampled_softmax",
            lightning_module_type=WithoutPadding,
            get_trainer_func=lambda: Trainer(
                accelerator="cpu",
                callbacks=[watch],
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                logger=False,
            ),
        )
        # RecTools trains with a copy of the trainer, and of what watches it; a training of no epoch makes them.
        self.model.fit_partial(self.dataset, min_epochs=0, max_epochs=0)
        self.watch = next(one for one in self.model.fit_trainer.callbacks if isinstance(one, Watch))

    def go_on(self, epochs: int, until: float = float("inf")) -> None:
        """Train for at most `epochs` more, as long as the next one would end before the clock is at `until`."""
        self.watch.until = until
        if not self.watch.done():
            self.model.fit_partial(self.dataset, min_epochs=0, max_epochs=epochs)

    def lists(self) -> Lists:
        """Return user -> best items, of users with something to go by."""
        if self.judged:
            self.model.torch_model.load_state_dict(self.watch.state)
        return best_items(self.model.lightning_model, self.histories, self.length)

    def told(self) -> str:
        """Return how good it is and after how many epochs."""
        watch = self.watch
        return f"validation NDCG@10 {watch.best:.4f} after {watch.best_epoch} of {watch.epoch} epochs"


class WithoutPadding(TransformerLightningModule):
    """RecTools' training step with logits for the positions that the loss counts and for no others."""

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of the batch: sessions B, positions L, of them N with a target, K candidates, D embedding."""
        length = used_length(self.torch_model, batch["x"])
        batch = {name: values[:, -length:] for name, values in batch.items()}
        items = self.torch_model.item_model.get_all_embeddings()  # [I, D]
        used = batch["y"] != 0  # [B, L]
        states = self.torch_model.encode_sessions(batch, items)[used]  # [N, D]
        candidates = torch.cat([batch["y"][used].unsqueeze(-1), batch["negatives"][used]], dim=-1)  # [N, K]
        if len(items) < 64 * candidates.shape[1]:  # a product with all items is faster than gathering vectors
            logits = (states @ items.T).gather(1, candidates)
        else:
            logits = (torch.nn.functional.embedding(candidates, items) @ states.unsqueeze(-1)).squeeze(-1)
        # RecTools' loss wants [B, L, K]: here one session of N positions.
        return self._calc_sampled_softmax_loss(logits[None].clone(), batch["y"][used][None], batch["yw"][used][None])


class Watch(Callback):
    """Judges the model by the items to find, every hundred steps and at an epoch's end; keeps the best state."""

    def __init__(self, histories: Lists, relevant: Lists, length: int) -> None:
        self.histories, self.relevant, self.length = histories, relevant, length
        self.until, self.seconds, self.started = float("inf"), 0.0, 0.0
        self.epoch, self.steps, self.worse = 0, 0, 0
        self.best_epoch, self.best = 0, -1.0
        self.state: dict[str, torch.Tensor] = {}

    def done(self) -> bool:
        """Return whether it has not got better for long, or no time is left for another epoch."""
        return self.epoch > 0 and (self.worse >= _PATIENCE or time.monotonic() + self.seconds > self.until)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to time an epoch."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the model after enough steps and before every end of training."""
        self.epoch += 1
        self.steps += trainer.num_training_batches
        self.seconds = time.monotonic() - self.started
        last = self.done() or trainer.current_epoch + 1 >= trainer.max_epochs
        if self.relevant and (last or self.steps >= _STEPS):
            self._judge(pl_module)
            self.seconds, self.steps = time.monotonic() - self.started, 0
            last = last or self.done()
        trainer.should_stop = last

    def _judge(self, pl_module: LightningModule) -> None:
        value = mean_ndcg(best_items(pl_module, self.histories, self.length), self.relevant)
        pl_module.train()
        self.worse += 1
        if value > self.best:
            self.best, self.best_epoch, self.worse = value, self.epoch, 0
            self.state = copy.deepcopy(pl_module.torch_model.state_dict())


def best_items(module: LightningModule, histories: Lists, length: int) -> Lists:
    """Return the best unseen items of each user with a history, as RecTools' `recommend` does."""
    known = {int(item): at for at, item in enumerate(module.item_external_ids) if at > 0}
    items = np.array([0, *known])  # 0 is the padding
    torch_model = module.torch_model.eval()
    lists: Lists = {}
    with torch.no_grad():
        vectors = torch_model.item_model.get_all_embeddings()
        for users in _batches(sorted(histories, key=lambda user: len(histories[user]))):
            seen = [np.array([known[item] for item in histories[user] if item in known], np.int64) for user in users]
            x = torch.zeros((len(users), length), dtype=torch.int64)
            for row, own in zip(x, seen, strict=True):
                row[length - len(own[-length:]) :] = torch.from_numpy(own[-length:])
            x = x[:, -used_length(torch_model, x) :]
            states = torch_model.encode_sessions({"x": x}, vectors)[:, -1]
            scores = (states @ vectors.T).numpy()
            scores[:, 0] = -np.inf
            mask_seen(scores, seen)
            best, _ = top_n(scores, DEPTH)
            # Without a known item there is nothing to go by: no list.
            lists |= {user: items[own] for user, own, past in zip(users, best, seen, strict=True) if len(past)}
    return lists


def used_length(torch_model: torch.nn.Module, x: torch.Tensor) -> int:
    """Return how many of the last positions of `x` [B, L] count: up to the longest history where padding is masked.

    Positions are numbered from the end. SASRec attends to padding, as its authors' does, so there all of them count.
    """
    return max(1, int((x != 0).sum(dim=1).max())) if torch_model.use_key_padding_mask else x.shape[1]


def mean_ndcg(lists: Lists, relevant: Lists) -> float:
    """Return the mean NDCG@10 of the users in `relevant`."""
    users, nothing = sorted(relevant), np.empty(0, np.int32)
    hits = hit_matrix([lists.get(user, nothing) for user in users], [relevant[user] for user in users], 10)
    return float(ndcg(hits, np.array([len(relevant[user]) for user in users]), 10).mean())


def dataset(ratings: pd.DataFrame) -> Dataset:
    """Return the ratings as RecTools' data set; a position stands for an hour: order is all that the models see."""
    hours = pd.Timestamp("2000-01-01") + pd.to_timedelta(ratings["position"].to_numpy(), unit="h")
    columns = {Columns.User: "user_idx", Columns.Item: "item_idx"}
    frame = pd.DataFrame({new: ratings[old].to_numpy() for new, old in columns.items()})
    return Dataset.construct(frame.assign(**{Columns.Weight: 1.0, Columns.Datetime: hours}))


def of_users(ratings: pd.DataFrame) -> Lists:
    """Return user -> items, oldest first."""
    ordered = ratings.sort_values(["user_idx", "position"], kind="stable")
    return {int(user): items.to_numpy(np.int32) for user, items in ordered.groupby("user_idx")["item_idx"]}


def max_length(ratings: pd.DataFrame) -> int:
    """Return how many ratings of a history are read: more where histories are long."""
    return 50 if len(ratings) < 50 * ratings["user_idx"].nunique() else 200


def _batches(users: list[int], size: int = 256) -> Iterator[list[int]]:
    remaining = iter(users)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
