"""Reading raw ratings: formats, ids of any size, and every kind of input that cannot be read."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.rules import judge
from ganrec_spark.sources import explained, read_source

HEADER = "user_id,item_id,rating,timestamp\n"
WHEN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)  # 1700000000
NO_RATING_NO_TIME = {"rating": None, "timestamp": None}


def judged(spark: SparkSession, path: Path, ingest: dict) -> list[tuple]:
    settings = Ingest.model_validate(ingest)
    rows = judge(read_source(spark, settings, str(path)), settings, "2026-11-01").collect()
    return sorted((row.user_id, row.item_id, row.rating, row.ts.replace(tzinfo=UTC), row.rule) for row in rows)


@pytest.mark.parametrize(
    ("name", "text", "ingest"),
    [
        ("a.csv", HEADER + 'u1,i1,3.5,1700000000\nu2,"i,2",4,2023-11-14T22:13:20Z\n', {}),
        ("a.data", "u1\ti1\t3.5\t1700000000\nu2\ti,2\t4\t1700000000000\n", {"header": False}),
        ("a.dat", "u1::i1::3.5::1700000000\nu2::i,2::4::1700000000\n", {}),
        ("a b.tsv", "Time\t ITEM_ID\tuser_id\tRating\n1700000000\ti1\tu1\t3.5\n1700000000\ti,2\tu2\t4\n",
         {"columns": {"timestamp": "time"}}),
    ],
)  # fmt: skip
def test_text_formats_tell_the_same(spark: SparkSession, tmp_path: Path, name: str, text: str, ingest: dict):
    (tmp_path / name).write_text(text, encoding="utf-8-sig" if name == "a.csv" else "utf-8")
    assert judged(spark, tmp_path / name, ingest) == [("u1", "i1", 3.5, WHEN, None), ("u2", "i,2", 4.0, WHEN, None)]


def test_parquet_ids_of_any_type_and_size_are_plain_text(spark: SparkSession, tmp_path: Path):
    big = pa.table(
        {
            "user_id": pa.array([2**64 - 1, 7, None], pa.uint64()),
            "item_id": pa.array([Decimal(10**37), Decimal("12.00"), Decimal(1)], pa.decimal128(38, 0)),
        }
    )
    floats = pa.table({"user_id": [1e15, 3.0, float("nan")], "item_id": ["ключ", " 键 ", "x"]})
    results = []
    for name, table in (("big", big), ("floats", floats)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        rows = read_source(
            spark, Ingest.model_validate({"columns": NO_RATING_NO_TIME}), str(tmp_path / f"{name}.parquet")
        )
        found = judge(rows, Ingest.model_validate({"columns": NO_RATING_NO_TIME}), "2026-11-01").collect()
        results.append([(row.user_id, row.item_id, row.rating, row.rule) for row in found])
    assert results[0] == [
        ("18446744073709551615", "1" + 37 * "0", 1.0, None),
        ("7", "12", 1.0, None),
        (None, "1", 1.0, "missing_id"),
    ]
    assert results[1] == [
        ("1000000000000000", "ключ", 1.0, None),
        ("3", "键", 1.0, None),
        (None, "x", 1.0, "missing_id"),
    ]


def test_parquet_times_of_any_type_and_a_folder_of_files(spark: SparkSession, tmp_path: Path):
    for number, times in enumerate(
        [
            pa.array([WHEN], pa.timestamp("ns")),
            pa.array([WHEN], pa.timestamp("us", tz="UTC")),
            pa.array([WHEN], pa.timestamp("ms")),
            pa.array(["2023-11-14 23:13:20+01:00"]),
            pa.array([1700000000], pa.int32()),
            pa.array([1700000000.0], pa.float64()),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        table = pa.table({"user_id": ["u"], "item_id": ["i"], "rating": pa.array([5], pa.int8()), "timestamp": times})
        pq.write_table(table, folder / "part-0.parquet")
        assert judged(spark, folder, {}) == [("u", "i", 5.0, WHEN, None)], times.type


@pytest.mark.parametrize(
    ("name", "content", "ingest", "expected"),
    [
        ("empty.csv", b"", {}, ["empty file"]),
        ("semicolon.csv", b"user_id;item_id;rating;timestamp\nu;i;3;1\n", {}, ["delimiter", "user_id;item_id"]),
        ("tabs.csv", b"user_id\titem_id\trating\ttimestamp\n", {"format": "csv"}, ["expected columns", "delimiter"]),
        ("a.csv", b"user_id,item_id,stars,timestamp\nu,i,3,1\n", {}, ["missing: rating", "ingest.columns", "stars"]),
        ("bare.csv", b"u,i,3,1\nu,j,3,1\n", {}, ["first line 'u,i,3,1'", "ingest.header=false"]),
        ("short.csv", b"u,i,3\n", {"header": False}, ["expected 4 columns", "found 3", "to null"]),
        ("latin.csv", HEADER.encode() + "é,i,3,1\n".encode("latin-1"), {}, ["expected UTF-8"]),
        ("wide.csv", HEADER.encode("utf-16"), {}, ["expected UTF-8"]),
        ("cut.parquet", b"PAR1 and then nothing", {}, ["cut.parquet", "expected readable"]),
        ("odd.csv", b"PAR1 and then nothing", {"format": "parquet"}, ["odd.csv", "expected readable"]),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes, ingest: dict, expected: list[str]
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_source(spark, Ingest.model_validate(ingest), str(tmp_path / name))
    for part in [name, *expected]:
        assert part in str(error.value)


def test_a_missing_file_or_table_is_one_clear_error(spark: SparkSession, tmp_path: Path):
    for kind in ("auto", "parquet", "table"):
        with pytest.raises(InputError, match="expected a readable file, folder or table"):
            read_source(spark, Ingest.model_validate({"format": kind}), "nowhere.ratings")


def test_files_of_a_folder_must_have_the_same_header(spark: SparkSession, tmp_path: Path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,3,1\n")
    (tmp_path / "b.csv").write_text("item_id,user_id,rating,timestamp\ni,u,3,1\n")
    with pytest.raises(InputError, match="same header"), explained("folder"):
        read_source(spark, Ingest(), str(tmp_path)).collect()
