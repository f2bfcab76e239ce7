"""Time our ALS solver against MLlib's, side by side in one session, and compare what they recommend.

    .venv/bin/python benchmarks/als.py ratings.parquet [--size 128] [--iterations 10] [--rounds 2]

Reads columns user_id, item_id, rating, timestamp; each user's last rating is held out. Prints seconds of each fit
(users' vectors included), NDCG@10 over the full catalogue, and the ratio of the medians.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import statistics
import time

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ganrec_spark.config import load_config
from ganrec_spark.distributed.als import AlsFactors, Objective, by_factors, fit_als
from ganrec_spark.distributed.quality import mean_ndcg
from ganrec_spark.distributed.ranking import histories, rank_catalogue
from ganrec_spark.session import build_session

_K = 10


def split(spark: SparkSession, source: str) -> tuple[DataFrame, DataFrame]:
    """Return (user_idx, item_idx, rating) of training and of each user's last rating."""
    ratings = spark.read.parquet(source)
    for side in ("user", "item"):
        dense = F.dense_rank().over(Window.orderBy(f"{side}_id")) - 1
        ratings = ratings.join(ratings.select(f"{side}_id").distinct().withColumn(f"{side}_idx", dense), f"{side}_id")
    newest = F.row_number().over(Window.partitionBy("user_idx").orderBy(F.desc("timestamp"), "item_idx"))
    columns = ("user_idx", "item_idx", F.col("rating").cast("double").alias("rating"))
    placed = ratings.withColumn("newest", newest).select(*columns, "newest").cache()
    return placed.where("newest > 1").drop("newest"), placed.where("newest = 1").drop("newest")


def ndcg(spark: SparkSession, fitted: AlsFactors, train: DataFrame, held_out: DataFrame) -> float:
    """Return NDCG@10 of the users with a held-out rating."""
    users = histories(train).join(fitted.users, "user_idx")
    ranked = rank_catalogue(users, by_factors(spark, fitted), _K)
    return mean_ndcg(ranked, held_out, _K)


def main() -> None:
    """Parse the command line, run the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--regularisation", type=float, default=0.2)
    parser.add_argument("--alpha", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    spark = build_session(load_config(environ={}), "ganrec benchmark")
    train, held_out = split(spark, options.source)
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
