"""Measure the pipeline against tuned peers on the same split: one table, one picture and one Parquet file per data set.

    .venv/bin/python benchmarks/quality.py DATASET... [--seeds 3] [--budget SECONDS] [--peers NAME...] [--work DIR]

DATASET is a folder with ratings.parquet (each user's last two ratings held out) or train.parquet and test.parquet.
For each seed the whole pipeline runs as shipped, then every peer is fitted on the same train + validation ratings and
ranks the catalogue. A peer's settings are those best on the first seed's validation ratings: a grid in random order,
then the best one's neighbours, past the grid's edge, too, for as long as the pipeline ran (or --budget, at least half
of that). The peers that see the order of ratings run in an environment of their own (`make peers`). Test ratings are
read once.

Lifts are those of a row over the peer that was best on validation, of all and of those that do not see order, per
user and averaged over seeds, with paired 95 % bootstrap intervals over users, these seeds fixed; what fills change is
measured in the same way, against the same lists without.

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from global_time import by_global_time
from numpy.typing import NDArray
from peers import PEERS, Peer, Score, blocks, popularity
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from quality_report import Measured, write
from quality_summary import summary
from scipy import sparse
from search import Setting, search
from sequential import NAMES, Histories, in_order, required, sequential_lists
from ties import in_time, with_ascending_ids_tied

from ganrec_spark.config.load import load_config
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg, recall
from ganrec_spark.frames.time_order import tie
from ganrec_spark.frames.top_n import mask_seen, top_n
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import LEARN_FROM_FILLS, MEMBER_NAMES
from ganrec_spark.spark.session import build_session

REPOSITORY = Path(__file__).resolve().parents[1]
_DEPTH = 20
Lists = dict[int, NDArray[np.int32]]  # user -> items, best first


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
    histories: Histories | None = None


def main() -> None:
    """Parse the command line; run, judge and write each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="of tuning a peer; the pipeline's time, and no less than half of it",
    )
    parser.add_argument("--peers", nargs="+", choices=everyone(), default=everyone(), metavar="NAME", help="only these")
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument("--cut", type=float, default=0.0, metavar="SHARE")
    changed.add_argument("--tie-ascending", action="store_true")
    changed.add_argument("--global-time", type=float, default=0.0, metavar="QUANTILE", help="of the cut, as .9")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks")
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    if set(options.peers) <= set(NAMES):
        parser.error("--peers: lifts are told over a peer that does not see order, too; popularity takes no time")
    if set(options.peers) & set(NAMES):
        required()
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
    sequential: dict[str, Any] = {}
    budget = 0.0
    told: list[str] = []
    for seed in range(options.seeds):
        run_pipeline(data, work, seed, options.set)
        settings = [*data.settings, f"lake.root={work}", *options.set]
        config = load_config(overrides=settings, environ={})
        spark = build_session(config, "ganrec benchmark")
        try:
            lake = Lake(spark, config.lake.catalog, config.lake.namespace)
            split = read_split(lake, run_id(seed), seed)
            found = our_lists(lake, run_id(seed))
            fills.append(lake.read("gate_decisions", run_id(seed)).toPandas().assign(seed=seed))
            seconds.append(stages_took(lake, run_id(seed)))
        finally:
            spark.stop()
        # After Spark has gone: EASE needs its memory.
        if not told:
            budget, words = allowed(options.budget, seconds[0])
            settings_of, lines = tuned_peers(split, budget, seed, options.peers)
            told = [words, *lines]
        found |= peer_lists(split, settings_of, seed)
        if names := [name for name in NAMES if name in options.peers]:
            folder = work.with_name(f"{data.name}-sequential")
            lists, sequential = sequential_peers(split, folder, seed, budget, sequential, names)
            found |= lists
        for (kind, system), (validation, test) in found.items():
            for name, lists, relevant in (("validation", validation, split.validation), ("test", test, split.test)):
                parts.append(judged(lists, relevant, data.ks).assign(split=name, kind=kind, system=system, seed=seed))
    told += [f"{name}: {own['told']}" for name, own in sequential.items()]
    if left_out := [name for name in everyone() if name not in options.peers]:
        told.append(f"{', '.join(left_out)}: left out by --peers")
    values = pd.concat(parts, ignore_index=True)
    table = summary(values, split.segments).assign(dataset=data.name, seeds=options.seeds)
    write(Measured(data.name, data.ks, command_line(options), seconds, told, table, pd.concat(fills)), options.out)


def everyone() -> list[str]:
    """Return the names of all peers."""
    return [*(peer.name for peer in PEERS), *NAMES]


