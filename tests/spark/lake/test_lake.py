"""The lake replaces rows of one run in one commit, and lets a stage touch only what it declared."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.errors import ConfigError, LakeError
from ganrec_spark.frames.users import Users
from ganrec_spark.lake.iceberg import TableLayout, layout
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake

RUN = "2026-11-01"
DAY = datetime(2026, 1, 1)


def stage_lake(lake: Lake, run_id: str = RUN, phase: str | None = None) -> StageLake:
    tables = ("train_ratings", "merged_ratings", "users")
    return StageLake(lake, run_id, "split", phase, tables, tables)


def rows(lake: StageLake, table: str = "train_ratings") -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in lake.read(table).collect())


def test_writing_twice_leaves_one_copy_and_other_runs_alone(lake: Lake) -> None:
    first, second = stage_lake(lake), stage_lake(lake, "2026-11-02")
    assert first.write("train_ratings", first.frame("train_ratings", [(1, 1, 5.0, DAY)])) == 1
    assert second.write("train_ratings", second.frame("train_ratings", [(2, 2, 4.0, DAY), (3, 3, 4.0, DAY)])) == 2
    first.write("train_ratings", first.frame("train_ratings", [(9, 9, 1.0, DAY)]))
    assert rows(first) == [(9, 9, 1.0, DAY)]
    assert len(rows(second)) == 2


def test_an_empty_write_replaces_too(lake: Lake) -> None:
    mine = stage_lake(lake)
    mine.write("train_ratings", mine.frame("train_ratings", [(1, 1, 5.0, DAY)]))
    assert mine.write("train_ratings", mine.frame("train_ratings", [])) == 0
    assert rows(mine) == []


def test_phases_are_separate_and_must_be_named(lake: Lake) -> None:
    choose, final = stage_lake(lake, phase="choose"), stage_lake(lake, phase="final")
    choose.write("merged_ratings", choose.frame("merged_ratings", [(1, 1, 5.0, DAY, True, "none")]))
    final.write("merged_ratings", final.frame("merged_ratings", [(2, 2, 5.0, DAY, True, "none")]))
    assert rows(choose, "merged_ratings") == [(1, 1, 5.0, DAY, True, "none")]
    assert final.read("merged_ratings", phase="choose").count() == 1
    with pytest.raises(LakeError, match="expected a phase"):
        stage_lake(lake).read("merged_ratings")


def test_a_table_of_an_earlier_version_gets_its_later_columns(lake: Lake, spark: SparkSession) -> None:
    before = stage_lake(lake, phase="choose")
    before.write("merged_ratings", before.frame("merged_ratings", [(1, 1, 5.0, DAY, True, "none")]))
    spark.sql(f"ALTER TABLE {lake.name('merged_ratings')} DROP COLUMN fill")
    after = stage_lake(Lake(spark, *lake.name("").split(".")[:2]), "2026-11-02", phase="choose")
    after.write("merged_ratings", after.frame("merged_ratings", [(2, 2, 5.0, DAY, True, "none")]))
    assert rows(after, "merged_ratings") == [(2, 2, 5.0, DAY, True, "none")]
    assert rows(before, "merged_ratings") == [(1, 1, 5.0, DAY, True, None)]


def test_rows_of_users_stand_together_in_small_row_groups_also_in_a_table_of_an_earlier_version(
    lake: Lake, spark: SparkSession
) -> None:
    table = lake.ensure("ratings")
    spark.sql(f"ALTER TABLE {table} WRITE UNORDERED")
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('write.target-file-size-bytes' = '7')")
    again = Lake(spark, *lake.name("").split(".")[:2])
    again.ensure("ratings")
    size = "write.target-file-size-bytes"
    found = layout(spark, table, [size, "unknown"])
    columns = ("run_id", *(one.name for one in declared("ratings").columns))
    assert found == TableLayout(columns, ("run_id",), ("user_idx",), {size: str(2**24)})
    mixed = spark.range(400_000).selectExpr(
        "CAST(pmod(xxhash64(id), 9000) AS INT) AS user_idx",
        "CAST(pmod(hash(id), 20000) AS INT) AS item_idx",
        "rand(1) AS rating",
        "current_timestamp() AS ts",
        "'source' AS origin",
    )
    again.replace("ratings", mixed.repartition(2), RUN)
    groups = 0
    for file in again.data_files("ratings", RUN):
        found = pq.ParquetFile(file.removeprefix("file://"))
        users = found.read(["user_idx"]).column(0).to_numpy()
        assert (users[1:] >= users[:-1]).all()
        groups += found.num_row_groups
    assert groups >= 4
    few = Users.of(spark.createDataFrame([(7,), (8,)], "user_idx int")).rows_of(again.read("ratings", RUN))
    assert few.count() == mixed.where("user_idx IN (7, 8)").count()


def test_an_undeclared_table_is_refused(lake: Lake) -> None:
    mine = stage_lake(lake)
    with pytest.raises(LakeError, match=r"test_ratings.*may read"):
        mine.read("test_ratings")
    with pytest.raises(LakeError, match="may write"):
        StageLake(lake, RUN, "split", None, ("train_ratings",), ()).write("train_ratings", mine.read("train_ratings"))


def test_a_wrong_schema_is_refused(lake: Lake, spark: SparkSession) -> None:
    with pytest.raises(LakeError, match=r"expected columns.*item_idx.*found.*\['a'\]"):
        stage_lake(lake).write("train_ratings", spark.sql("SELECT 1 AS a"))


def test_a_failed_write_leaves_what_readers_saw(lake: Lake, spark: SparkSession) -> None:
    mine = stage_lake(lake)
    mine.write("train_ratings", mine.frame("train_ratings", [(1, 1, 5.0, DAY)]))
    broken = spark.range(4).selectExpr(
        "CAST(id AS INT) user_idx",
        "CAST(id AS INT) item_idx",
        "IF(id = 3, CAST(raise_error('disk full') AS DOUBLE), 1.0D) rating",
        "current_timestamp() ts",
    )
    with pytest.raises(Exception, match="disk full"):
        mine.write("train_ratings", broken)
    assert rows(mine) == [(1, 1, 5.0, DAY)]


@pytest.mark.parametrize("run_id", ["", "a b", "x' OR '1'='1", "../up", "2026-11-01.0", "2026-11-31"])
def test_run_ids_are_safe_in_sql_and_paths(lake: Lake, run_id: str) -> None:
    mine = stage_lake(lake, run_id)
    with pytest.raises(ConfigError, match="run id"):
        mine.write("train_ratings", mine.frame("train_ratings", []))


def test_columns_carry_their_meaning(lake: Lake, spark: SparkSession) -> None:
    described = spark.sql(f"DESCRIBE TABLE {lake.ensure('train_ratings')}").collect()
    comments = {row.col_name: row.comment for row in described}
    assert comments["user_idx"] == "dense index of the user in table users"
    assert "run_id" in comments


def test_rows_of_the_driver_keep_their_values_or_are_refused(spark: SparkSession) -> None:
    columns = declared("merged_ratings").columns
    rows = [(1, 2, 3.5, DAY, True, "none"), (2, 3, 4, DAY, None, None)]
    assert [tuple(row) for row in local_frame(spark, columns, rows).collect()] == rows
    assert local_frame(spark, columns, []).collect() == []
    with pytest.raises(pa.ArrowInvalid, match="truncated"):
        local_frame(spark, columns, [(1.5, 2, 3.5, DAY, True, "none")])
