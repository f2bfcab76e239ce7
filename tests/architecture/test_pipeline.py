"""The plan holds together: tables have one writer, test data one reader, stages a module each."""

import importlib.util
import subprocess
import sys
from collections import defaultdict

import pytest

from ganrec_spark.config.sections import Config
from ganrec_spark.plan.pipeline import LOOP_STAGES, STAGES
from ganrec_spark.plan.stage import Stage
from ganrec_spark.plan.tables import EDITIONS, TABLE_BY_NAME, TABLES

LOGS = {table.name for table in TABLES if table.scope == "events"}  # by `ganrec feedback`, whatever run there is
WRITTEN_BY_NO_STAGE = {"stage_log", "tuning_trials", "refreshed_users"} | LOGS  # by runner.py, tuning.py, overlay.py
ALL = (*STAGES, *LOOP_STAGES)
LEARNT = {table for stage in LOOP_STAGES for table in stage.writes} | {"exposures"}  # read of earlier runs


def test_every_table_has_one_writing_module() -> None:
    writers = defaultdict(set)
    for stage in ALL:
        for table in stage.writes:
            writers[table].add(stage.module)
    assert {name for name in TABLE_BY_NAME if name not in writers} == WRITTEN_BY_NO_STAGE
    several = {name for name, modules in writers.items() if len(modules) > 1}
    assert {TABLE_BY_NAME[name].scope for name in several} <= {"append"}  # any stage may see a user or an item first


def test_only_evaluate_reads_test_ratings() -> None:
    assert [stage.name for stage in STAGES if "test_ratings" in stage.reads] == ["evaluate"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_stage_reads_what_an_earlier_stage_wrote(stage: Stage) -> None:
    before = {table for earlier in STAGES[: STAGES.index(stage)] for table in earlier.writes}
    assert set(stage.reads) - before - set(stage.writes) - LEARNT <= LOGS
    assert set(stage.reads) | set(stage.writes) <= set(TABLE_BY_NAME)


def test_what_goes_round_reads_tables_and_stands_beside_the_daily_run() -> None:
    for stage in LOOP_STAGES:
        assert set(stage.reads) | set(stage.writes) <= set(TABLE_BY_NAME)
        assert stage.phase is None
        assert not set(stage.writes) & {table for daily in STAGES for table in daily.writes}
    assert len({stage.name for stage in ALL}) == len(ALL)


@pytest.mark.parametrize("stage", ALL, ids=lambda stage: stage.name)
def test_stage_has_a_module_a_sentence_and_known_sections(stage: Stage) -> None:
    assert importlib.util.find_spec(f"ganrec_spark.stages.{stage.module}") is not None
    assert stage.doc.endswith(".")
    content = Config().model_dump()
    for section, _, key in (name.partition(".") for name in stage.config):
        assert not key or key in content[section]
        assert section in content
    assert stage.profile in {"sql", "training", "scoring"}


def test_final_phase_never_writes_what_choices_were_made_from() -> None:
    """A table that both phases write must carry the phase, or `final` would overwrite `choose`."""
    phases = defaultdict(set)
    for stage in STAGES:
        for table in stage.writes:
            phases[table].add(stage.phase)
    for table, found in phases.items():
        if {"choose", "final"} <= found:
            assert TABLE_BY_NAME[table].phased, table


def test_keys_and_partitions_are_columns() -> None:
    for table in (*TABLES, *EDITIONS):
        columns = [column.name for column in table.columns]
        assert len(columns) == len(set(columns)), table.name
        assert set(table.key) <= set(columns), table.name
        assert set(table.partition_by) <= set(columns), table.name
        assert all(column.comment for column in table.columns), table.name


def test_plan_and_configuration_import_nothing_heavy() -> None:
    code = (
        "import sys, ganrec_spark.plan.pipeline, ganrec_spark.plan.tables;"
        "import ganrec_spark.config.load, ganrec_spark.cli.main;"
        "heavy = {'pyspark', 'torch', 'pandas', 'numpy', 'pyarrow', 'horovod', 'petastorm'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
