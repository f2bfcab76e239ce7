"""Train the Transformer against an adversary and without one, and compare the two on the same test users.

    .venv/bin/python benchmarks/adversarial.py DATASET... [--radius .05] [--seeds 3] [--workers 2] [--out DIR]
        [--set KEY=VALUE]

DATASET is a folder with ratings.parquet or train.parquet; each user's last rating is the test, the last but one is
validation. For each seed two Transformers are trained as `transformer` is by default, one model each, from the same
start, on the same batches and negatives:

- the twin minimises the sampled softmax;
- the other one minimises its maximum over an adversary that moves each position's target vector by at most `radius` of
  its length (`transformer.adversary_radius`; the closed form is in ganrec_spark/recommenders/transformer/network.py).

Early stopping is on validation, for each on its own; the test is read once. Rows go to DIR/NAME.adversarial.parquet,
and benchmarks/generators_report.py draws the page.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import io
import itertools
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from generators_report import write
from numpy.typing import NDArray
from ties import in_time

from ganrec_spark.config.load import load_config
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.evaluation.metrics import ndcg
from ganrec_spark.recommenders.transformer.network import SASRec, Shape
from ganrec_spark.recommenders.transformer.training import Batch, Judges, SasRecPlan, train_sasrec
from ganrec_spark.seeding import stable_rng
from ganrec_spark.training.worker import Worker

_K = 10
_SAMPLES = 1000
_BLOCK = 256
Sequences = list[NDArray[np.int64]]


def main() -> None:
    """Parse the command line; measure each data set, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    parser.add_argument("--radius", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, a thread each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of transformer.*")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs/benchmarks/generators")
    options = parser.parse_args()
    if not any(options.out.glob("*.recommenders.parquet")):
        parser.error(f"--out {options.out}: expected rows of benchmarks/generators.py there, whose page is drawn anew")
    trainings = list(itertools.product(range(options.seeds), (0.0, options.radius)))
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        jobs = [(folder, *training, tuple(options.set)) for folder in options.datasets for training in trainings]
        found = pool.map(measured, jobs)
        for folder in options.datasets:
            values = pd.concat(itertools.islice(found, len(trainings)), ignore_index=True)
            words = [f"benchmarks/adversarial.py {folder.name} --radius {options.radius:g} --seeds {options.seeds}"]
            told = " ".join([*words, *(f"--set {shlex.quote(setting)}" for setting in options.set)])
            rows = compared(values).assign(dataset=folder.name, radius=options.radius, seeds=options.seeds)
            rows.assign(command=told).to_parquet(options.out / f"{folder.name}.adversarial.parquet")
    write(options.out)


def measured(job: tuple[Path, int, float, tuple[str, ...]]) -> pd.DataFrame:
    """Return validation and test NDCG@10 of every user by one training: folder, seed, radius, settings."""
    folder, seed, radius, settings = job
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    started, histories = time.monotonic(), sequences(folder)
    n_items = 1 + max(int(own.max()) for own in histories)
    plan = planned([own[:-2] for own in histories], [int(own[-2]) for own in histories], n_items, seed, settings)
    plan = replace(plan, adversary_radius=radius)
    trained = train_sasrec(Worker(), plan, batches([own[:-2] for own in histories], plan))
    model = SASRec(plan.shape)
    model.load_state_dict(torch.load(io.BytesIO(trained.state), weights_only=True))
    parts = []
    for name, held in (("validation", -2), ("test", -1)):
        found = ndcgs(model.eval(), plan, [own[:held] for own in histories], [int(own[held]) for own in histories])
        parts.append(pd.DataFrame({"split": name, "user": np.arange(len(found)), "ndcg@10": found}))
    values = pd.concat(parts, ignore_index=True).assign(seed=seed, adversarial=radius > 0)
    means = values.groupby("split")["ndcg@10"].mean()
    told = f"validation {means['validation']:.4f}, test {means['test']:.4f}, epoch {trained.epoch}"
    print(f"{folder.name}, seed {seed}, radius {radius:g}: {told}, {time.monotonic() - started:.0f} s", flush=True)
    return values


def sequences(folder: Path) -> Sequences:
    """Return the items of each user with three ratings or more, oldest first."""
    given = folder / "train.parquet"
    ratings = pd.read_parquet(given if given.exists() else folder / "ratings.parquet")
    ratings = in_time(ratings)
    items = pd.Series(pd.factorize(ratings["item_id"], sort=True)[0], ratings.index)
    groups = items.groupby(ratings["user_id"].to_numpy())
    return [own.to_numpy(np.int64) for _, own in groups if len(own) >= 3]


