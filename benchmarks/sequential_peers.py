"""Search, fit and rank with the peers that see the order of ratings; runs in the peers' environment (`make peers`).

    .venv-peers/bin/python benchmarks/sequential_peers.py FOLDER (--budget SECONDS | --settings FILE) [--seed 0]

FOLDER holds train.parquet and validation.parquet (user_idx, item_idx, position: oldest first in a user's history) and
test_users.parquet (user_idx); benchmarks/sequential.py writes them. Into FOLDER go settings.json, the settings with
words on how each was found, and lists.parquet: peer, split, user_idx and items, best first. Lists of validation users
are of a model fitted on train, those of test users of one fitted on train + validation for as many epochs.

The models are RecTools' (Tikhonovich et al. 2025, "eSASRec: Enhancing Transformer-based Recommendations in a Modular
Fashion"): SASRec and eSASRec, which has LiGR layers; both have the loss of sampled softmax. A search starts at what
the paper's authors published for such histories; sequential_training.py trains.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from search import Setting, search
from sequential_training import PEERS, Lists, Training, max_length, of_users

_MAX_EPOCHS = 1000
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
    options = _options()
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of each peer's search")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings.json of an earlier search")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    options = parser.parse_args()
    if (options.budget is None) == (options.settings is None):
        parser.error("give either --budget or --settings")
    return options


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
    long = max_length(train) > 50
    return {
        "lr": 0.001,
        "n_factors": 64,
        "dropout_rate": 0.1 if long else 0.2,
        "n_blocks": 2 if long else 1,
        "n_negatives": 256,
    }


def _be_quiet() -> None:
    """Leave out what Lightning says of every trainer; errors stay."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_utilities|rectools|pydantic")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
