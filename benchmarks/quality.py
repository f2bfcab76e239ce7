"""Measure the pipeline against tuned peers on the same split: one table, one picture and one Parquet file per data set.

    .venv/bin/python benchmarks/quality.py DATASET... [--seeds 3] [--budget SECONDS] [--out DIR] [--work DIR]

DATASET is a folder with ratings.parquet (each user's last two ratings held out) or train.parquet and test.parquet.
For each seed the whole pipeline runs as shipped, then every peer is fitted on the same train + validation ratings and
ranks the catalogue. A peer's settings are those best on the first seed's validation ratings, from a grid in random
order for at most as long as the pipeline ran (or --budget). Test ratings are read once.

Lifts are those of a row over the peer that was best on validation, per user and averaged over seeds, with paired
95 % bootstrap intervals over users; what fills change is measured in the same way, against the same lists without.

`--cut SHARE` cuts that share of the users to 5-10 training ratings first. `--global-time .9` splits by one moment for
all users instead (benchmarks/global_time.py); the page is then NAME-time-0.9. `--tie-ascending` takes runs of ascending
item ids for ratings of one time, whose order the pipeline draws: for sequences in which ties may be sorted by id; the
page is then NAME-tied.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from global_time import by_global_time
from numpy.typing import NDArray
from peers import PEERS, Peer, Score, Setting, blocks, popularity
from pyspark.sql import functions as F
from quality_report import Measured, write
from scipy import sparse
from ties import in_time, with_ascending_ids_tied

from ganrec_spark.config import load_config
from ganrec_spark.lake import Lake
from ganrec_spark.pipeline import MEMBERS
from ganrec_spark.ranking.bootstrap import Lift, poisson_weights, relative_lift
from ganrec_spark.ranking.metrics import hit_matrix, ndcg, recall
from ganrec_spark.ranking.top_n import mask_seen, top_n
from ganrec_spark.session import build_session

REPOSITORY = Path(__file__).resolve().parents[1]
_DEPTH = 20
_CHOSEN_BY = "ndcg@10"
_SAMPLES = 1000
Lists = dict[int, NDArray[np.int32]]  # user -> items, best first
# Systems with fill and what they are without.
_UNFILLED = {"als with fill": "als", "blend with fill": "blend", "published": "blend"}


@dataclass(frozen=True)
class DataSet:
    """A folder of ratings, as it is handed to the pipeline, and the cut-offs its figures are published at."""

    name: str
    settings: tuple[str, ...]
    ks: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """One run's split: ratings as matrices [U, I], held-out items per user, buckets and sparse flags of users."""

    train: sparse.csr_matrix
    fitted: sparse.csr_matrix
    validation: Lists
    test: Lists
    segments: dict[int, tuple[str, ...]]


