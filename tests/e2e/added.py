"""Run the stages that a new member meets, in a checkout that has it, on users who walk round a circle of items.

    python tests/e2e/added.py FOLDER

Prints one line of JSON: what the tables and the report say of members. Other models' lists are left empty.
"""

import importlib
import json
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from ganrec_spark.config.load import load_config
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.reporting.summary import print_summary
from ganrec_spark.run.runner import stage_context
from ganrec_spark.spark.session import build_session

# A JVM that lives for a minute does not repay compilers' work.
QUICK = (
    "spark.sql.codegen.wholeStage: 'false', spark.sql.codegen.factoryMode: NO_CODEGEN, "
    "spark.driver.extraJavaOptions: '-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC'"
)
RUN, USERS, ITEMS, STEPS = "2026-11-01", 60, 20, 8
BEFORE = ("ingest", "attributes", "split", "sparsity")
EACH_PHASE = ("merge", "popularity", "chain")
AFTER = ("recommend", "evaluate", "publish", "report")


def walks() -> str:
    """Return ratings in which every user rates the next item of the circle each day."""
    start = datetime(2026, 1, 1)
    rows = ["user_id,item_id,rating,timestamp"]
    for user in range(USERS):
        for step in range(STEPS):
            day = start + timedelta(days=user % 7 + step)
            rows.append(f"u{user},i{(user + step) % ITEMS},5,{day:%Y-%m-%dT%H:%M:%S}")
    return "\n".join(rows)


def main(folder: Path) -> None:
    """Run the stages in a lake below `folder`, print what came of it."""
    (folder / "ratings.csv").write_text(walks())
    settings = [
        "spark.master=local[2]",
        f"spark.properties={{{QUICK}}}",
        "spark.driver_memory=1g",
        "spark.shuffle_partitions=2",
        "evaluate.ks=[1,10]",
    ]
    settings += [f"lake.root={folder / 'lake'}", f"ingest.source={folder / 'ratings.csv'}"]
    settings += ["recommend.n_candidates=20", "recommend.reranker=none", "publish.metric_k=10"]
    config = load_config(overrides=settings, environ={})
    spark = build_session(config)
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    names = [*BEFORE, *(f"{stage}_{phase}" for phase in ("choose", "final") for stage in EACH_PHASE), *AFTER]
    for name in names:
        stage = STAGE_BY_NAME[name]
        importlib.import_module(f"ganrec_spark.stages.{stage.module}").run(stage_context(lake, config, stage, RUN))
    print_summary(spark, config, RUN)
    weights = {row.recommender: row.weight for row in lake.read("blend_weights", RUN).collect()}
    lists = lake.read("chain_candidates", RUN, "final").collect()
    metrics = lake.read("metrics", RUN).where("split = 'test' AND metric = 'ndcg' AND k = 1 AND segment = 'all'")
    sources = Counter(
        name for row in lake.read("recommendations", RUN).where("rank = 1").collect() for name in row.members
    )
    found = {
        "members": MEMBER_NAMES,
        "lists": len(lists),
        "weights": weights,
        "ndcg": {row.recommender: row.value for row in metrics.collect()},
        "first": sources,
        "report": (folder / "lake" / "reports" / f"{RUN}.html").read_text().count("chain"),
    }
    spark.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
