"""Reading raw ratings: formats, ids of any size, and every kind of input that cannot be read."""

import bz2
import gzip
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.rules import apply_rules
from ganrec_spark.raw.sources import read_source

HEADER = "user_id,item_id,rating,timestamp\n"
WHEN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)  # 1700000000
AS_OF = datetime(2026, 11, 2, tzinfo=UTC)
NO_RATING_NO_TIME = {"rating": None, "timestamp": None}


def checked(spark: SparkSession, path: Path, ingest: dict, scratch: Path | None = None) -> list[tuple]:
    settings = Ingest.model_validate(ingest)
    rows = apply_rules(read_source(spark, settings, str(path), scratch), settings, AS_OF).collect()
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
    assert checked(spark, tmp_path / name, ingest) == [("u1", "i1", 3.5, WHEN, None), ("u2", "i,2", 4.0, WHEN, None)]


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
        found = apply_rules(rows, Ingest.model_validate({"columns": NO_RATING_NO_TIME}), AS_OF).collect()
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
        assert checked(spark, folder, {}) == [("u", "i", 5.0, WHEN, None)], times.type


@pytest.mark.parametrize(
    ("name", "content", "ingest", "expected"),
    [
        ("empty.csv", b"", {}, ["empty file"]),
        ("hats.csv", b"user_id^item_id^rating^timestamp\nu^i^3^1\n", {}, ["ingest.delimiter", "user_id^item_id"]),
        ("tabs.csv", b"user_id\titem_id\trating\ttimestamp\n", {"format": "csv"}, ["expected columns", "delimiter"]),
        ("a.csv", b"user_id,item_id,stars,timestamp\nu,i,3,1\n", {}, ["missing: rating", "ingest.columns", "stars"]),
        ("bare.csv", b"u,i,3,1\nu,j,3,1\n", {}, ["first line of 7 characters", "ingest.header=false"]),
        ("two.zip", b"PK\x03\x04 and then nothing", {}, ["two.zip", "archive that can be unpacked"]),
        ("short.csv", b"u,i,3\n", {"header": False}, ["expected 4 columns", "found 3", "to null"]),
        ("latin.csv", HEADER.encode() + "é,i,3,1\n".encode("latin-1"), {}, ["expected UTF-8"]),
        (
            "yoo.dat",
            b"1,2004-11-09T17:16:58.115Z,214,0\n",
            {"header": False},
            ["ids of items", "2004-11-09T", "from 1"],
        ),
        ("cut.parquet", b"PAR1 and then nothing", {}, ["cut.parquet", "expected readable"]),
        ("odd.csv", b"PAR1 and then nothing", {"format": "parquet"}, ["odd.csv", "expected readable"]),
        (
            "cut.csv.gz",
            gzip.compress(HEADER.encode() * 9, mtime=0)[:30],
            {},
            ["expected readable, complete files", "ended before"],
        ),
        ("fake.csv.gz", HEADER.encode(), {}, ["expected readable", "Not a gzipped file"]),
        ("pair.csv", b"user_id,item_id,rating,rating,timestamp\nu,i,3,4,1\n", {}, ["one column rating", "position"]),
        ("o.json", b'{"reviewerID": "u", "asin": "i", "overall": 5}\n', {}, ["ingest.columns.user=reviewerID"]),
        ("q.csv", HEADER.encode() + b'"u",i,3,1\n"v,i,4,1\n', {}, ["ingest.quote"]),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes, ingest: dict, expected: list[str]
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_source(spark, Ingest.model_validate(ingest), str(tmp_path / name), tmp_path / "scratch")
    for part in [name, *expected]:
        assert part in str(error.value)


def test_a_missing_file_or_table_is_one_clear_error(spark: SparkSession, tmp_path: Path):
    for kind in ("auto", "parquet", "table"):
        with pytest.raises(InputError, match="expected a readable file, folder or table"):
            read_source(spark, Ingest.model_validate({"format": kind}), "nowhere.ratings")


def text_of(rows: list[str]) -> str:
    return HEADER + "".join(f"{row}\n" for row in rows)


ONE = [("u1", "i1", 3.5, WHEN, None), ("u2", "i2", 4.0, WHEN, None)]


@pytest.mark.parametrize(
    ("name", "content", "ingest"),
    [
        ("pandas.csv", ",user_id,item_id,rating,timestamp\n0,u1,i1,3.5,1700000000\n1,u2,i2,4,1700000000\n", {}),
        ("trailing.csv", "user_id,item_id,rating,timestamp,\nu1,i1,3.5,1700000000,\nu2,i2,4,1700000000,\n", {}),
        ("names.csv", "user_id,item_id,n,n,a`b,_malformed_line,rating,timestamp\n"
         "u1,i1,x,y,z,m,3.5,1700000000\nu2,i2,x,y,z,m,4,1700000000\n", {}),
        ("semi.csv", "user_id;item_id;rating;timestamp\nu1;i1;3,5;1700000000\nu2;i2;4;1700000000\n", {"decimal": ","}),
        ("pipes.txt", "u1|i1|3.5|1700000000\nu2|i2|4|1700000000\n", {"header": False}),
        ("blanks.txt", "u1 i1 3.5 1700000000\nu2 i2 4 1700000000\n", {"header": False}),
        ("hats.txt", HEADER.replace(",", "^") + "u1^i1^3.5^1700000000\nu2^i2^4^1700000000\n", {"delimiter": "^"}),
        ("places.csv", "1700000000,i1,u1,3.5\n1700000000,i2,u2,4\n",
         {"header": False, "columns": {"user": 3, "item": 2, "rating": 4, "timestamp": 1}}),
        ("lines.json", '{"user_id": "u1", "item_id": "i1", "rating": 3.5, "timestamp": 1700000000, "more": {"a": 1}}\n'
         '{"item_id": "i2", "user_id": "u2", "rating": "4", "timestamp": "2023-11-14T22:13:20Z"}\n', {}),
        ("array.json", '[{"user_id": "u1", "item_id": "i1", "rating": 3.5, "timestamp": 1700000000},\n'
         '{"user_id": "u2", "item_id": "i2", "rating": 4, "timestamp": 1700000000}]', {}),
        ("gl[o]b*{a,b}?.csv", text_of(["u1,i1,3.5,1700000000", "u2,i2,4,1700000000"]), {}),
        ("col:on.csv", text_of(["u1,i1,3.5,1700000000", "u2,i2,4,1700000000"]), {}),
        ("slashes.csv", text_of(["u1,i1,3.5,2023/11/14 22:13:20", "u2,i2,4,2023/11/14 22:13:20"]), {}),
        ("pattern.csv", text_of(["u1,i1,3.5,20:13:22 14-11-2023", "u2,i2,4,20:13:22 14-11-2023"]),
         {"timestamp_format": "ss:mm:HH dd-MM-yyyy"}),
        ("spoken.csv", text_of(["u1,i1,3.5,Tue Nov 14 15:13:20 -0700 2023", "u2,i2,4,Tue Nov 14 22:13:20 +0000 2023"]),
         {}),
    ],
)  # fmt: skip
def test_a_newcomers_file_at_the_first_try(spark: SparkSession, tmp_path: Path, name: str, content: str, ingest: dict):
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / f"{name}x").write_text("somebody else's file")
    assert checked(spark, tmp_path / name, ingest, tmp_path / "scratch") == ONE


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_other_encodings(spark: SparkSession, tmp_path: Path, encoding: str):
    (tmp_path / "a.csv").write_bytes((HEADER + "ü,é,4,1700000000\n").encode(encoding))
    ingest = {} if encoding.startswith("utf") else {"encoding": encoding}
    assert checked(spark, tmp_path / "a.csv", ingest) == [("ü", "é", 4.0, WHEN, None)]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zip", "zst"])
def test_packed_files(spark: SparkSession, tmp_path: Path, suffix: str):
    plain = text_of(["u1,i1,3.5,1700000000", "u2,i2,4,1700000000"]).encode()
    path = tmp_path / f"a.csv.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            # Two files of one name in two folders.
            head, one, two = plain.splitlines(keepends=True)
            archive.writestr("2024/a.csv", head + one)
            archive.writestr("2025/a.csv", head + two)
            archive.writestr("__MACOSX/a.csv", b"junk")
    elif suffix == "zst":
        with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as stream:
            stream.write(plain)
    else:
        path.write_bytes({"gz": gzip, "bz2": bz2}[suffix].compress(plain))  # type: ignore[attr-defined]
    assert checked(spark, path, {}, tmp_path / "scratch") == ONE


def test_quoted_text_over_lines_is_text_and_lone_quotes_are_characters(spark: SparkSession, tmp_path: Path):
    head = "user_id,item_id,rating,timestamp,text\n"
    forged = 'u1,i1,3.5,1700000000,"nice\nvictim,i1,5,1700000000,"\nu2,i2,4,1700000000,ok\n'
    (tmp_path / "forged.csv").write_text(head + forged)
    with pytest.raises(InputError, match="expected every quote to be closed"):  # each of its lines could be a row
        checked(spark, tmp_path / "forged.csv", {})
    assert checked(spark, tmp_path / "forged.csv", {"quote": '"'}) == ONE
    (tmp_path / "ids.csv").write_text(HEADER + '"a\nb",i1,3,1700000000\n')
    assert checked(spark, tmp_path / "ids.csv", {}) == [("a\nb", "i1", 3.0, WHEN, None)]
    (tmp_path / "lone.tsv").write_text('u1\t"weird\t3\nu2\t7" single\t4\nu3\t"al"s\t4\nu4\tplain\t5\n')
    found = checked(spark, tmp_path / "lone.tsv", {"header": False, "columns": {"timestamp": None}})
    assert [row[1] for row in found] == ['"weird', '7" single', '"al"s', "plain"]


def test_a_tree_of_folders_with_parts_as_text(spark: SparkSession, tmp_path: Path):
    for user in ("007", "7", "a b+c"):
        folder = tmp_path / "in" / f"user_id={user.replace(' ', '%20')}" / "day=1"
        folder.mkdir(parents=True)
        (folder / "part-0.csv").write_text("item_id,rating,timestamp\ni1,3,1700000000\n")
    (tmp_path / "in" / "_SUCCESS").touch()
    assert [row[0] for row in checked(spark, tmp_path / "in", {})] == ["007", "7", "a b+c"]
    (tmp_path / "in" / "more").mkdir()
    (tmp_path / "in" / "more" / "b.csv").write_text("item_id,rating,timestamp\ni1,3,1700000000\n")
    with pytest.raises(InputError, match="same parts"):
        read_source(spark, Ingest(), str(tmp_path / "in"))


def test_columns_that_cannot_be_ratings_or_times_are_named(spark: SparkSession, tmp_path: Path):
    plain = {"user_id": ["u"], "item_id": ["i"], "rating": [3.0], "timestamp": [1700000000]}
    odd = {"rating": [[WHEN], [b"3"], [True]], "timestamp": [[True], [[1, 2]]]}
    for column, values in odd.items():
        for number, value in enumerate(values):
            pq.write_table(pa.table({**plain, column: value}), tmp_path / f"{column}{number}.parquet")
            with pytest.raises(InputError, match=f"column '{column}': expected"):
                checked(spark, tmp_path / f"{column}{number}.parquet", {})


def test_bytes_large_doubles_and_a_column_named_metadata(spark: SparkSession, tmp_path: Path):
    plain = {"item_id": ["i", "j"], "rating": [3.0, 3.0], "timestamp": [1700000000] * 2, "_metadata": ["x", "y"]}
    for name, ids, rules in (
        ("bytes", [b"\xff\xfe", b" ok "], ["bad_encoding", None]),
        ("doubles", [2.0**53, 2.0**53 - 1], ["inexact_id", None]),  # 2^53 + 1 is the same double as 2^53
    ):
        pq.write_table(pa.table({"user_id": ids, **plain}), tmp_path / f"{name}.parquet")
        found = {row[1]: row for row in checked(spark, tmp_path / f"{name}.parquet", {})}
        assert [found[item][4] for item in ("i", "j")] == rules
    assert found["j"][0] == "9007199254740991"


def test_files_of_a_folder_must_have_the_same_header(spark: SparkSession, tmp_path: Path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,3,1\n")
    (tmp_path / "b.csv").write_text("item_id,user_id,rating,timestamp\ni,u,3,1\n")
    with pytest.raises(InputError, match=r"same header in every file.*b\.csv"):
        read_source(spark, Ingest(), str(tmp_path))