def allowed(wanted: float | None, seconds: float) -> tuple[float, str]:
    """Return a peer's budget, which is at least half of the pipeline's `seconds`, and what the page says of it."""
    budget = max(wanted or seconds, seconds / 2)
    words = f"Each peer's search had {budget:.0f} s, {100 * budget / seconds:.0f} % of the pipeline's time"
    if wanted and wanted < budget:
        words += f"; --budget {wanted:g} was lifted to that, the least there is"
    return budget, words + "."


def command_line(options: argparse.Namespace) -> str:
    """Return the command without the folders, for the table."""
    words = ["benchmarks/quality.py", *(folder.name for folder in options.datasets), f"--seeds {options.seeds}"]
    numbers = ("budget", "cut", "global_time")
    words += [f"--{name.replace('_', '-')} {value:g}" for name in numbers if (value := getattr(options, name))]
    words += ["--tie-ascending"] if options.tie_ascending else []
    if options.peers != everyone():
        words.append(f"--peers {' '.join(map(shlex.quote, options.peers))}")
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


def read_split(lake: Lake, run: str, seed: int) -> Split:
    """Return the split that the pipeline made with this run.seed, so that peers see exactly the same."""
    parts = {name: _ordered(lake.read(f"{name}_ratings", run), seed) for name in _SPLITS}
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
    histories = Histories(parts["train"], parts["validation"], np.array(sorted(held["test"])))
    return Split(matrix("train"), matrix("train", "validation"), held["validation"], held["test"], segments, histories)


def _ordered(ratings: DataFrame, seed: int) -> pd.DataFrame:
    return in_order(ratings.select("user_idx", "item_idx", "ts", tie(seed).alias("tie")).toPandas())


_SPLITS = ("train", "validation", "test")


def _held_out(rows: pd.DataFrame) -> Lists:
    return {int(user): items.to_numpy(np.int32) for user, items in rows.groupby("user_idx")["item_idx"]}


def our_lists(lake: Lake, run: str) -> dict[tuple[str, str], tuple[Lists, Lists]]:
    """Return (kind, system) -> lists on validation and test of every member and of the blend.

    A system with fill is that of the accepted one; where none was accepted, it is the one without.
    """
    rows = lake.read("gate_decisions", run).where("accepted").select("fill").collect()
    accepted = next((row.fill for row in rows if row.fill != "none"), "none")
    weights = lake.read("blend_weights", run).where("published").select("fill").first()
    published = weights.fill if weights is not None else "none"
    found = {}
    for system, table, fill in (
        *((name, name, "none") for name in MEMBER_NAMES),
        *((f"{name} with fill", name, accepted) for name in LEARN_FROM_FILLS),
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


def tuned_peers(split: Split, budget: float, seed: int, wanted: Sequence[str]) -> tuple[dict[str, Setting], list[str]]:
    """Return peer -> setting of those wanted that can rank so large a catalogue, and in words how each was found."""
    n_items = split.train.shape[1]
    settings, told = {}, []
    for peer in (peer for peer in PEERS if peer.name in wanted):
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


def sequential_peers(
    split: Split, folder: Path, seed: int, budget: float, settings: dict[str, Any], names: Sequence[str]
) -> tuple[dict[tuple[str, str], tuple[Lists, Lists]], dict[str, Any]]:
    """Return what `peer_lists` does of the peers that see order, and their settings, searched where none are given.

    Users that they have no list for, because no rating is known, get the popular items, as with every peer.
    """
    if split.histories is None:
        raise ValueError("expected a split with its ratings in order, found only matrices; read it by read_split")
    lists, settings = sequential_lists(split.histories, folder, seed, budget, settings, names)
    popular = [
        ranked(popularity(ratings, {}, 0), ratings, wanted)
        for ratings, wanted in ((split.train, split.validation), (split.fitted, split.test))
    ]
    return {
        ("peer", name): (popular[0] | own["validation"], popular[1] | own["test"]) for name, own in lists.items()
    }, settings


def tuned(peer: Peer, split: Split, budget: float, seed: int) -> tuple[Setting, str]:
    """Return the setting with the best NDCG@10 on validation, searched until the budget is spent, and how in words."""
    if len(peer.settings) == 1:
        return peer.settings[0], "has no settings"

    def evaluate(setting: Setting, left: float) -> float:
        lists = ranked(peer.fit(split.train, setting, seed), split.train, split.validation)
        return float(judged(lists, split.validation, (10,))["ndcg@10"].mean())

    order = np.random.default_rng(seed).permutation(len(peer.settings))
    found = search([peer.settings[index] for index in order], evaluate, budget)
    words = ", ".join(f"{name} {choice:g}" for name, choice in found.setting.items())
    return found.setting, (
        f"{words}; best of {found.n_tried} settings tried (a grid of {len(peer.settings)}, its best one's neighbours); "
        f"validation NDCG@10 {found.value:.4f}; {found.ended}"
    )


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


if __name__ == "__main__":
    main()
