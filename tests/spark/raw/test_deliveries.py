"""Files as people deliver them: each is read as it is meant, or refused with the cause; no row is made or lost."""

import gzip
import json
import re
import shlex
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import ConfigError, GanrecError, InputError
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.raw.look import look
from ganrec_spark.raw.rules import apply_rules
from ganrec_spark.raw.sources import explained, read_columns, read_source
from ganrec_spark.raw.times import doubt, time_form

AS_OF = RunId.parse("2026-11-01").as_of(None)
HEADER = "user_id,item_id,rating,timestamp\n"
COMMAS = "".join(f"u{n},i{n},3,{1_700_000_000 + n}\n" for n in range(20))


def users(spark: SparkSession, path: Path, **settings: object) -> dict[str, str | None]:
    """Return user -> rule of every row that is read, in order; rows of one user are told by a number behind it."""
    ingest = Ingest.model_validate(settings)
    with explained(str(path)):
        rows = apply_rules(read_source(spark, ingest, str(path)), ingest, AS_OF).select("user_id", "rule").collect()
    return (
        {f"{row.user_id}": row.rule for row in rows}
        if len({row.user_id for row in rows}) == len(rows)
        else {f"{row.user_id}.{place}": row.rule for place, row in enumerate(rows)}
    )


def test_texts_over_lines_with_quotes_behind_backslashes_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    text = HEADER.replace("\n", ",text\n") + 'u1,i1,3,1700000000,"he said \\"hi\nvictim,i9,5,1700000000,x\\" ok"\n'
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match="expected quotes inside of quotes to be doubled"):
        users(spark, tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("lines", [['u,"Heroes,3,1', "v,plain,3,2", 'w,12",3,3'], ['u,"Heroes,3,1', 'w,12",3,3']])
def test_lone_quotes_that_pair_swallow_no_row(
    spark: SparkSession, tmp_path: Path, encoding: str, lines: list[str]
) -> None:
    (tmp_path / "a.csv").write_bytes((HEADER + COMMAS + "".join(f"{line}\n" for line in lines)).encode(encoding))
    with pytest.raises(InputError, match=r"expected every quote to be closed.*ingest\.quote"):
        users(spark, tmp_path / "a.csv")
    assert list(users(spark, tmp_path / "a.csv", quote="none"))[20:] == [line[0] for line in lines]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_an_id_over_two_lines_is_one_id_and_makes_no_user(spark: SparkSession, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes((HEADER + COMMAS + '"x\ny",i1,3,1700000000\n').encode(encoding))
    assert list(users(spark, tmp_path / "a.csv"))[20:] == ["x\ny"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "mac-roman", "cp1250", "gbk", "utf-32-le", "latin-1"])
def test_pythons_names_of_encodings_are_understood(spark: SparkSession, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes((HEADER + "u1,i1,3,1700000000\n").encode(encoding))
    assert users(spark, tmp_path / "a.csv", encoding=encoding) == {"u1": None}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"user_id": "u", "item_id": "i"} {"user_id": "v", "item_id": "i"}\n', "several in one"),
        ('{"user_id": {"id": 1}, "item_id": "i"}\n', "expected ids in key user_id, found an object"),
        ('{"user_id": "u", "User_ID": "v", "item_id": "i"}\n', "several that differ by case alone"),
    ],
)
def test_json_of_which_rows_would_be_lost_is_refused(spark: SparkSession, tmp_path: Path, text: str, found: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=found):
        users(spark, tmp_path / "a.json", columns={"rating": None, "timestamp": None})


def test_json_numbers_are_ids_as_parquet_has_them(spark: SparkSession, tmp_path: Path) -> None:
    values = ["2.0", "1e5", "9007199254740993.0", "7"]
    (tmp_path / "a.json").write_text("".join(f'{{"user_id": {value}, "item_id": "}} {{"}}\n' for value in values))
    found = users(spark, tmp_path / "a.json", columns={"rating": None, "timestamp": None})
    assert found == {"2": None, "100000": None, "9007199254740992": "inexact_id", "7": None}


