"""A whole lake of an earlier version is brought along: read, gone back in, written on, and nothing of it is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.lakeside import FAST
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from spark.old_lake import build, rows_of, written_down

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.lake.publication import content_hash, prune_editions, roll_back
from ganrec_spark.lake.schema import declared
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.plan.tables import EDITED, PUBLISHED_VIEWS
from ganrec_spark.raw.world import write_world
from ganrec_spark.run import doctor
from ganrec_spark.run.runner import run_pipeline

OLD = written_down("f81ba5d")
FIRST, SECOND = [tuple(publication) for publication in OLD["publications"]]
NEW = "2026-11-03"


@pytest.fixture
def config(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    write_world(tmp_path / "ratings.parquet", users=50, items=30)
    small = ("recommend.n=5", "evaluate.ks=[5, 10]", "generator.kinds=[vae]", "generator.epochs=1")
    return make_config(*FAST, *small, f"ingest.source={tmp_path / 'ratings.parquet'}")


@pytest.fixture
def lake(spark: SparkSession, config: Config) -> Lake:
    build(spark, f"{config.lake.catalog}.{config.lake.namespace}", OLD)
    return Lake(spark, config.lake.catalog, config.lake.namespace)


def as_json(frame: DataFrame) -> list[str]:
    return _sorted([json.loads(row[0]) for row in frame.select(F.to_json(F.struct("*"))).collect()])


def old_rows(table: str, **of: str) -> list[str]:
    """Return what the old version has in a table, of these values, as `as_json` gives it."""
    rows = [row for row in rows_of(OLD["tables"][table]) if all(row[name] == value for name, value in of.items())]
    now = declared(table).renamed
    return _sorted([{now.get(name, name): value for name, value in row.items() if value is not None} for row in rows])


def _sorted(rows: list[dict[str, object]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def require_shown(lake: Lake, run_id: str, edition: str) -> None:
    """Readers see this edition, row for row as the old version published it."""
    assert (lake.published().run_id, lake.published().edition) == (run_id, edition)
    for name in EDITED:  # it had no exposures
        view, table = f"published_{name}", f"{name}_editions"
        assert as_json(lake.spark.table(lake.name(view))) == old_rows(table, run_id=run_id, edition=edition), view


def require_kept(lake: Lake) -> None:
    """Every id has the index that it had, and every edition the rows that its name is the hash of."""
    for table in ("users", "items"):
        assert set(old_rows(table)) <= set(as_json(lake.read_all(table)))
    for run_id, edition in (FIRST, SECOND):
        frames = {
            name: lake.read(f"{name}_editions", run_id)
            .where(F.col("edition") == edition)
            .drop("edition")
            .withColumnsRenamed({new: old for old, new in declared(name).renamed.items()})
            for name in EDITED
        }
        assert content_hash(frames) == edition


def test_a_lake_of_f81ba5d_is_read_and_gone_back_in(
    lake: Lake, config: Config, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(one.run_id, one.edition) for one in lake.publications()] == [SECOND, FIRST]
    require_kept(lake)
    require_shown(lake, *SECOND)
    assert roll_back(lake) == FIRST[0]
    require_shown(lake, *FIRST)
    with pytest.raises(LakeError, match="expected an edition of what was published before"):
        roll_back(lake)
    assert roll_back(lake, SECOND[0]) == SECOND[0]
    require_shown(lake, *SECOND)
    monkeypatch.setattr(doctor, "build_session", lambda *_, **__: spark)
    findings, repairs = doctor.examine(config)
    assert [finding for finding in findings if finding.level != "ok"] == []
    assert repairs == []


def test_a_lake_of_f81ba5d_takes_a_new_run_and_loses_nothing(
    lake: Lake, config: Config, spark: SparkSession, run_stages
) -> None:
    outcomes = run_pipeline(spark, config, NEW)
    assert [outcome.stage for outcome in outcomes] == [stage.name for stage in STAGES]
    assert {outcome.outcome for outcome in outcomes} <= {"done", "skipped"}
    assert lake.published().run_id == NEW
    require_kept(lake)
    for view, table in PUBLISHED_VIEWS.items():
        shown = spark.table(lake.name(view))
        assert shown.columns == ["run_id", *(column.name for column in declared(table).columns)]
        assert {row.run_id for row in shown.select("run_id").distinct().collect()} <= {NEW}
    assert spark.table(lake.name("published_recommendations")).count() > 0
    for table in ("generated_ratings", "gate_decisions", "rejected_ratings"):
        kept = lake.read_all(table).where(F.col("run_id") != NEW)
        assert set(kept.columns) >= set(declared(table).renamed.values()), table
        (new,) = declared(table).renamed.values()
        (old,) = declared(table).renamed
        assert sorted(row[new] for row in kept.collect()) == sorted(row[old] for row in rows_of(OLD["tables"][table]))
    # What this version has no column for stays where it was.
    slots = {row.run_id: row.item_slots for row in spark.table(lake.name("matrix_profile")).collect()}
    before = {row["run_id"]: row["item_slots"] for row in rows_of(OLD["tables"]["matrix_profile"])}
    assert slots == {**before, NEW: None}
    gone = (("generated_ratings", "preference"), ("merged_ratings", "preference"), ("item_item_weights", "fill"))
    for table, column in gone:
        found = {tuple(row) for row in spark.table(lake.name(table)).select("run_id", column).collect()}
        assert found == {(row["run_id"], row[column]) for row in rows_of(OLD["tables"][table])} | {(NEW, None)}, table
    # An old date begins anew: no stage takes rows of the old code for its own.
    with pytest.raises(LakeError, match="another version of the code; run stage 'ingest' again"):
        run_stages(config, "split", run_id=FIRST[0])
    run_stages(config, "ingest", "split", run_id=FIRST[0])
    require_kept(lake)
    assert [roll_back(lake), roll_back(lake)] == [SECOND[0], FIRST[0]]
    require_shown(lake, *FIRST)
    # Of three published ones the newest two are kept.
    assert roll_back(lake, NEW) == NEW
    assert prune_editions(lake, 2) == 1
    assert roll_back(lake, FIRST[0]) == FIRST[0]
    require_shown(lake, *FIRST)
    with pytest.raises(LakeError, match=rf"expected an edition of {SECOND[0]}"):
        roll_back(lake, SECOND[0])
