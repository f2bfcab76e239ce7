"""Search, fit and rank with the peers that see the order of ratings; runs in the peers' environment (`make peers`).

    .venv-peers/bin/python benchmarks/sequential_peers.py FOLDER (--budget SECONDS | --settings FILE) [--seed 0]

FOLDER holds train.parquet and validation.parquet (user_idx, item_idx, position: oldest first in a user's history) and
test_users.parquet (user_idx); benchmarks/sequential.py writes them. Into FOLDER go settings.json, the settings with
words on how each was found, and lists.parquet: peer, split, user_idx and items, best first. Lists of validation users
are of a model fitted on train, those of test users of one fitted on train + validation for as many epochs.

The models are RecTools' (Tikhonovich et al. 2025, "eSASRec: Enhancing Transformer-based Recommendations in a Modular
Fashion"): SASRec and eSASRec, which has LiGR layers; both have the loss of sampled softmax. A search starts at what
the paper's authors published for such histories. Only where logits are computed differs from RecTools' own training:
not at padded positions, which the loss leaves out, for there most of the time would go on CPUs.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import copy
import itertools
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
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
from search import Setting, search

from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.top_n import mask_seen, top_n

DEPTH = 20
_PATIENCE = 10  # judgements
_STEPS = 100  # between two judgements, and never less than an epoch
_MAX_EPOCHS = 1000
Lists = dict[int, NDArray[np.int32]]  # user -> items
# What is RecTools' SASRecModel in each; the rest is searched.
PEERS: dict[str, dict[str, Any]] = {
    "SASRec": {},
    "eSASRec": {"transformer_layers_type": LiGRLayers, "use_key_padding_mask": True},
}
# In this order a step up and one down are tried.
LADDERS = {
    "lr": [0.0005, 0.001, 0.002],
    "n_factors": [32, 64, 128],
    "dropout_rate": [0.1, 0.2, 0.3],
    "n_blocks": [1, 2, 3],
    "n_negatives": [128, 256, 512],
}
LIMITS = {"dropout_rate": (0.0, 0.9)}


def main() -> None:
    """Parse the command line; search or take the settings, then write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of each peer's search")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings.json of an earlier search")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    options = parser.parse_args()
    if (options.budget is None) == (options.settings is None):
        parser.error("give either --budget or --settings")
    _be_quiet()
    # On cores that others use, fewer threads are faster: the user's word counts.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    torch.set_flush_denormal(True)
    train, validation = (pd.read_parquet(options.folder / f"{name}.parquet") for name in ("train", "validation"))
    users = pd.read_parquet(options.folder / "test_users.parquet")["user_idx"].to_numpy()
    settings = json.loads(options.settings.read_text()) if options.settings else {}
    rows = []
    both = pd.concat([train, validation])
    for peer in options.peers:
        if options.settings:
            lists = fitted(peer, settings[peer], train, of_users(validation), options.seed)
        else:
            settings[peer], lists = searched(peer, train, validation, options)
            print(f"{peer}: {settings[peer]['told']}", file=sys.stderr, flush=True)
        final = fitted(peer, settings[peer], both, users, options.seed)
        for split, found in (("validation", lists), ("test", final)):
            rows += [(peer, split, user, items.tolist()) for user, items in found.items()]
    (options.folder / "settings.json").write_text(json.dumps(settings, indent=1))
    table = pd.DataFrame(rows, columns=["peer", "split", "user_idx", "items"])
    table.to_parquet(options.folder / "lists.parquet", index=False)


def searched(
    peer: str, train: pd.DataFrame, validation: pd.DataFrame, options: argparse.Namespace
) -> tuple[dict[str, Any], Lists]:
    """Return the setting found with its epochs and words on how, and the lists of validation users.

    Each setting is trained for at most a tenth of the budget until half of it is spent; then the best one goes on.
    """
    started = time.monotonic()
    trainings: dict[str, Training] = {}
    each = options.budget / 10

    def evaluate(setting: Setting, left: float) -> float:
        training = Training(peer, setting, train, options.seed, of_users(validation))
        trainings[json.dumps(setting)] = training
        training.go_on(_MAX_EPOCHS, time.monotonic() + each)
        print(f"{peer}: {_words(setting)}: {training.told()}", file=sys.stderr, flush=True)
        return training.watch.best

    found = search([published(train)], evaluate, options.budget / 2, LADDERS, LIMITS)
    best = trainings[json.dumps(found.setting)]
    best.go_on(_MAX_EPOCHS, started + options.budget)
    told = (
        f"{_words(found.setting)}; best of {found.n_tried} settings after {each:.0f} s each, the first as published "
        f"({found.ended}); trained on: {best.told()}"
    )
    return {"setting": found.setting, "epochs": best.watch.best_epoch, "told": told}, best.lists()


def fitted(peer: str, found: dict[str, Any], ratings: pd.DataFrame, users: Iterable[int], seed: int) -> Lists:
    """Return the lists of `users` from a model trained on the ratings as the search found it."""
    training = Training(peer, found["setting"], ratings, seed, {int(user): np.empty(0, np.int32) for user in users})
    training.go_on(found["epochs"])
    return training.lists()


def _words(setting: Setting) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


def published(train: pd.DataFrame) -> Setting:
    """Return the setting that eSASRec's authors published for short (amazon-beauty) or long histories (MovieLens 1M).

    Theirs for amazon-beauty has 256 factors; the search gets there from 64, which sampled softmax was published with.
    """
    long = _max_length(train) > 50
    return {
        "lr": 0.001,
        "n_factors": 64,
        "dropout_rate": 0.1 if long else 0.2,
        "n_blocks": 2 if long else 1,
        "n_negatives": 256,
    }


def _max_length(ratings: pd.DataFrame) -> int:
    return 50 if len(ratings) < 50 * ratings["user_idx"].nunique() else 200


class Training:
    """One model that is trained on `ratings`, at once or piece by piece, and ranks the users in `wanted`.

    Where `wanted` has items to find, each epoch is judged by them and the lists are those of the best one.
    """

    def __init__(self, peer: str, setting: Setting, ratings: pd.DataFrame, seed: int, wanted: Lists) -> None:
        seed_everything(seed, verbose=False)
        self.length = _max_length(ratings)
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


def _batches(users: list[int], size: int = 256) -> Iterator[list[int]]:
    remaining = iter(users)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _be_quiet() -> None:
    """Leave out what Lightning says of every trainer; errors stay."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_utilities|rectools|pydantic")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