def test_json_is_read_where_a_folder_names_the_user_and_as_a_list_of_ids(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s" / "user_id=u1").mkdir(parents=True)
    (tmp_path / "s" / "user_id=u1" / "a.json").write_text('{"item_id": 2.0}\n{"item_id": 7}\n')
    assert users(spark, tmp_path / "s", columns={"rating": None, "timestamp": None}) == {"u1.0": None, "u1.1": None}
    listed = read_columns(spark, str(tmp_path / "s" / "user_id=u1" / "a.json"), ("item_id",), "-").collect()
    assert [row.item_id for row in listed] == [2.0, 7.0]


def test_a_text_that_begins_like_bzip2_is_text(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("BZhang,i1,3,1700000000\n")
    assert users(spark, tmp_path / "a.csv", header=False) == {"BZhang": None}


def test_a_long_array_of_json_is_read_whole(spark: SparkSession, tmp_path: Path) -> None:
    rows = [{"user_id": f"u{n}", "item_id": "i", "text": "x" * 80} for n in range(5000)]
    for indent in (None, 1):
        (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent))
        assert len(users(spark, tmp_path / "a.json", columns={"rating": None, "timestamp": None})) == 5000


def test_folders_are_read_through_links_and_past_empty_files(spark: SparkSession, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_text(HEADER + "u1,i1,3,1700000000\n")
    (elsewhere / "c.csv").write_text(HEADER + "u2,i1,3,1700000000\n")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "ring").symlink_to(folder)
    (folder / "a_link_before_b.csv").symlink_to(folder / "b.csv")
    (folder / "e").mkdir()
    (folder / "e" / "e.csv").write_text(HEADER + "u4,i1,3,1700000000\n")
    (folder / "alatest").symlink_to(folder / "e")
    (folder / "d.CSV.GZ").write_bytes(gzip.compress((HEADER + "u3,i1,3,1700000000\n").encode()))
    ingest = Ingest()
    rows = apply_rules(read_source(spark, ingest, str(folder), tmp_path / "scratch"), ingest, AS_OF).collect()
    assert sorted(row.user_id for row in rows) == ["u1", "u2", "u3", "u4"], "each file once, whatever leads to it"
    (folder / "lost.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found 'lost.csv', a link to nothing"):
        users(spark, folder)


@pytest.mark.parametrize(("name", "kind"), [("a.csv", "gzip"), ("a.xlsx", "zip")])
def test_files_that_are_packed_by_another_name_are_named(spark: SparkSession, tmp_path: Path, name: str, kind: str):
    (tmp_path / name).write_bytes(gzip.compress(HEADER.encode()) if kind == "gzip" else b"PK\x03\x04...")
    with pytest.raises(InputError, match=f"found a {kind}.* file by the name of {name}"):
        users(spark, tmp_path / name)


def test_a_hive_part_without_a_value_is_a_missing_id_and_counts_before_a_column(
    spark: SparkSession, tmp_path: Path
) -> None:
    for part, row in (("u1", "x,i1,3,1700000000"), ("__HIVE_DEFAULT_PARTITION__", "y,i1,3,1700000000")):
        (tmp_path / "s" / f"user_id={part}").mkdir(parents=True)
        (tmp_path / "s" / f"user_id={part}" / "a.csv").write_text(f"{HEADER}{row}\n")
    assert users(spark, tmp_path / "s") == {"u1": None, "None": "missing_id"}


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (["200411261418", "200510010001"], datetime(2004, 11, 26, 14, 18)),
        (["26112004", "01022005"], datetime(2004, 11, 26)),
        (["11262004", "01022005"], datetime(2004, 11, 26)),
        (["20041126", "20050102"], datetime(2004, 11, 26)),
    ],
)
def test_digits_that_are_dates(spark: SparkSession, tmp_path: Path, times: list[str], first: datetime) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"u{n},i1,3,{time}\n" for n, time in enumerate(times)))
    ingest = Ingest()
    rows = apply_rules(read_source(spark, ingest, str(tmp_path / "a.csv")), ingest, AS_OF).orderBy("user_id").collect()
    assert rows[0].ts.replace(tzinfo=None) == first


