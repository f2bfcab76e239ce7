"""What look prints is what ingest takes, whatever characters, years and names there are; messages show nobody's id."""

import shlex
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.raw.look import _yaml, look
from ganrec_spark.raw.rejects import advice_on
from ganrec_spark.raw.rules import apply_rules
from ganrec_spark.raw.sources import read_source
from ganrec_spark.raw.times import doubt, time_form

AS_OF = RunId.parse("2026-11-01").as_of(None)
HEADER = "user_id,item_id,rating,timestamp\n"
NONE = ("ingest.columns.rating=null", "ingest.columns.timestamp=null")
YEAR_10000 = 253_402_300_800_000_000  # in microseconds since 1970
YEAR_0 = -62_167_219_200_000_000


def printed(told: list[str]) -> list[str]:
    return [word for word in shlex.split(told[-1]) if word != "--set"]


def taken(spark: SparkSession, words: list[str]) -> tuple[int, int, int]:
    """Return how many rows, users and items ingest takes with these words for --set; it has to take all of them."""
    ingest = load_config(overrides=words, environ={}).ingest
    rows = apply_rules(read_source(spark, ingest, str(ingest.source)), ingest, AS_OF).collect()
    assert {row.rule for row in rows} == {None}
    return len(rows), len({row.user_id for row in rows}), len({row.item_id for row in rows})


def checked(spark: SparkSession, path: Path, **settings: object):
    ingest = Ingest.model_validate(settings)
    rows = read_source(spark, ingest, str(path))
    return apply_rules(rows, ingest, AS_OF), ingest


