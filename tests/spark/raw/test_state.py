"""A source's state changes when its files or its table do, and only then."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.state import source_state


def test_files_folders_globs_and_uris(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "part").mkdir(parents=True)
    file = folder / "part" / "a.csv"
    file.write_text("1")
    sources = (str(file), str(folder), f"file://{folder}", f"file://{folder}/*/*.csv", f"{folder}/*/*.csv")
    before = [source_state(spark, [source]) for source in sources]
    assert before == [source_state(spark, [source]) for source in sources]
    file.write_text("12")
    assert all(source_state(spark, [source]) != old for source, old in zip(sources, before, strict=True))


def test_tables_count_by_snapshot_or_by_their_files(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    lake.ensure("users")  # makes the namespace
    ours, name = lake.name("mine"), "plain"
    spark.sql(f"CREATE TABLE {ours} (a int) USING iceberg")
    spark.sql(f"CREATE TABLE {name} (a int) USING parquet LOCATION '{tmp_path / name}'")
    try:
        for table in (ours, name):
            spark.sql(f"INSERT INTO {table} VALUES (1)")
            before = source_state(spark, [table, None])
            assert source_state(spark, [table, None]) == before
            spark.sql(f"INSERT INTO {table} VALUES (2)")
            assert source_state(spark, [table, None]) != before
    finally:
        spark.sql(f"DROP TABLE {name}")


@pytest.mark.parametrize("source", ["/nowhere/ratings.csv", "no_such_table", "s3a://nowhere/ratings"])
def test_what_cannot_be_found_has_always_changed(spark: SparkSession, source: str) -> None:
    assert source_state(spark, [source]) != source_state(spark, [source])