def main() -> None:
    """Parse the command line; run, judge and write each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of tuning a peer, less than the pipeline's")
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument("--cut", type=float, default=0.0, metavar="SHARE")
    changed.add_argument("--tie-ascending", action="store_true")
    changed.add_argument("--global-time", type=float, default=0.0, metavar="QUANTILE", help="of the cut, as .9")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks")
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-quality-") as scratch:
        for folder in options.datasets:
            work = options.work or Path(scratch)
            data = prepared(folder, options.cut, work, options.global_time, options.tie_ascending)
            measure(data, work / data.name, options)


def prepared(folder: Path, cut: float, work: Path, global_time: float = 0.0, tie_ascending: bool = False) -> DataSet:
    """Return the data set in `folder`; with `cut`, a copy in `work` in which that share of users has few ratings.

    With `global_time`, a copy that is split at that quantile of all times; with `tie_ascending` one in which ascending
    item ids in a row are ratings of one time.
    """
    if global_time:
        return split_by_time(folder, global_time, work)
    given = (folder / "train.parquet").exists()
    source, name = folder / ("train.parquet" if given else "ratings.parquet"), folder.name
    if cut or tie_ascending:
        name = f"{name}-cut-{cut:g}" if cut else f"{name}-tied"
        ratings = pd.read_parquet(source)
        ratings = cut_users(ratings, cut, 0 if given else 2) if cut else with_ascending_ids_tied(ratings)
        source = work / f"{name}.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        ratings.to_parquet(source)
    settings = [f"ingest.source={source.resolve()}"]
    if given:
        settings += ["split.protocol=given", f"ingest.test_source={(folder / 'test.parquet').resolve()}"]
    return DataSet(name, tuple(settings), (5, 20) if given else (10,))


def split_by_time(folder: Path, share: float, work: Path) -> DataSet:
    """Return the data set in `folder` split at the quantile `share` of all times, as a copy in `work`."""
    name = f"{folder.name}-time-{share:g}"
    if not (folder / "ratings.parquet").exists():
        sys.exit(f"{folder}: expected ratings.parquet, found none; --global-time makes a split of its own")
    try:
        ratings, settings = by_global_time(pd.read_parquet(folder / "ratings.parquet"), share)
    except ValueError as error:
        sys.exit(f"{folder.name}, --global-time {share:g}: {error}")
    source = work / f"{name}.parquet"
    source.parent.mkdir(parents=True, exist_ok=True)
    ratings.to_parquet(source)
    return DataSet(name, (f"ingest.source={source.resolve()}", *settings), (10,))


def cut_users(ratings: pd.DataFrame, share: float, held_out: int) -> pd.DataFrame:
    """Return the ratings with a random `share` of the users cut to their last 5-10, `held_out` more not counted."""
    rng = np.random.default_rng(0)
    users = np.sort(ratings["user_id"].unique())
    kept = pd.Series(np.where(rng.random(len(users)) < share, rng.integers(5, 11, len(users)) + held_out, 10**9), users)
    newest = in_time(ratings)[::-1].groupby("user_id").cumcount()
    return ratings[newest.reindex(ratings.index) < ratings["user_id"].map(kept)]


def measure(data: DataSet, work: Path, options: argparse.Namespace) -> None:
    """Run every seed of one data set, then write its table, its picture and its rows."""
    parts, fills, seconds = [], [], []
    settings_of: dict[str, Setting] = {}
    told: list[str] = []
    for seed in range(options.seeds):
        run_pipeline(data, work, seed, options.set)
        settings = [*data.settings, f"lake.root={work}", *options.set]
        config = load_config(overrides=settings, environ={})
        spark = build_session(config, "ganrec benchmark")
        try:
            lake = Lake(spark, config.lake.catalog, config.lake.namespace)
            split = read_split(lake, run_id(seed))
            found = our_lists(lake, run_id(seed))
            fills.append(lake.read("gate_decisions", run_id(seed)).toPandas().assign(seed=seed))
            seconds.append(stages_took(lake, run_id(seed)))
        finally:
            spark.stop()
        # After Spark has gone: EASE needs its memory.
        if not settings_of:
            settings_of, told = tuned_peers(split, min(seconds[0], options.budget or seconds[0]), seed)
        found |= peer_lists(split, settings_of, seed)
        for (kind, system), (validation, test) in found.items():
            for name, lists, relevant in (("validation", validation, split.validation), ("test", test, split.test)):
                parts.append(judged(lists, relevant, data.ks).assign(split=name, kind=kind, system=system, seed=seed))
    values = pd.concat(parts, ignore_index=True)
    table = summary(values, split.segments).assign(dataset=data.name, seeds=options.seeds)
    write(Measured(data.name, data.ks, command_line(options), seconds, told, table, pd.concat(fills)), options.out)


def command_line(options: argparse.Namespace) -> str:
    """Return the command without the folders, for the table."""
    words = ["benchmarks/quality.py", *(folder.name for folder in options.datasets), f"--seeds {options.seeds}"]
    numbers = ("budget", "cut", "global_time")
    words += [f"--{name.replace('_', '-')} {value:g}" for name in numbers if (value := getattr(options, name))]
    words += ["--tie-ascending"] if options.tie_ascending else []
    return " ".join([*words, *(f"--set {shlex.quote(setting)}" for setting in options.set)])


def run_id(seed: int) -> str:
    """Return the run date that stands for a seed: all seeds share one lake. No rating is later than it."""
    return f"2100-01-{seed + 1:02}"


def run_pipeline(data: DataSet, work: Path, seed: int, settings: list[str]) -> None:
    """Run the pipeline as its users do; what an earlier call finished is kept."""
    command = [sys.executable, str(REPOSITORY / "jobs" / "run_pipeline.py"), "--run-date", run_id(seed)]
    for setting in (*data.settings, f"lake.root={work}", f"run.seed={seed}", *settings):
        command += ["--set", setting]
    print(f"{data.name}, seed {seed}: {shlex.join(command[1:])}", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=False, stdout=sys.stderr, cwd=REPOSITORY)
    if done.returncode:
        sys.exit(f"{data.name}, seed {seed}: the pipeline ended with exit code {done.returncode}; its message is above")


def stages_took(lake: Lake, run: str) -> float:
    """Return the seconds that the run's stages took together, each when it last ran."""
    row = lake.read("stage_log", run).agg(F.sum("seconds").alias("total")).first()
    return float(row["total"]) if row is not None else 0.0


