"""A catalog that is locked while a run is published is waited for, and readers see a whole list all the time."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from spark.lake.test_publish import fill_run, seen, world
from spark.processes import locked

from ganrec_spark.lake.pointer import show
from ganrec_spark.lake.store import Lake
from ganrec_spark.run.context import Context
from ganrec_spark.stages import publish

__all__ = ["world"]
LOCKED_SECONDS = 4


@pytest.mark.faults
def test_readers_see_the_old_list_or_the_new_one_where_the_catalog_is_locked_before_the_pointer_moves(
    world: Context, spark: SparkSession, lake: Lake, lake_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.run(world)
    before, waited = seen(spark, lake), 0.0
    fill_run(world, item_shift=1)

    def show_locked(lake: Lake, run_id: str, edition: str) -> str:
        nonlocal waited
        with ExitStack() as lock:
            lock.enter_context(locked(lake_root))
            threading.Timer(LOCKED_SECONDS, lock.pop_all().close).start()
        begun = time.monotonic()
        assert seen(spark, lake) == before  # who reads is not kept waiting
        told = show(lake, run_id, edition)
        waited = time.monotonic() - begun
        return told

    monkeypatch.setattr(publish, "show", show_locked)
    assert "published edition" in publish.run(world)
    assert waited > LOCKED_SECONDS - 1
    after = seen(spark, lake)
    assert len(after) == len(before)
    assert not set(after) & set(before)
