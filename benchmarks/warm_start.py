"""Go on from the published run's models or train anew: NDCG@10 on the same test ratings, and the time of both.

    .venv/bin/python benchmarks/warm_start.py FOLDER [--seed 0] [--work DIR] [--set KEY=VALUE]

FOLDER has ratings.parquet. The last day's ratings are new; where times are places in a history, which have no days, the
newest rating of every user is. Three whole runs in one lake, each as users start it: one without the new ratings, which
is published; one with them that goes on from it (warm_start.when=always); one with them that trains anew (never). The
last two see the same ratings, and each user's last one is the test. Fills and trees are left out, for neither goes on
from anything. Seconds are the stages' by the clock; of the processor they are those of the whole run.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from quality_data import DataSet
from quality_run import run_id, run_pipeline

from ganrec_spark.config.load import load_config
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.audiences import AUDIENCES
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import BLEND, MEMBER_NAMES
from ganrec_spark.spark.session import build_session

STAGES = ("als_setting", "als_final", "transformer_choose", "transformer_final")
SYSTEMS = (*MEMBER_NAMES, BLEND)  # those that train anew in both show how alike the runs are
LEAN = ("sparsity.min_sparse_users=1000000000", "recommend.reranker=none", "publish.min_metric_ratio=0.0")
_DAY, _K, _SAMPLES = 86_400, 10, 1000


def main() -> None:
    """Parse the command line; make the three runs, then print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0, help="run.seed")
    parser.add_argument("--work", type=Path, help="keeps the lake, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-warm-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        ratings = pd.read_parquet(options.folder / "ratings.parquet")
        known, words = without_the_last_day(ratings)
        before, after = work / "before.parquet", work / "after.parquet"
        known.to_parquet(before)
        ratings.to_parquet(after)
        settings = [*LEAN, f"run.seed={options.seed}", *options.set]
        name = options.folder.name
        seconds = {}
        for number, source, how in ((0, before, "never"), (1, after, "always"), (2, after, "never")):
            began = _processor()
            own = [*settings, f"warm_start.when={how}"]
            run_pipeline(DataSet(name, (f"ingest.source={source}",), (_K,)), work / "lake", number, own)
            seconds[number] = _processor() - began
        print(f"{name}, seed {options.seed}: {words}\n")
        print(compared(work / "lake", settings, seconds))


def without_the_last_day(ratings: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the ratings before the last day, and what that is in words."""
    times = ratings["timestamp"]
    if ratings.groupby("user_id")["timestamp"].min().nunique() == 1:
        new = times == ratings.groupby("user_id")["timestamp"].transform("max")
        words = "times are places in a history, so each user's newest rating"
    else:
        new = times // _DAY == times.max() // _DAY
        words = f"{pd.to_datetime(times.max(), unit='s'):%Y-%m-%d}, the last day,"
    return ratings[~new], f"{words} is new: {int(new.sum())} of {len(ratings)} ratings"


def compared(root: Path, settings: list[str], seconds: dict[int, float]) -> str:
    """Return the table: what both runs reached and took, with the paired interval of the lift over test users."""
    config = load_config(overrides=[*settings, f"lake.root={root}"], environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        warm, anew = run_id(1), run_id(2)
        lines = ["| | went on | anew | ratio or lift, with 95 % interval |", "|---|---|---|---|"]
        for system in SYSTEMS:
            both = [judged(lake, run, system) for run in (warm, anew)]
            if not both[0].index.equals(both[1].index):
                sys.exit("expected the same test users in both runs, found others: the split has changed")
            weights = poisson_weights(both[0].index.to_numpy(), _SAMPLES, seed=0)
            lift = relative_lift(both[1].to_numpy() @ weights, both[0].to_numpy() @ weights, 0.95)
            told = f"{lift.value:+.2%} [{lift.low:+.2%}, {lift.high:+.2%}], {len(both[0])} users"
            lines.append(f"| {system}: test NDCG@{_K} | {both[0].mean():.4f} | {both[1].mean():.4f} | {told} |")
        logs = {run: lake.read("stage_log", run).toPandas().set_index("stage") for run in (warm, anew)}
        took = {stage: (logs[warm].seconds[stage], logs[anew].seconds[stage]) for stage in STAGES}
        took["these stages"] = tuple(np.sum(list(took.values()), axis=0))
        took["all stages"] = (logs[warm].seconds.sum(), logs[anew].seconds.sum())
        took["whole run, processor"] = (seconds[1], seconds[2])
        lines += [f"| {name}: seconds | {a:.0f} | {b:.0f} | {a / b:.2f} |" for name, (a, b) in took.items()]
        words = [f"- {run} {stage}: {logs[run].message[stage]}" for stage in STAGES for run in (warm, anew)]
        return "\n".join([*lines, "", *words])
    finally:
        spark.stop()


def judged(lake: Lake, run: str, system: str) -> pd.Series:
    """Return the NDCG@10 of every test user; who has no list has that for anyone, else 0."""
    rows = lake.read(f"{system}_candidates", run, "final").where("fill = 'none'").select("user_idx", "items")
    lists = dict(rows.toPandas().itertuples(index=False))
    test = lake.read("test_ratings", run).toPandas().groupby("user_idx")["item_idx"].agg(list).sort_index()
    anyone = lists.get(AUDIENCES["anyone"], [])
    ranked = [np.asarray(lists.get(user, anyone), dtype=np.int32)[:_K] for user in test.index]
    counts = np.array([len(items) for items in test])
    values = ndcg(hit_matrix(ranked, [np.asarray(items) for items in test], _K), counts, _K)
    return pd.Series(values, index=test.index)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