def read_split(lake: Lake, run: str) -> Split:
    """Return the split that the pipeline made, so that peers see exactly the same."""
    parts = {name: lake.read(f"{name}_ratings", run).select("user_idx", "item_idx").toPandas() for name in _SPLITS}
    users = 1 + max(int(part["user_idx"].max()) for part in parts.values() if len(part))
    items = 1 + max(int(part["item_idx"].max()) for part in parts.values() if len(part))

    def matrix(*names: str) -> sparse.csr_matrix:
        rows = pd.concat([parts[name] for name in names])
        ones = np.ones(len(rows), dtype=np.float32)
        return sparse.csr_matrix((ones, (rows["user_idx"], rows["item_idx"])), shape=(users, items))

    sparsity = lake.read("user_sparsity", run).select("user_idx", "bucket", "is_sparse").toPandas()
    segments = {
        int(row.user_idx): ("all", "sparse" if row.is_sparse else "dense", f"bucket:{row.bucket}")
        for row in sparsity.itertuples()
    }
    held = {name: _held_out(parts[name]) for name in ("validation", "test")}
    return Split(matrix("train"), matrix("train", "validation"), held["validation"], held["test"], segments)


_SPLITS = ("train", "validation", "test")


def _held_out(rows: pd.DataFrame) -> Lists:
    return {int(user): items.to_numpy(np.int32) for user, items in rows.groupby("user_idx")["item_idx"]}


def our_lists(lake: Lake, run: str) -> dict[tuple[str, str], tuple[Lists, Lists]]:
    """Return (kind, system) -> lists on validation and test of every member and of the blend.

    A system with fill is that of the accepted one; where none was accepted, it is the one without.
    """
    rows = lake.read("gate_decisions", run).where("accepted").select("candidate").collect()
    accepted = next((row.candidate for row in rows if row.candidate != "none"), "none")
    weights = lake.read("blend_weights", run).where("published").select("fill").first()
    published = weights.fill if weights is not None else "none"
    found = {}
    for system, table, fill in (
        *((name, name, "none") for name in MEMBERS),
        ("als with fill", "als", accepted),
        ("blend", "blend", "none"),
        ("blend with fill", "blend", accepted),
        ("published", "blend", published),
    ):
        both = [_listed(lake, run, table, fill, phase) for phase in ("choose", "final")]
        kind = "blend" if table == "blend" else "member"
        found[kind, system] = (both[0], both[1])
    return found


def _listed(lake: Lake, run: str, table: str, fill: str, phase: str) -> Lists:
    rows = lake.read(f"{table}_candidates", run, phase).where(F.col("fill") == fill)
    pairs = rows.select("user_idx", F.slice("items", 1, _DEPTH).alias("items")).toPandas()
    return {int(user): np.asarray(row, np.int32) for user, row in zip(pairs["user_idx"], pairs["items"], strict=True)}


def tuned_peers(split: Split, budget: float, seed: int) -> tuple[dict[str, Setting], list[str]]:
    """Return peer -> setting of those that can rank so large a catalogue, and in words how each was found."""
    n_items = split.train.shape[1]
    settings, told = {}, []
    for peer in PEERS:
        if n_items > peer.max_items:
            told.append(f"{peer.name}: left out, {n_items} items are more than {peer.max_items}")
        else:
            settings[peer.name], how = tuned(peer, split, budget, seed)
            told.append(f"{peer.name}: {how}")
        print(told[-1], file=sys.stderr, flush=True)
    return settings, told


def peer_lists(split: Split, settings: dict[str, Setting], seed: int) -> dict[tuple[str, str], tuple[Lists, Lists]]:
    """Return (kind, system) -> lists on validation and test of every peer with a setting."""
    found = {}
    for peer in PEERS:
        if peer.name in settings:
            setting = settings[peer.name]
            validation = ranked(peer.fit(split.train, setting, seed), split.train, split.validation)
            test = ranked(peer.fit(split.fitted, setting, seed), split.fitted, split.test)
            found["peer", peer.name] = (validation, test)
    return found


def tuned(peer: Peer, split: Split, budget: float, seed: int) -> tuple[Setting, str]:
    """Return the setting with the best NDCG@10 on validation, in random order until the budget is spent."""
    if len(peer.settings) == 1:
        return peer.settings[0], "has no settings"
    started = time.monotonic()
    tried: list[tuple[float, Setting]] = []
    for index in np.random.default_rng(seed).permutation(len(peer.settings)):
        if tried and time.monotonic() - started > budget:
            break
        setting = peer.settings[index]
        lists = ranked(peer.fit(split.train, setting, seed), split.train, split.validation)
        tried.append((float(judged(lists, split.validation, (10,))["ndcg@10"].mean()), setting))
    value, setting = max(tried, key=lambda one: one[0])
    words = ", ".join(f"{name} {choice:g}" for name, choice in setting.items())
    return setting, f"{words}; best of {len(tried)} of {len(peer.settings)} settings, validation NDCG@10 {value:.4f}"


