"""One process at a time works on a run, and a stage counts as finished only when all of its rows are there."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError, LakeError, StoreError
from ganrec_spark.lake.iceberg import change_properties, replace_rows
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Addition, Lake
from ganrec_spark.raw.world import write_world
from ganrec_spark.run import log as run_log
from ganrec_spark.run import signs
from ganrec_spark.run.log import RunLog

RUN = "2026-11-01"
MakeConfig = Callable[..., Config]


def outcomes(lake: Lake, run_id: str = RUN) -> dict[str, str]:
    return {row.stage: row.outcome for row in lake.read("stage_log", run_id).collect()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_world(tmp_path / "ratings.parquet", users=30, items=20)
    return tmp_path / "ratings.parquet"


def test_a_stage_that_died_between_its_tables_does_not_count_though_the_old_settings_return(
    lake: Lake, make_config: MakeConfig, run_stages, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, other = (make_config(f"ingest.source={source}", *more) for more in ((), ("split.protocol=ratio",)))
    run_stages(config, "ingest", "attributes", "split", "sparsity")

    write = StageLake.write

    def killed(self: StageLake, table: str, *rest: object, **named: object) -> int:
        if table == "validation_ratings":
            raise KeyboardInterrupt
        return write(self, table, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StageLake, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stages(other, "split")
    assert outcomes(lake) == {"ingest": "done", "attributes": "done", "split": "failed", "sparsity": "done"}
    with pytest.raises(LakeError, match=r"stage 'sparsity' expected its rows, found none.*run stage 'split' first"):
        run_stages(config, "sparsity")
    run_stages(config, "split")
    # What sparsity had read is gone, so whoever reads its rows is told to run it again.
    with pytest.raises(LakeError, match=r"rows that have been replaced since; run stage 'sparsity' again"):
        run_stages(config, "user_rows")
    run_stages(config, "sparsity", "user_rows")
    both = [lake.read(f"{part}_ratings", RUN).select("user_idx", "item_idx") for part in ("train", "test")]
    assert both[0].join(both[1], ["user_idx", "item_idx"]).isEmpty()


def test_a_stage_refuses_rows_of_other_settings_or_code(
    lake: Lake, make_config: MakeConfig, run_stages, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(f"ingest.source={source}")
    run_stages(config, "ingest", "attributes", "split")
    other = make_config(f"ingest.source={source}", "split.min_ratings=4")
    with pytest.raises(LakeError, match=r"made with other settings; run stage 'split' again.*sections split"):
        run_stages(other, "sparsity")
    run_stages(
        make_config(f"ingest.source={source}", "sparsity.max_ratings=3"), "sparsity"
    )  # its own settings may be new
    # A file that has changed since is for ingest to notice, and does not stop a run under way.
    source.touch()
    run_stages(config, "sparsity")
    with monkeypatch.context() as patch:
        patch.setattr("ganrec_spark.run.fingerprints.code_hash", lambda: "other")
        with pytest.raises(LakeError, match="another version of the code; run stage 'ingest' again"):
            run_stages(config, "sparsity")


def test_one_process_at_a_time_and_a_dead_one_is_taken_over(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = "other-host/ns/77/1"
    with monkeypatch.context() as patch:
        patch.setattr(signs, "this_process", lambda: elsewhere)
        theirs = RunLog(lake, RUN)
        theirs.begin("ingest", lambda _: "f")
    ours = RunLog(lake, RUN)
    with pytest.raises(LakeError, match=r"no other process at work on it, found other-host/ns/77/1 in stage ingest"):
        ours.begin("split", lambda _: "f")
    RunLog(lake, "2026-11-02").begin("ingest", lambda _: "f")  # another date is nobody's business
    # An old sign does not matter where it began lately; a lease that has run out does.
    key = f"ganrec.alive.{RUN}.{elsewhere}"
    change_properties(lake.spark, lake.name("stage_log"), {key: "1000"})
    with pytest.raises(LakeError, match="no other process"):
        RunLog(lake, RUN).begin("split", lambda _: "f")
    monkeypatch.setattr(signs, "LEASE_SECONDS", 0)
    with RunLog(lake, RUN) as ours:
        ours.begin("split", lambda _: "g")
        assert outcomes(lake) == {"ingest": "failed", "split": "running"}
        with pytest.raises(LakeError, match="another process took it over"):
            theirs.finish("ingest", "done", "", 1.0)
        ours.finish("split", "done", "all of it", 1.0)
    assert outcomes(lake) == {"ingest": "failed", "split": "done"}


@pytest.mark.parametrize(("remote", "outcome"), [(False, "failed"), (True, "running")])
def test_a_stage_whose_store_was_gone_is_logged_where_the_lake_is_not_in_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, remote: bool, outcome: str
) -> None:
    assert not lake.is_remote
    monkeypatch.setattr(Lake, "is_remote", remote)

    def fail(_: object) -> None:
        raise StoreError("source 's3a://b/x': the object store does not answer")

    log = RunLog(lake, RUN)
    with pytest.raises(StoreError), log:
        fail(log.begin("ingest", lambda _: "f"))
    assert outcomes(lake) == {"ingest": outcome}


def test_a_run_is_held_between_its_stages_and_inputs_are_asked_for_when_it_is_ours(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signs, "this_process", lambda: "other-host/ns/77/1")
        theirs = RunLog(lake, RUN)
        theirs.begin("ingest", lambda _: "f")
        theirs.finish("ingest", "done", "", 1.0, go_on=True)
    with pytest.raises(LakeError, match="no other process at work"):
        RunLog(lake, RUN).begin("ingest", lambda _: "f")
    ours = RunLog(lake, RUN, wait_seconds=60)
    asked = []

    def looks_away(_: float) -> None:
        theirs.__exit__(None, None, None)  # it has ended, and somebody runs ingest again before we come back
        with RunLog(lake, RUN) as third:
            third.begin("ingest", lambda _: "other")
            third.finish("ingest", "done", "", 1.0)

    monkeypatch.setattr(run_log, "sleep", looks_away)
    ours.begin("split", lambda finished: asked.append(finished["ingest"].fingerprint) or "f")
    assert asked == ["other"]
    assert outcomes(lake) == {"ingest": "done", "split": "running"}
    ours.__exit__(None, None, None)


@pytest.mark.parametrize(("state", "alive"), [("S", True), ("Z", False), ("X", False), ("T", False)])
def test_of_this_machine_what_runs_is_alive(state: str, alive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = signs.this_process()
    since = mine.split("/")[3]
    monkeypatch.setattr(signs, "_state", lambda _: (state, since))
    assert signs.lives(mine, at=0.0) == alive
    monkeypatch.setattr(signs, "_state", lambda _: (state, "another"))
    assert not signs.lives(mine, at=signs.time.time()), "the number was given to another process"


def test_a_process_that_slept_too_long_writes_nothing_more(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signs, "this_process", lambda: "other-host/ns/77/1")
        sleeper = RunLog(lake, RUN)
        sleeper.begin("split", lambda _: "f")
    tables = ("train_ratings",)
    stage = StageLake(lake, RUN, "split", None, tables, tables, sleeper.require)
    rows = stage.frame("train_ratings", [])
    stage.write("train_ratings", rows)
    now = signs.clock()
    monkeypatch.setattr(signs, "clock", lambda: now + 1000)
    stage.write("train_ratings", rows)  # nobody wanted the run meanwhile
    monkeypatch.setattr(signs, "clock", lambda: now + 3000)
    monkeypatch.setattr(signs, "lives", lambda *_: False)
    RunLog(lake, RUN).begin("split", lambda _: "f")
    with pytest.raises(LakeError, match="took it over"):
        stage.write("train_ratings", rows)


def test_signs_of_life_reach_the_table_while_the_slots_are_taken(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "_BEAT_SECONDS", 0.05)
    with RunLog(lake, RUN) as log:
        log.begin("ingest", lambda _: "f")
        given = threading.Event()
        monkeypatch.setattr(signs, "change_properties", lambda *rest: (change_properties(*rest), given.set()))
        assert given.wait(20)
        found = lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name('stage_log')}").where(F.col("key").contains(RUN))
        assert found.count() == 1
        log.finish("ingest", "done", "", 1.0)
    assert lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name('stage_log')}").where(F.col("key").contains(RUN)).isEmpty()


def test_a_failure_is_logged_with_its_run(lake: Lake, config: Config, run_stages) -> None:
    with pytest.raises(InputError):
        run_stages(config, "ingest")
    assert outcomes(lake) == {"ingest": "failed"}


def test_ids_that_others_add_meanwhile_get_no_second_number(lake: Lake, spark: SparkSession) -> None:
    def ids(*names: str) -> Callable[..., Addition]:
        def missing(known: object) -> Addition:
            taken = {row.user_id: row.user_idx for row in known.collect()}  # type: ignore[attr-defined]
            fresh = [name for name in names if name not in taken]
            first = 1 + max(taken.values(), default=-1)
            rows = [(name, first + place, RUN) for place, name in enumerate(fresh)]
            frame = spark.createDataFrame(rows, "user_id string, user_idx int, first_run_id string")
            if barrier:
                barrier.pop().__call__()
            return Addition(frame, len(fresh), "user_idx", first)

        return missing

    barrier: list[Callable[[], object]] = []
    barrier.append(lambda: Lake(spark, *lake.name("").split(".")[:2]).extend("users", ids("b", "c")))
    assert lake.extend("users", ids("a", "b")) == 1
    found = {row.user_id: row.user_idx for row in lake.read_all("users").collect()}
    assert found == {"b": 0, "c": 1, "a": 2}


def test_two_processes_cannot_replace_the_same_rows(lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch):
    stage = StageLake(lake, RUN, "split", None, ("train_ratings",), ("train_ratings",))
    rows = stage.frame("train_ratings", [(1, 1, 1.0, None)])
    other = StageLake(lake, "2026-11-02", "split", None, ("train_ratings",), ("train_ratings",))

    def meanwhile(who: StageLake):
        def late(*rest: object, **named: object):
            monkeypatch.undo()
            who.write("train_ratings", rows)
            return replace_rows(*rest, **named)

        return late

    monkeypatch.setattr("ganrec_spark.lake.store.replace_rows", meanwhile(other))
    assert stage.write("train_ratings", rows) == 1
    monkeypatch.setattr("ganrec_spark.lake.store.replace_rows", meanwhile(stage))
    with pytest.raises(LakeError, match=r"no other process to write this run's rows"):
        stage.write("train_ratings", rows)
    assert lake.read("train_ratings", RUN).count() == 1


def test_a_lake_of_version_f81ba5d_is_brought_along(
    lake: Lake, make_config: MakeConfig, run_stages, source: Path, spark: SparkSession
) -> None:
    lake.ensure("users")  # makes the namespace
    spark.sql(
        f"CREATE TABLE {lake.name('stage_log')} (run_id string, stage string, fingerprint string, outcome string, "
        "message string, seconds double, finished_at timestamp) USING iceberg PARTITIONED BY (run_id, stage)"
    )
    for stage in ("ingest", "split"):
        spark.sql(
            f"INSERT INTO {lake.name('stage_log')} VALUES ('{RUN}', '{stage}', '0123456789abcdef', 'done', '', 1.0, "
            "timestamp '2026-10-01')"
        )
    spark.sql(
        f"CREATE TABLE {lake.name('publish_checks')} (run_id string, name string, value double, `limit` double, "
        "passed boolean, message string) USING iceberg PARTITIONED BY (run_id)"
    )
    config = make_config(f"ingest.source={source}")
    with pytest.raises(LakeError, match="another version of the code; run stage 'ingest' again"):
        run_stages(config, "split")
    run_stages(config, "ingest", "split")
    assert outcomes(lake) == {"ingest": "done", "split": "done"}
    assert len(lake.data_files("stage_log", RUN)) == 1, "one row set a run, not a file for each stage"
    assert "severity" in spark.table(lake.ensure("publish_checks")).columns
