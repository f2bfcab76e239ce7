"""People without a rating: lists by attributes against what is popular, on users of whom no rating is known.

    .venv/bin/python benchmarks/cold_users.py FOLDER (--users USERS | --domain NAME) [--seeds 3] [--work DIR]
        [--set KEY=VALUE]

FOLDER has ratings.parquet, USERS is a file of attributes with the same user_id. With a column `state` its rows `warm`
are learned from and its rows `user_cold` are the test: new people, old items. Without one split.protocol=cold_users
hides a fifth of the users. With a column `domain` the ratings of domain NAME are those of the shop, the others' are
what is known of people (ingest.other_ratings), and a fifth of the people of both is hidden from the shop. Whole runs,
as users start them, with cheap models: what people without a rating are listed does not hang on those of the others.
NDCG@10 of what is published, and of the items by their number of users, of all test users; intervals of 95 %, those of
lifts paired, over users; the test is read when all is chosen.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from quality_data import DataSet
from quality_run import run_id, run_pipeline
from warm_start import judged

from ganrec_spark.config.load import load_config
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import BLEND, POPULARITY, TAIL
from ganrec_spark.spark.session import build_session

CHEAP = (
    "ingest.columns.rating=null",
    "ingest.columns.timestamp=null",
    "sparsity.min_sparse_users=1000000000",
    "als.embedding_size=[16]",
    "als.regularisation=[0.1]",
    "als.alpha=[20.0]",
    "als.rating_scale=[raw]",
    "als.half_life_days=[null]",
    "item_item.method=rp3beta",
    "item_item.mix_shares=[]",
    "transformer.models=1",
    "transformer.max_epochs=1",
    "transformer.embedding_size=16",
    "transformer.adversary_radius=[0.0]",
    "recommend.reranker=none",
    "publish.min_metric_ratio=0.0",
)
_K, _SAMPLES = 10, 1000


def main() -> None:
    """Parse the command line; run the pipeline for each seed, then print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--users", type=Path, help="attributes (ingest.users_source)")
    known.add_argument("--domain", help="the domain that is the shop; others are known (ingest.other_ratings)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the lake, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-cold-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        ratings = options.folder / "ratings.parquet"
        if options.domain:
            own = domains(pd.read_parquet(ratings), options.domain, work)
        else:
            own = [f"ingest.users_source={options.users.resolve()}", *sources(ratings, work)]
        settings = [*CHEAP, *own, *options.set]
        data = DataSet(options.folder.name, (), (_K,))
        print("| seed | published | trending | popularity | lift over popularity | chosen |")
        print("|---|---|---|---|---|---|")
        for seed in range(options.seeds):
            run_pipeline(data, work / "lake", seed, settings)
            print(row(work / "lake", seed, settings), flush=True)


def sources(ratings: Path, work: Path) -> list[str]:
    """Return the settings that say what is learned from and what is the test; states become two files in `work`."""
    table = pd.read_parquet(ratings)
    if "state" not in table:
        return [f"ingest.source={ratings.resolve()}", "split.protocol=cold_users"]
    files = {state: work / f"{state}.parquet" for state in ("warm", "user_cold")}
    for state, file in files.items():
        table.loc[table.state == state, ["user_id", "item_id"]].to_parquet(file, index=False)
    return [f"ingest.source={files['warm']}", f"ingest.test_source={files['user_cold']}", "split.protocol=given"]


def domains(table: pd.DataFrame, target: str, work: Path) -> list[str]:
    """Return the settings for a shop and what its people rated elsewhere, a file each in `work`; some are hidden."""
    inside = table.domain == target
    both = sorted({*table.user_id[inside]} & {*table.user_id[~inside]})
    hidden = np.random.default_rng(0).permutation(both)[: len(both) // 5]
    is_test = inside & table.user_id.isin(hidden)
    files = {"warm": inside & ~is_test, "test": is_test}
    files |= {name: table.domain == name for name in sorted(set(table.domain) - {target})}
    for name, rows in files.items():
        table.loc[rows, ["user_id", "item_id"]].to_parquet(work / f"{name}.parquet", index=False)
    known = ", ".join(f"{name}: {work / name}.parquet" for name in list(files)[2:])
    own = [f"ingest.source={work / 'warm.parquet'}", f"ingest.test_source={work / 'test.parquet'}"]
    return [*own, "split.protocol=given", f"ingest.other_ratings={{{known}}}"]


def row(root: Path, seed: int, settings: list[str]) -> str:
    """Return a row of the table: what a run's lists reach on its test users."""
    config = load_config(overrides=[*settings, f"lake.root={root}"], environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake, run = Lake(spark, config.lake.catalog, config.lake.namespace), run_id(seed)
        values = {system: judged(lake, run, system) for system in (BLEND, TAIL, POPULARITY)}
        log = lake.read("stage_log", run).where("stage = 'strangers_choose'").first()
        told = "" if log is None else log.message.partition("; ")[2]
    finally:
        spark.stop()
    weights = poisson_weights(values[BLEND].index.to_numpy(), _SAMPLES, seed=0)
    lift = relative_lift(values[POPULARITY].to_numpy() @ weights, values[BLEND].to_numpy() @ weights, 0.95)
    words = [f"{own.mean():.4f} +- {1.96 * own.std() / len(own) ** 0.5:.4f}" for own in values.values()]
    change = f"{lift.value:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}], {len(values[BLEND])} users"
    return f"| {seed} | {' | '.join(words)} | {change} | {told} |"


if __name__ == "__main__":
    main()