def ranked(score: Score, ratings: sparse.csr_matrix, wanted: Lists) -> Lists:
    """Return the best unseen items of the users in `wanted`; users without ratings get the popular ones."""
    catalogue = ratings.getnnz(axis=0) > 0
    anyone = popularity(ratings, {}, 0)(slice(0, 1))
    lists: Lists = {}
    for block in blocks(ratings.shape[0]):
        scores = np.array(score(block), dtype=np.float32)
        rows = ratings[block]
        scores[np.diff(rows.indptr) == 0] = anyone
        scores[:, ~catalogue] = -np.inf
        mask_seen(scores, np.split(rows.indices, rows.indptr[1:-1]))
        best, _ = top_n(scores, _DEPTH)
        lists |= {user: row for user, row in zip(range(block.start, block.stop), best, strict=True) if user in wanted}
    return lists


def judged(lists: Lists, relevant: Lists, ks: tuple[int, ...]) -> pd.DataFrame:
    """Return user_idx and recall@k, ndcg@k of every user in `relevant`; ndcg@10 always, for choosing."""
    users = sorted(relevant)
    empty = np.empty(0, np.int32)
    hits = hit_matrix([lists.get(user, empty) for user in users], [relevant[user] for user in users], _DEPTH)
    counts = np.array([len(relevant[user]) for user in users])
    columns = {"user_idx": np.array(users)}
    for k in sorted({10, *ks}):
        columns |= {f"recall@{k}": recall(hits, counts, k), f"ndcg@{k}": ndcg(hits, counts, k)}
    return pd.DataFrame(columns)


def summary(values: pd.DataFrame, segments: dict[int, tuple[str, ...]]) -> pd.DataFrame:
    """Return a row per system, segment and metric: mean, interval, and the lift over the best peer with its own.

    Systems with fill also have their lift over themselves without: fill_lift, NaN elsewhere.
    """
    metrics = [name for name in values.columns if "@" in name]
    chosen = values[(values["split"] == "validation") & (values["kind"] == "peer")]
    best_peer = str(chosen.groupby("system")[_CHOSEN_BY].mean().idxmax())
    test = values[values["split"] == "test"]
    per_user = test.groupby(["kind", "system", "user_idx"], sort=False)[metrics].mean()
    validation = values[values["split"] == "validation"].groupby("system")[_CHOSEN_BY].mean()
    users = np.sort(test["user_idx"].unique())
    weights = poisson_weights(users, _SAMPLES, seed=0)
    peers = per_user.xs(("peer", best_peer)).reindex(users)
    rows = []
    for segment, members in _members(users, segments).items():
        before = {metric: peers[metric].to_numpy()[members] @ weights[members] for metric in metrics}
        totals = weights[members].sum(axis=0)
        found: dict[tuple[str, str], NDArray[np.float64]] = {}  # the members without fill come before those with
        for kind, system in per_user.index.droplevel("user_idx").unique():
            own = per_user.xs((kind, system)).reindex(users)
            for metric in metrics:
                sums = found[system, metric] = own[metric].to_numpy()[members] @ weights[members]
                means = np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0)
                lift = relative_lift(before[metric], sums, 0.95)
                plain = found.get((_UNFILLED.get(system, ""), metric))
                gain = Lift(np.nan, np.nan, np.nan) if plain is None else relative_lift(plain, sums, 0.95)
                low, high = np.nanquantile(means[1:], [0.025, 0.975])
                row = (kind, system, segment, metric, means[0], low, high)
                lifts = (lift.value, lift.low, lift.high, gain.value, gain.low, gain.high)
                rows.append((*row, *lifts, best_peer, validation[system], int(members.sum())))
    bounds = [f"{name}{part}" for name in ("", "lift_", "fill_lift_") for part in ("value", "low", "high")]
    names = [name.replace("_value", "") for name in bounds]
    columns = ["kind", "system", "segment", "metric", *names, "best_peer", f"validation_{_CHOSEN_BY}", "n_users"]
    return pd.DataFrame(rows, columns=columns)


def _members(users: NDArray[np.int64], segments: dict[int, tuple[str, ...]]) -> dict[str, NDArray[np.bool_]]:
    """Return segment -> mask of `users`; users without a training rating are the cold ones."""
    of_user = [segments.get(int(user), ("all", "cold")) for user in users]
    names = sorted({name for row in of_user for name in row}, key=_segment_order)
    return {name: np.array([name in row for row in of_user]) for name in names}


def _segment_order(name: str) -> tuple[int, int]:
    fixed = ("all", "sparse", "dense", "cold")
    return (0, fixed.index(name)) if name in fixed else (1, int(name.partition(":")[2].split("-")[0].rstrip("+")))


if __name__ == "__main__":
    main()
