"""Items without a rating: for whom they are, by what they are like, on items of which no rating is known.

    .venv/bin/python benchmarks/cold_items.py FOLDER [--items ITEMS] [--seeds 3] [--work DIR] [--set KEY=VALUE]

FOLDER has ratings.parquet, ITEMS is a file of attributes with the same item_id (default: FOLDER/items.parquet). With a
column `split` the rows `train` are learned from and `test_cold_items` are the test; without one split.protocol=
cold_items hides a fifth of the items. A column `cites` of item ids is taken both ways: what an item cites, what cites
it, and itself. Whole runs, as users start them, with cheap models of other members. NDCG@20 of the test items ranked
among themselves for every test user: as stage newcomers ranks them, by sums of likeness to the user's items, each
column counting alike (the plain rule), and by chance; intervals of 95 % over users; the test is read when all is
chosen.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from cold_users import CHEAP
from quality_data import DataSet
from quality_run import run_id, run_pipeline

from ganrec_spark.attributes.describing import descriptions
from ganrec_spark.attributes.likeness import likeness
from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.evaluation.metrics import hit_matrix, ndcg
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.top_n import top_n
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.spark.session import build_session

_K, _SAMPLES = 20, 1000
_READS = ("item_attributes", "item_vectors", "attribute_columns")


def main() -> None:
    """Parse the command line; run the pipeline for each seed, then print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--items", type=Path, help="attributes (ingest.items_source)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the lake, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-cold-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        own = sources(options.folder, options.items or options.folder / "items.parquet", work)
        # But for ALS: what a user likes beyond the items that they have rated is read from its vectors.
        settings = [*(one for one in CHEAP if not one.startswith("als.")), *own, *options.set]
        print("| seed | newcomers | sums of likeness | by chance | lift over sums | chosen |")
        print("|---|---|---|---|---|---|")
        for seed in range(options.seeds):
            run_pipeline(DataSet(options.folder.name, (), (_K,)), work / "lake", seed, settings)
            print(row(work / "lake", seed, settings), flush=True)


def sources(folder: Path, items: Path, work: Path) -> list[str]:
    """Return the settings that say what is learned from and what is the test, and what is known of both."""
    ratings, known = pd.read_parquet(folder / "ratings.parquet"), pd.read_parquet(items)
    own = [f"ingest.source={(folder / 'ratings.parquet').resolve()}", "split.protocol=cold_items"]
    if "split" in ratings:
        parts = {part: ratings[ratings.split == part] for part in ("train", "test_cold_items")}
        files = {part: work / f"{part}.parquet" for part in parts}
        for part, rows in parts.items():
            rows[["user_id", "item_id"]].to_parquet(files[part], index=False)
        own = [f"ingest.source={files['train']}", f"ingest.test_source={files['test_cold_items']}"]
        own.append("split.protocol=given")
        known = known[known.item_id.isin(pd.concat(parts.values()).item_id)]
    if "cites" in known:
        pairs = known[["item_id", "cites"]].explode("cites").dropna()
        both = [pairs.set_axis(["item_id", "linked"], axis=1), pairs.set_axis(["linked", "item_id"], axis=1)]
        every = pd.concat([*both, known[["item_id"]].assign(linked=known.item_id)]).astype({"linked": int})
        linked = every.drop_duplicates().astype({"linked": str}).groupby("item_id").linked.agg(list)
        known = known.drop(columns="cites").join(linked, "item_id")
    known.to_parquet(work / "items.parquet", index=False)
    return [*own, f"ingest.items_source={work / 'items.parquet'}"]


def row(root: Path, seed: int, settings: list[str]) -> str:
    """Return a row of the table: what a run's ranking of the new items reaches on its test users."""
    config = load_config(overrides=[*settings, f"lake.root={root}"], environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake, run = Lake(spark, config.lake.catalog, config.lake.namespace), run_id(seed)
        values = judged(lake, run, config, seed)
        log = lake.read("stage_log", run).where("stage = 'newcomers_final'").first()
        told = "" if log is None else log.message.partition("; ")[2]
    finally:
        spark.stop()
    weights = poisson_weights(np.arange(len(values)), _SAMPLES, seed=0)
    lift = relative_lift(values["plain"].to_numpy() @ weights, values["ours"].to_numpy() @ weights, 0.95)
    words = [f"{own.mean():.4f} +- {1.96 * own.std() / len(own) ** 0.5:.4f}" for _, own in values.items()]
    change = f"{lift.value:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}], {len(values)} users"
    return f"| {seed} | {' | '.join(words)} | {change} | {told} |"


def judged(lake: Lake, run: str, config: Config, seed: int) -> pd.DataFrame:
    """Return the NDCG@20 of each test user by ours, the plain rule and chance, among items that nobody had rated."""
    observed = lake.read("merged_ratings", run, "final").where("observed")
    held_out = lake.read("test_ratings", run).join(observed.select("item_idx").distinct(), "item_idx", "left_anti")
    histories = observed.groupBy("user_idx").agg({"item_idx": "collect_list"}).toDF("user_idx", "history")
    lists = lake.read("newcomers_candidates", run, "final").select("user_idx", "items")
    rows = relevant_items(held_out).join(lists, "user_idx", "left").join(histories, "user_idx", "left").toPandas()
    new = np.unique(np.concatenate(rows["relevant"].tolist()))
    empty = np.empty(0, dtype=np.int32)
    relevant, ours, history = (
        [empty if own is None else np.asarray(own, np.int32) for own in rows[name]]
        for name in ("relevant", "items", "history")
    )
    found = descriptions(StageLake(lake, run, "newcomers_final", "final", _READS, ()), config.newcomers.max_features)
    known = found.here(found.rows)
    plain = np.zeros((len(rows), len(new)), dtype=np.float32)
    described = np.isin(known.idx, new)
    like = likeness(known.taken(np.flatnonzero(described)), known, dict.fromkeys(found.columns, 1.0))
    columns = np.searchsorted(new, known.idx[described])
    for user, own in enumerate(history):
        plain[user, columns] = like[:, np.isin(known.idx, own)].sum(axis=1)
    by_chance = np.random.default_rng(seed).random(plain.shape).astype(np.float32)
    counts = np.array([len(own) for own in relevant])
    ranked = {
        "ours": [own[np.isin(own, new)] for own in ours],
        "plain": [new[own] for own in top_n(plain, _K)[0]],
        "chance": [new[own] for own in top_n(by_chance, _K)[0]],
    }
    return pd.DataFrame({name: ndcg(hit_matrix(own, relevant, _K), counts, _K) for name, own in ranked.items()})


if __name__ == "__main__":
    main()