def test_days_of_which_day_and_month_cannot_be_told_are_refused_and_early_times_doubted(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "u1,i1,3,01022005\nu2,i1,3,03042005\n")
    with pytest.raises(InputError, match="ddMMyyyy or MMddyyyy"):
        users(spark, tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(HEADER + "u1,i1,3,38317.5\nu2,i1,3,38318\n")
    rows = read_source(spark, Ingest(), str(tmp_path / "b.csv"))
    assert "the first times all lie before 1980, until 1970-01-01" in doubt(rows, Ingest(), time_form(rows, Ingest()))


@pytest.mark.parametrize("form", ["text", "parquet", "seconds"])
def test_midnights_are_days_of_which_each_row_counts(spark: SparkSession, tmp_path: Path, form: str) -> None:
    days = pd.to_datetime(["2018-09-20", "2018-09-20", "2018-09-21"])
    frame = pd.DataFrame({"user_id": "u", "item_id": "i", "timestamp": days})
    if form == "parquet":
        frame.to_parquet(tmp_path / "a.parquet")
    else:
        frame["timestamp"] = days.strftime("%Y-%m-%d 00:00:00") if form == "text" else days.astype("int64") // 10**9
        frame.to_csv(tmp_path / "a.csv", index=False)
    ingest = Ingest.model_validate({"feedback": "implicit", "columns": {"rating": None}})
    rows = read_source(spark, ingest, str(next(tmp_path.glob("a.*"))))
    assert time_form(rows, ingest).days
    (tmp_path / "b.csv").write_text("user_id,item_id,timestamp\nu,i,2018-09-20 00:00:00\nu,i,2018-09-20 10:00:00\n")
    assert not time_form(read_source(spark, ingest, str(tmp_path / "b.csv")), ingest).days


@pytest.mark.parametrize("pattern", ["%Y-%m-%d", "YYYY-MM-DD", "yyyy-bb"])
def test_a_pattern_that_spark_cannot_read_is_one_line(spark: SparkSession, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "u1,i1,3,2020-01-01\n")
    with pytest.raises(ConfigError, match=r"ingest.timestamp_format: expected a pattern of Spark's") as found:
        users(spark, tmp_path / "a.csv", timestamp_format=pattern)
    assert "\n" not in str(found.value)


LOOKED_AT = {
    "decimal_comma.csv": ("".join(f"{n};{n % 7};3,5;{1_100_225_826 + n}\n" for n in range(40)), (), 40),
    "commas_in_titles.csv": (
        "".join(f"{n}\ta, {'b, ' * (n % 3)}c\t{n % 5}\t{1_700_000_000 + n}\n" for n in range(40)), (), 40),
    "pipes.txt": ("".join(f"{n}|i{n % 7}|{n % 5}|{1_700_000_000 + n}|so, well\n" for n in range(40)), (), 40),
    "pandas.csv": ("0,1,2,3\n" + "".join(f"u{n},i{n % 7},{n % 5},{1_700_000_000 + n}\n" for n in range(40)), (), 40),
    "r.csv": (
        '"user_id","item_id","rating"\n' + "".join(f'"{n}","u{n}","i{n % 7}",{n % 5}\n' for n in range(40)), (), 40),
    "reviews.csv": (
        "user_id,item_id,rating,text\n"
        + "".join(f'u{n},i{n % 7},{n % 5},"one\n\ntwo {n}\nthree"\n' for n in range(40)), (), 40),
    "braces.csv": ("user_id,item_id,rating\n" + "".join(f"{{A-{n}}},[{n % 7}],{n % 5}\n" for n in range(40)), (), 40),
    "carets.txt": ("".join(f"{n}^i{n % 7}^{n % 5}^é\n" for n in range(40)),
                   ("ingest.encoding=latin-1", "ingest.delimiter=^"), 40),
    "trailing.csv": ("user_id,item_id,rating,\n" + "".join(f"u{n},i{n % 7},{n % 5}\n" for n in range(40)), (), 40),
    "trailing2.csv": ("user_id,item_id,rating\n" + "".join(f"u{n},i{n % 7},{n % 5},,\n" for n in range(40)), (), 40),
    "long.csv": ("user_id,item_id,rating,text\n" + "".join(f"u{n},i{n % 7},{n % 5},{'x' * 200_000 * (n == 0)}\n"
                                                           for n in range(40)), (), 40),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_look_says_of_odd_files_is_what_ingest_takes(
    spark: SparkSession, make_config, run_stages, tmp_path: Path, name: str
) -> None:
    text, given, valid = LOOKED_AT[name]
    (tmp_path / name).write_text(text, encoding="latin-1" if "é" in text else "utf-8")
    told = look(spark, make_config(*given), str(tmp_path / name), AS_OF)
    assert any(
        re.search(rf"^of the first {valid} rows {valid} are valid: 40 users, 7 items", line) for line in told
    ) or (
        name == "commas_in_titles.csv" and f"of the first {valid} rows {valid} are valid: 40 users" in "\n".join(told)
    ), told
    words = [word for word in shlex.split(told[-1]) if word != "--set"]
    (outcome,) = run_stages(make_config(*words), "ingest")
    assert f"{valid} rows read, {valid} ratings, 0 rejected" in outcome.message


def test_look_sees_kinds_of_events_in_folders_names_and_times_of_pandas(
    spark: SparkSession, make_config, tmp_path: Path
) -> None:
    for kind in ("buy", "view"):
        (tmp_path / "s" / f"event={kind}").mkdir(parents=True)
        frame = pd.DataFrame({"user_id": ["u1", "u2"], "item_id": ["i1", "i2"]})
        frame["timestamp"] = pd.to_datetime(["2020-01-01 10:00", "2020-01-02 11:00"]).astype("datetime64[ns]")
        frame.to_parquet(tmp_path / "s" / f"event={kind}" / "a.parquet")
    told = look(spark, make_config(), str(tmp_path / "s"), AS_OF)
    assert "of the first 4 rows 4 are valid: 2 users, 2 items" in told
    assert "times from 2020-01-01 10:00:00 to 2020-01-02 11:00:00 UTC" in told
    assert "--set 'ingest.event_weights={\"buy\": 1.0}'" in told[-1]


def test_look_sees_kinds_of_events_in_a_log_without_a_header(
    spark: SparkSession, make_config, run_stages, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    kinds = ("pv", "pv", "cart", "pv", "buy")
    log.write_text("".join(f"{n % 9},{n % 7},{n % 3},{kinds[n % 5]},{1511544070 + n}\n" for n in range(40)))
    told = look(spark, make_config(), str(log), AS_OF)
    assert "of the first 40 rows 40 are valid: 9 users, 7 items" in told
    assert "events: pv 24, buy 8, cart 8" in told
    words = [word for word in shlex.split(told[-1]) if word != "--set"]
    assert {"ingest.columns.event=4", "ingest.columns.timestamp=5", 'ingest.event_weights={"buy": 1.0, "pv": 1.0}'} <= {
        *words
    }
    (outcome,) = run_stages(make_config(*words), "ingest")
    assert "40 rows read" in outcome.message
    assert "0 rejected" in outcome.message


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv.gz", gzip.compress((HEADER + COMMAS).encode(), mtime=0)[:-30], "complete files"),
        ("a.csv", b"sep=;\nuser_id;item_id\n", "a hint for Excel"),
        ("b.csv", "jörg@example.com,i1,3,1\n".encode("latin-1") * 3, "say in ingest.encoding"),
        ("c.csv", b"jane doe,matrix,good\n" * 3, "."),
    ],
)
def test_look_refuses_in_one_line_and_shows_nobodys_id(
    spark: SparkSession, make_config, tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    (tmp_path / name).write_bytes(content)

    def read() -> None:
        look(spark, make_config(), str(tmp_path / name), AS_OF)
        users(spark, tmp_path / name)

    with pytest.raises(GanrecError, match=found) as error:
        read()
    assert not re.search("example.com|jane", str(error.value))
    assert "\n" not in str(error.value)