def planned(
    histories: Sequences, held_out: list[int], n_items: int, seed: int, overrides: Sequence[str] = ()
) -> SasRecPlan:
    """Return the plan of one model by the default configuration and `overrides`, judged on its validation users."""
    settings = load_config(overrides=overrides, environ={}).transformer
    mean_length = float(np.mean([len(own) for own in histories]))
    batch_size = int(min(settings.batch_size, max(16, settings.batch_ratings / mean_length), len(histories)))
    size = settings.size(sum(map(len, histories)))
    judges = stable_rng(0, "judges").permutation(len(histories))[: settings.validation_users]
    rows, lengths = padded([histories[user] for user in judges], settings.max_length)
    held = np.array([held_out[user] for user in judges], dtype=np.int64)
    return SasRecPlan(
        Shape(
            n_items,
            settings.max_length,
            size,
            settings.blocks,
            settings.heads(size),
            settings.dropout,
        ),
        settings.max_epochs,
        max(-(-len(histories) // batch_size), settings.min_steps_per_epoch),
        batch_size,
        seed,
        settings.learning_rate,
        settings.negatives,
        settings.gradient_clip,
        settings.averaging,
        np.unique(np.concatenate(histories)),
        Judges(rows, lengths, np.arange(len(judges)), held),
        settings.validate_every,
        settings.patience,
        settings.min_gain,
    )


def batches(histories: Sequences, plan: SasRecPlan) -> Iterator[Batch]:
    """Yield endless batches of users, each pass in an order of its own."""
    rows, lengths = padded(histories, plan.shape.max_length)
    for turn in itertools.count():
        order = stable_rng(plan.seed, "pass", turn).permutation(len(rows))
        for start in range(0, len(order), plan.batch_size):
            users = order[start : start + plan.batch_size]
            yield torch.from_numpy(rows[users]), torch.from_numpy(lengths[users])


def padded(histories: Sequences, length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the last `length` items of each history, padded behind with -1, and their numbers."""
    rows = np.full((len(histories), length), -1, dtype=np.int32)
    lengths = np.array([min(len(own), length) for own in histories], dtype=np.int32)
    for row, own, n in zip(rows, histories, lengths, strict=True):
        row[:n] = own[-n:]
    return rows, lengths


@torch.no_grad()
def ndcgs(model: SASRec, plan: SasRecPlan, histories: Sequences, held_out: list[int]) -> NDArray[np.float64]:
    """Return each user's NDCG@10 of one held-out item, the catalogue ranked without the whole history."""
    allowed = torch.full((plan.shape.n_items,), float("-inf"))
    allowed[torch.from_numpy(plan.catalogue)] = 0
    hits = []
    for start in range(0, len(histories), _BLOCK):
        part, wanted = histories[start : start + _BLOCK], held_out[start : start + _BLOCK]
        rows, lengths = (torch.from_numpy(array) for array in padded(part, plan.shape.max_length))
        scores = model.last_states(rows, lengths) @ model.item_vectors().T + allowed
        for row, own in zip(scores, part, strict=True):
            row[torch.from_numpy(own)] = float("-inf")
        hits.append((scores.topk(_K).indices == torch.tensor(wanted)[:, None]).numpy())
    found = np.concatenate(hits)
    return ndcg(found, np.ones(len(found), dtype=np.int64), _K)


def compared(values: pd.DataFrame) -> pd.DataFrame:
    """Return a row per split: both means over users and seeds, and the change with its paired 95 % interval.

    The interval is over users, each user's value being the mean of these seeds: other seeds are not in it.
    `seeds_ahead`: with how many seeds the adversarial training's mean is above its twin's.
    """
    rows = []
    for split, own in values.groupby("split"):
        means = own.groupby(["adversarial", "user"])["ndcg@10"].mean().unstack("user")
        weights = poisson_weights(means.columns.to_numpy(), _SAMPLES, seed=0)
        lift = relative_lift(means.loc[False].to_numpy() @ weights, means.loc[True].to_numpy() @ weights, 0.95)
        sides = own.groupby(["adversarial", "seed"])["ndcg@10"].mean().unstack("seed")
        twin, adversarial = sides.loc[False], sides.loc[True]
        interval = (lift.value, lift.low, lift.high)
        rows.append((split, twin.mean(), adversarial.mean(), *interval, (adversarial > twin).sum(), means.shape[1]))
    columns = ["split", "twin", "adversarial", "lift", "lift_low", "lift_high", "seeds_ahead", "n_users"]
    return pd.DataFrame(rows, columns=columns)


if __name__ == "__main__":
    main()
