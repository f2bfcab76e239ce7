"""Time our ALS solver against MLlib's, side by side in one session, and compare what they recommend.

    .venv/bin/python benchmarks/als.py ratings.parquet [--size 128] [--iterations 10] [--rounds 2] [--set KEY=VALUE]

The pipeline's ingest and split run first; each user's last rating is held out. Prints seconds of each fit (users'
vectors included), NDCG@10 over the full catalogue, and the ratio of the medians.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.frames.histories import histories
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.recommenders.als.factors import AlsFactors, by_factors
from ganrec_spark.recommenders.als.solver import Objective, fit_als
from ganrec_spark.recommenders.catalogue import rank_by
from ganrec_spark.run.runner import run_stage
from ganrec_spark.spark.session import build_session

_K = 10
_RUN = "2100-01-01"  # no rating is later


def parts(spark: SparkSession, config: Config) -> tuple[DataFrame, DataFrame]:
    """Run ingest and split; return (user_idx, item_idx, rating) of training with validation, and of test."""
    for stage in ("ingest", "split"):
        run_stage(spark, config, STAGE_BY_NAME[stage], _RUN)
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    tables = [lake.read(f"{part}_ratings", _RUN) for part in ("train", "validation", "test")]
    train, validation, test = (table.select("user_idx", "item_idx", "rating") for table in tables)
    return train.unionByName(validation).cache(), test.cache()


def ndcg(spark: SparkSession, fitted: AlsFactors, train: DataFrame, held_out: DataFrame) -> float:
    """Return NDCG@10 of the users with a held-out rating, each with one; without a list it is 0."""
    users = histories(train).join(fitted.users, "user_idx")
    ranked = rank_by(users, by_factors(spark, fitted), _K)
    places = ranked.select("user_idx", F.posexplode("items").alias("position", "item_idx"))
    hits = places.join(held_out, ["user_idx", "item_idx"]).agg(F.sum(1 / F.log2(F.col("position") + 2)).alias("dcg"))
    return float(hits.collect()[0]["dcg"] or 0.0) / held_out.count()


def main() -> None:
    """Parse the command line, run the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--regularisation", type=float, default=0.2)
    parser.add_argument("--alpha", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-als-") as folder:
        settings = [f"lake.root={folder}/lake", f"ingest.source={Path(options.source).resolve()}", *options.set]
        config = load_config(overrides=settings, environ={})
        spark = build_session(config, "ganrec benchmark")
        try:
            compare(spark, *parts(spark, config), options)
        finally:
            spark.stop()


def compare(spark: SparkSession, train: DataFrame, held_out: DataFrame, options: argparse.Namespace) -> None:
    """Fit by both solvers, one after the other in every round, and print what each took."""
    print(f"{train.count()} ratings, {held_out.count()} users held out, size {options.size}", flush=True)
    objective = Objective(options.size, options.iterations, options.regularisation, options.alpha, True, 42)
    seconds: dict[str, list[float]] = {"numpy": [], "mllib": []}
    for number in range(options.rounds):
        for solver, taken in seconds.items():
            started = time.monotonic()
            fitted = fit_als(train, objective, solver)
            fitted.users.count()
            taken.append(time.monotonic() - started)
            quality = f", NDCG@{_K} {ndcg(spark, fitted, train, held_out):.4f}" if number == 0 else ""
            print(f"{solver}: {taken[-1]:.1f} s{quality}", flush=True)
    ratio = statistics.median(seconds["mllib"]) / statistics.median(seconds["numpy"])
    print(f"numpy is {ratio:.1f} times as fast as MLlib")


if __name__ == "__main__":
    main()
