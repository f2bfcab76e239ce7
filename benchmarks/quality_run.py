"""One run of the pipeline in a benchmark: it is started as users start it, then its split and its lists are read."""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from quality_data import DataSet
from scipy import sparse
from sequential import Histories, Lists, in_order

from ganrec_spark.config.load import load_config
from ganrec_spark.frames.time_order import tie
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import LEARN_FROM_FILLS, MEMBER_NAMES
from ganrec_spark.spark.session import build_session

REPOSITORY = Path(__file__).resolve().parents[1]
DEPTH = 20  # items of a list that are judged
_SPLITS = ("train", "validation", "test")
OfSystems = dict[tuple[str, str], tuple[Lists, Lists]]  # (kind, system) -> lists on validation and on test


@dataclass(frozen=True)
class Split:
    """One run's split: ratings as matrices [U, I], held-out items per user, buckets and sparse flags of users."""

    train: sparse.csr_matrix
    fitted: sparse.csr_matrix
    validation: Lists
    test: Lists
    segments: dict[int, tuple[str, ...]]
    histories: Histories | None = None


@dataclass(frozen=True)
class Finished:
    """What a run left in its lake: its split, the lists of all systems, the gate's rows, the seconds of its stages."""

    split: Split
    lists: OfSystems
    gate: pd.DataFrame
    seconds: float


def finished(data: DataSet, work: Path, seed: int, settings: list[str]) -> Finished:
    """Run the pipeline, in the lake `work`, and return what it left; Spark has stopped by then."""
    run_pipeline(data, work, seed, settings)
    config = load_config(overrides=[*data.settings, f"lake.root={work}", *settings], environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake, run = Lake(spark, config.lake.catalog, config.lake.namespace), run_id(seed)
        gate = lake.read("gate_decisions", run).toPandas().assign(seed=seed)
        return Finished(read_split(lake, run, seed), our_lists(lake, run), gate, stages_took(lake, run))
    finally:
        spark.stop()


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
    asked = lake.read("blend_candidates", run, "choose").select("user_idx").distinct().toPandas()["user_idx"]
    # Of those alone phase choose has lists (docs/adr/0053).
    held["validation"] = {user: held["validation"][user] for user in map(int, asked) if user in held["validation"]}
    histories = Histories(parts["train"], parts["validation"], np.array(sorted(held["test"])))
    return Split(matrix("train"), matrix("train", "validation"), held["validation"], held["test"], segments, histories)


def _ordered(ratings: DataFrame, seed: int) -> pd.DataFrame:
    return in_order(ratings.select("user_idx", "item_idx", "ts", tie(seed).alias("tie")).toPandas())


def _held_out(rows: pd.DataFrame) -> Lists:
    return {int(user): items.to_numpy(np.int32) for user, items in rows.groupby("user_idx")["item_idx"]}


def our_lists(lake: Lake, run: str) -> OfSystems:
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
    pairs = rows.select("user_idx", F.slice("items", 1, DEPTH).alias("items")).toPandas()
    return {int(user): np.asarray(row, np.int32) for user, row in zip(pairs["user_idx"], pairs["items"], strict=True)}
