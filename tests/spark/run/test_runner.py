"""Stages that are not called for may be left out by whoever submits the others."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from pyspark.sql import SparkSession

from ganrec_spark.blas import VARIABLE
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import write_world

BEFORE = ("ingest", "attributes", "split", "sparsity", "user_rows")


def test_a_reader_records_the_stages_that_nobody_submitted(
    lake: Lake, make_config: Callable[..., Config], run_stages, tmp_path: Path
) -> None:
    source = tmp_path / "ratings.parquet"
    write_world(source, users=40, items=20)
    dense = make_config(f"ingest.source={source}", "sparsity.max_ratings=0")
    run_stages(dense, *BEFORE, "merge_choose")
    log = {row.stage: row.outcome for row in lake.read("stage_log", "2026-11-01").collect()}
    assert {stage for stage, outcome in log.items() if outcome == "skipped"} == {"gate"}

    sparse = make_config(f"ingest.source={source}", "sparsity.max_ratings=100")
    run_stages(sparse, *BEFORE, run_id="2026-11-02")
    with pytest.raises(LakeError, match="run stage 'als_setting' first"):
        run_stages(sparse, "merge_choose", run_id="2026-11-02")


def test_workers_use_the_drivers_kernels(spark: SparkSession) -> None:
    def architectures(_: object) -> Iterator[str]:
        np.ones((2, 2)) @ np.ones((2, 2))
        pools = threadpoolctl.threadpool_info()
        yield from {str(pool["architecture"]) for pool in pools if pool["internal_api"] == "openblas"}

    # On a cluster nothing is inherited: the session has to say it.
    assert spark.sparkContext.getConf().get(f"spark.executorEnv.{VARIABLE}") == os.environ.get(VARIABLE)
    ours = set(architectures(None))
    assert set(spark.sparkContext.parallelize(range(2), 2).mapPartitions(architectures).collect()) == ours
