"""What is known of items, beside who rated them: the same run with it and without, on the same test ratings.

    .venv/bin/python benchmarks/content.py FOLDER --items ITEMS [--seeds 3] [--work DIR] [--set KEY=VALUE]

FOLDER has ratings.parquet, ITEMS is a file of attributes with the same item_id (ingest.items_source). Whole runs, as
users start them: for each seed one as shipped, and one in which neither the item-item model nor the Transformer reads
what items are alike by (WITHOUT); nothing else that is listed does, for there are no places for new items. NDCG@10 of
each member and of what is published, of all, sparse and dense test users; intervals of 95 % are paired, over users,
each user's values being means over the seeds. The test is read when all is chosen.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from quality_data import DataSet
from quality_run import run_id, run_pipeline
from warm_start import judged

from ganrec_spark.config.load import load_config
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import BLEND, MEMBER_NAMES
from ganrec_spark.spark.session import build_session

WITHOUT = ("item_item.likeness=[0.0]", "transformer.item_start=[0.0]")
SYSTEMS = (*MEMBER_NAMES, BLEND)
SEGMENTS = ("all", "sparse", "dense")
_K, _SAMPLES = 10, 1000


def main() -> None:
    """Parse the command line; make both runs of each seed, then print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--items", type=Path, required=True, help="attributes (ingest.items_source)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    ratings, items = (path.resolve() for path in (options.folder / "ratings.parquet", options.items))
    data = DataSet(options.folder.name, (f"ingest.source={ratings}", f"ingest.items_source={items}"), (_K,))
    with tempfile.TemporaryDirectory(prefix="ganrec-content-") as scratch:
        lake = (options.work or Path(scratch)) / data.name
        found = []
        for seed in range(options.seeds):
            # What does not follow from them is the same, and runs once.
            for arm, own in (("without", WITHOUT), ("with", ())):
                run_pipeline(data, lake, seed, [*options.set, *own])
                found.append(read(data, lake, seed, options.set).assign(arm=arm, seed=seed))
    print(f"{data.name}, {options.seeds} seeds\n\n{table(pd.concat(found))}")


def read(data: DataSet, root: Path, seed: int, settings: list[str]) -> pd.DataFrame:
    """Return (user_idx, system, is_sparse, value): the NDCG@10 of every test user in the run as it is now."""
    config = load_config(overrides=[*data.settings, f"lake.root={root}", *settings], environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake, run = Lake(spark, config.lake.catalog, config.lake.namespace), run_id(seed)
        stages = lake.read("stage_log", run).where("stage IN ('item_item_choose', 'transformer_choose')").collect()
        print(*(f"{data.name}, seed {seed}, {row.stage}: {row.message}" for row in stages), sep="\n", flush=True)
        sparse = lake.read("user_sparsity", run).select("user_idx", "is_sparse").toPandas()
        values = pd.concat([judged(lake, run, one).rename("value").reset_index().assign(system=one) for one in SYSTEMS])
        return values.rename(columns={"index": "user_idx"}).merge(sparse, on="user_idx")
    finally:
        spark.stop()


def table(found: pd.DataFrame) -> str:
    """Return what both arms reach, by system and segment, and the lift with its interval."""
    lines = ["| | users | without | with | lift, with 95 % interval |", "|---|---|---|---|---|"]
    for system in SYSTEMS:
        for segment in SEGMENTS:
            own = found[found["system"] == system]
            own = own if segment == "all" else own[own["is_sparse"] == (segment == "sparse")]
            both = own.pivot_table("value", "user_idx", "arm")
            if both.empty:
                continue
            weights = poisson_weights(both.index.to_numpy(), _SAMPLES, seed=0)
            lift = relative_lift(both["without"].to_numpy() @ weights, both["with"].to_numpy() @ weights, 0.95)
            told = f"{lift.value:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]"
            without, with_ = both["without"].mean(), both["with"].mean()
            lines.append(f"| {system}, {segment} | {len(both)} | {without:.4f} | {with_:.4f} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
