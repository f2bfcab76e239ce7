"""Train our Transformer with the published configuration of SASRec with sampled softmax: a test of correctness.

    .venv/bin/python benchmarks/published_sasrec.py DATASET [--seeds 2] [--set KEY=VALUE]

DATASET is a folder with ratings.parquet; each user's last rating is the test, the last but one is validation. The
configuration is the one published with Recall@10 / NDCG@10 .0921 / .0531 on amazon-beauty: 64 dimensions, one block of
one head, dropout .2, the last 50 items, 256 negatives, Adam at .001, batches of 128 users, 200 epochs at most. The
number of epochs is that of the best validation; what is tested was trained so long on train + validation. Weights are
those of the last step, not their mean over steps. The test is read once a seed.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import io
import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from adversarial import Sequences, batches, ndcgs, planned, sequences

from ganrec_spark.recommenders.transformer.network import SASRec
from ganrec_spark.recommenders.transformer.training import SasRecPlan, train_sasrec
from ganrec_spark.training.worker import Worker

PUBLISHED = (
    "transformer.embedding_size=64",
    "transformer.blocks=1",
    "transformer.dropout=0.2",
    "transformer.max_length=50",
    "transformer.negatives=256",
    "transformer.learning_rate=0.001",
    "transformer.batch_size=128",
    "transformer.batch_ratings=1000000",  # never fewer users a step
    "transformer.max_epochs=200",
    "transformer.patience=10",
    "transformer.averaging=1000000000.0",  # the last step alone
)


def main() -> None:
    """Parse the command line; train the seeds side by side, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="instead of what is published")
    options = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        settings = itertools.repeat((*PUBLISHED, *options.set))
        for told in pool.map(measured, itertools.repeat(options.dataset), range(options.seeds), settings):
            print(told, flush=True)


def measured(folder: Path, seed: int, settings: tuple[str, ...]) -> str:
    """Return Recall@10 and NDCG@10 on validation, and on test after training anew on all before it, in words."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    started, histories = time.monotonic(), sequences(folder)
    n_items = 1 + max(int(own.max()) for own in histories)
    training = [own[:-2] for own in histories]
    plan = planned(training, [int(own[-2]) for own in histories], n_items, seed, settings)
    chosen = train_sasrec(Worker(), plan, batches(training, plan))
    words = [f"{folder.name}, seed {seed}: epoch {chosen.epoch}"]
    words.append(f"validation {quality(chosen.state, plan, histories, -2)}")
    longer = [own[:-1] for own in histories]
    plan = replace(plan, epochs=chosen.epoch, judges=None, catalogue=np.unique(np.concatenate(longer)))
    final = train_sasrec(Worker(), plan, batches(longer, plan))
    words.append(f"test {quality(final.state, plan, histories, -1)}")
    return "; ".join([*words, f"{time.monotonic() - started:.0f} s"])


def quality(state: bytes, plan: SasRecPlan, histories: Sequences, held: int) -> str:
    """Return Recall@10 and NDCG@10 of each user's item at place `held`, in words; what comes before it is read."""
    model = SASRec(plan.shape)
    model.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    found = ndcgs(model.eval(), plan, [own[:held] for own in histories], [int(own[held]) for own in histories])
    return f"R@10 {(found > 0).mean():.4f}, N@10 {found.mean():.4f}"


if __name__ == "__main__":
    main()