def times(path: Path, micros: list[int], kind: pa.DataType) -> None:
    n = len(micros)
    days = [one // 86_400_000_000 for one in micros] if kind == pa.date32() else micros
    values = pa.array(days, pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    columns = {"user_id": [f"u{k}" for k in range(n)], "item_id": ["i"] * n, "rating": [3.0] * n}
    pq.write_table(pa.table({**columns, "timestamp": values, "also": values}), path)


@pytest.mark.parametrize("delimiter", ["\t", "#", "'", "\x01", "||"])
def test_any_delimiter_is_printed_as_it_is_read(
    spark: SparkSession, make_config, tmp_path: Path, delimiter: str
) -> None:
    rows = "".join(f"u{n},i{n % 7},{n % 5},{1_700_000_000 + n}\n" for n in range(20))
    (tmp_path / "a.txt").write_text((HEADER + rows).replace(",", delimiter))
    given = f"ingest.delimiter={_yaml(delimiter)}"
    words = printed(look(spark, make_config(given), str(tmp_path / "a.txt"), AS_OF))
    assert load_config(overrides=words, environ={}).ingest.delimiter == delimiter
    assert taken(spark, words)[0] == 20


@pytest.mark.parametrize(
    "text", ["a: b", "on", "1", "2020-01-01", "null", "", "'T'", "\x7f", "😀", "a#b", " a ", *"\t|#~*:&'\x01%@!-"]
)
def test_any_text_is_printed_as_it_is_read(text: str) -> None:
    path = f"ingest.columns.user={_yaml(f'{text}x'.removesuffix('x') or '~')}"
    assert load_config(overrides=[path], environ={}).ingest.columns.user == (text or "~")


def test_decimal_commas_quotes_and_patterns_are_printed_as_they_are_read(
    spark: SparkSession, make_config, tmp_path: Path
) -> None:
    rows = "".join(f"u{n};i{n % 7};{n % 5},5;'2020-01-{n + 1:02}'\n" for n in range(20))
    (tmp_path / "a.csv").write_text(HEADER.replace(",", ";") + rows)
    given = ("ingest.quote='\"'", "ingest.timestamp_format=\"''yyyy-MM-dd''\"")
    words = printed(look(spark, make_config(*given), str(tmp_path / "a.csv"), AS_OF))
    found = load_config(overrides=words, environ={}).ingest
    assert (found.decimal, found.quote, found.timestamp_format) == (",", '"', "''yyyy-MM-dd''")
    assert taken(spark, words)[0] == 20


def test_counts_in_thousands_are_not_made_small(spark: SparkSession, make_config, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("user_id\titem_id\tplays\nu\ti\t1,234\nu\tj\t999\nv\ti\t2,500\n")
    told = look(spark, make_config(), str(tmp_path / "a.tsv"), AS_OF)
    assert "decimal" not in told[-1]
    assert "rejected: bad_rating 2" in told
    assert any(line.startswith("bad_rating: '9,999'; see ingest.decimal, which is not for") for line in told)


def test_what_is_given_is_printed_again(spark: SparkSession, make_config, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,event,timestamp\nu,i,buy,x\nv,i,view,y\nv,j,buy,z\n")
    given = ("ingest.feedback=implicit", "ingest.columns.timestamp=null", "ingest.columns.event=event")
    given = (*given, "ingest.event_weights.buy=4", "ingest.event_weights.cart=null")
    words = printed(look(spark, make_config(*given), str(tmp_path / "a.csv"), AS_OF))
    assert {*given[:3], 'ingest.event_weights={"buy": 4.0, "cart": null}'} <= {*words}
    weights = load_config(overrides=words, environ={}).ingest.event_weights
    assert weights == {"view": 1.0, "click": 2.0, "purchase": 5.0, "buy": 4.0}
    assert taken(spark, words)[0] == 3


def test_unknown_names_behind_an_index_are_taken(spark: SparkSession, make_config, tmp_path: Path) -> None:
    rows = "".join(f"{n},k{n},a{n % 7},n{n}\n" for n in range(20))
    (tmp_path / "a.csv").write_text(f",kunde,artikel,note\n{rows}")
    words = printed(look(spark, make_config(), str(tmp_path / "a.csv"), AS_OF))
    assert {"ingest.columns.user=2", "ingest.columns.item=3"} <= {*words}
    assert taken(spark, words) == (20, 20, 7)


def test_words_for_things_are_no_user(spark: SparkSession, make_config, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer,product\n" + "".join(f"c-{n},p-{n % 7}\n" for n in range(20)))
    words = printed(look(spark, make_config(), str(tmp_path / "a.csv"), AS_OF))
    assert taken(spark, words) == (20, 20, 7)


@pytest.mark.parametrize("kind", [pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.date32()], ids=str)
@pytest.mark.parametrize("year", [YEAR_10000, YEAR_0])
def test_years_that_python_has_not_are_told(
    spark: SparkSession, make_config, tmp_path: Path, kind: pa.DataType, year: int
) -> None:
    days = [1_600_000_000_000_000 + n * 90_000_000_000 for n in range(9)]
    times(tmp_path / "a.parquet", [*days, year], kind)
    told = look(spark, make_config(), str(tmp_path / "a.parquet"), AS_OF)
    if year == YEAR_0:
        assert any(line.startswith("times from 0000-01-01 00:00:00 to 2020-09-") for line in told)
        return
    assert "of the first 10 rows 9 are valid: 9 users, 1 items" in told
    assert "times up to +10000-01-01 00:00:00 UTC lie after the run's date" in told
    frame, ingest = checked(spark, tmp_path / "a.parquet")
    assert "times up to +10000-01-01 00:00:00 UTC" in advice_on(frame, "future_time", ingest)


def test_times_and_positions_of_a_sample_are_those_of_the_file(
    spark: SparkSession, make_config, tmp_path: Path
) -> None:
    times(tmp_path / "a.parquet", [1_600_000_000_123_456, 1_600_000_001_000_000], pa.timestamp("us"))
    told = look(spark, make_config("ingest.tie_order=source"), str(tmp_path / "a.parquet"), AS_OF)
    assert "times from 2020-09-13 12:26:40.123456 to 2020-09-13 12:26:41 UTC" in told


def test_the_year_0_in_text_is_told(spark: SparkSession, make_config, tmp_path: Path) -> None:
    rows = "u,i,3,0000-01-01 00:00:00\nv,i,3,2020-01-01 10:00:00\n"
    (tmp_path / "a.csv").write_text(HEADER + rows)
    told = look(spark, make_config(), str(tmp_path / "a.csv"), AS_OF)
    assert "times from 0000-01-01 00:00:00 to 2020-01-01 10:00:00 UTC" in told


def test_a_late_time_is_not_before_1980(spark: SparkSession, tmp_path: Path) -> None:
    for last, early in ((YEAR_10000, False), (YEAR_0, True)):
        times(tmp_path / "a.parquet", [1_000_000, last], pa.timestamp("us", "UTC"))
        rows = read_source(spark, Ingest(), str(tmp_path / "a.parquet"))
        assert bool(doubt(rows, Ingest(), time_form(rows, Ingest()))) == early


def test_a_column_is_found_in_any_case_and_none_beyond_the_last(
    spark: SparkSession, make_config, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,event,timestamp\nu,i,view,1\nv,i,buy,2\n")
    path, implicit = str(tmp_path / "a.csv"), "ingest.feedback=implicit"
    assert (
        "--set ingest.columns.event=EVENT"
        in look(spark, make_config(implicit, "ingest.columns.event=EVENT"), path, AS_OF)[-1]
    )
    with pytest.raises(InputError, match="names or positions of 4 columns, found 9"):
        look(spark, make_config(implicit, "ingest.columns.event=9"), path, AS_OF)


def test_names_of_columns_with_backticks_and_points(spark: SparkSession, make_config, tmp_path: Path) -> None:
    table = pa.table({"a`b.c": ["u", "v"], "item_id": ["i", "j"], "at": pa.array([datetime(2020, 1, 1)] * 2)})
    pq.write_table(table, tmp_path / "a.parquet")
    given = ("ingest.columns.user=a`b.c", *NONE)
    words = printed(look(spark, make_config(*given), str(tmp_path / "a.parquet"), AS_OF))
    assert taken(spark, words)[0] == 2


def test_advice_shows_no_ids(spark: SparkSession, tmp_path: Path) -> None:
    rows = "".join(f"u{n},i1,3,1700000000\ni1,3,jane{n}@x.org,bob{n}\n" for n in range(9))
    (tmp_path / "a.csv").write_text(HEADER + rows + "u,i1,3,bob0\n")
    frame, ingest = checked(spark, tmp_path / "a.csv")
    assert advice_on(frame, "bad_rating", ingest).startswith("bad_rating: 'aaaa9@a.aaa'; see ingest.decimal")
    assert advice_on(frame, "bad_time", ingest).startswith("bad_time: 'aaa9'; say how")
    rows = "".join(f"jane{n},i,x\njane{n},j,x\n" for n in range(9))
    (tmp_path / "b.csv").write_text(f"user_id,item_id,note\n{rows}")
    settings = {"feedback": "implicit", "columns": {"event": "user_id", "rating": None, "timestamp": None}}
    frame, ingest = checked(spark, tmp_path / "b.csv", **settings)
    told = advice_on(frame, "unknown_event", ingest)
    assert told.startswith("unknown events: 9 different ones, so that ingest.columns.event may not be")
