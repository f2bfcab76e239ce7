"""No file of a folder is read twice or left out, and no value of a file by half: what cannot be read is refused."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.raw.checked import checked_rows
from ganrec_spark.raw.files import local_files
from ganrec_spark.raw.sources import explained, read_columns

AS_OF = RunId.parse("2026-11-01").as_of(None)
HEADER = "user_id,item_id,rating,timestamp\n"
PAIRS = {"columns": {"rating": None, "timestamp": None}, "feedback": "implicit"}


def pairs(spark: SparkSession, folder: Path, source: str = "s", **settings: object) -> list[tuple[str, str]]:
    """Return user and item of every valid row of `source` in `folder`."""
    ingest = Ingest.model_validate({"source": str(folder / source), **settings})
    with explained(source):
        rows = checked_rows(spark, ingest, AS_OF, lambda _: None, folder / "scratch").where("rule IS NULL")
        return sorted((row.user_id, row.item_id) for row in rows.select("user_id", "item_id").collect())


def text(*names: int) -> str:
    return "user_id,item_id\n" + "".join(f"u{n},i{n}\n" for n in names)


def both(*names: int) -> list[tuple[str, str]]:
    return [(f"u{n}", f"i{n}") for n in names]


@pytest.mark.parametrize("odd", ["log [old].csv", "a?b.csv", "a*b.csv", "t={a}/x.csv"])
def test_a_name_like_a_pattern_makes_no_file_count_twice(spark: SparkSession, tmp_path: Path, odd: str) -> None:
    part = "t=b/" if "/" in odd else ""
    for name, content in ((odd, text(0)), (f"{part}log.csv", text(1, 2))):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_text(content)
    assert pairs(spark, tmp_path, **PAIRS) == both(0, 1, 2)


def test_archives_in_folders_keep_their_parts_and_no_entry_hides_another(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "s" / "user_id=7"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x[1].csv", "item_id\ni1\n")
        archive.writestr("y.csv", "item_id\ni2\n")
    assert pairs(spark, tmp_path, **PAIRS) == [("7", "i1"), ("7", "i2")]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.csv", text(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.csv", text(2))
    with pytest.raises(InputError, match="two of its files have one name"):
        pairs(spark, tmp_path, "b.zip", **PAIRS)


def test_links_to_what_is_hidden_are_followed_and_closed_folders_are_told(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / ".store").mkdir(parents=True)
    (folder / "_versions" / "v2").mkdir(parents=True)
    (folder / ".store" / "one.csv").write_text(text(1))
    (folder / "_versions" / "v2" / "two.csv").write_text(text(2))
    (folder / "a.csv").symlink_to(folder / ".store" / "one.csv")
    (folder / "current").symlink_to(folder / "_versions" / "v2")
    (folder / "b.csv").write_text(text(3))
    assert pairs(spark, tmp_path, **PAIRS) == both(1, 2, 3)

    def closed(place: str) -> None:
        raise PermissionError(13, "Permission denied", place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", closed)
        with pytest.raises(PermissionError):
            list(local_files(folder))


def test_parts_above_the_source_are_no_columns_and_the_nearest_one_counts(spark: SparkSession, tmp_path: Path) -> None:
    above = tmp_path / "user_id=5"
    (above / "s" / "user_id=7").mkdir(parents=True)
    (above / "s" / "user_id=7" / "a.csv").write_text("item_id\ni1\n")
    assert pairs(spark, above, **PAIRS) == [("7", "i1")]
    (above / "t").mkdir()
    (above / "t" / "a.csv").write_text(text(1, 2))
    for source in (f"{above}/t/a.csv", f"file://{above}/t/a.csv", f"file://{above}/t/*.csv", f"{above}/t"):
        ingest = Ingest.model_validate({"source": source, **PAIRS})
        rows = checked_rows(spark, ingest, AS_OF, lambda _: None).collect()
        assert sorted(row.user_id for row in rows) == ["u1", "u2"], source
    (tmp_path / "w" / "a=1" / "A=2").mkdir(parents=True)
    (tmp_path / "w" / "a=1" / "A=2" / "x.csv").write_text(text(1))
    with pytest.raises(InputError, match=r"each part .* once above a file"):
        pairs(spark, tmp_path, "w", **PAIRS)
    (tmp_path / "v" / "USER_ID=7%").mkdir(parents=True)
    (tmp_path / "v" / "USER_ID=7%" / "x.csv").write_text(text(1))
    assert pairs(spark, tmp_path, "v", **PAIRS) == [("7%", "i1")]


def test_the_order_of_unpacked_files_is_that_of_their_names(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for day in range(12):
        content = HEADER + f"u,i{day:02},3,1700000000\n"
        name = tmp_path / "s" / f"day{day:02}.csv"
        if day % 3 == 1:
            with zipfile.ZipFile(name.with_suffix(".csv.zip"), "w") as archive:
                archive.writestr("x.csv", content)
        else:
            name.write_text(content)
    ingest = Ingest.model_validate({"source": str(tmp_path / "s"), "tie_order": "source"})
    rows = checked_rows(spark, ingest, AS_OF, lambda _: None, tmp_path / "scratch").orderBy("position").collect()
    assert [row.item_id for row in rows] == [f"i{day:02}" for day in range(12)]


def test_the_folder_of_a_table_is_no_folder_of_files(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s" / "_delta_log").mkdir(parents=True)
    (tmp_path / "s" / "part-0.csv").write_text(text(1))
    for source in ("s", f"file://{tmp_path}/s"):
        with pytest.raises(InputError, match="found the folder of a Delta table"):
            pairs(spark, tmp_path, source, **PAIRS) if source == "s" else checked_rows(
                spark, Ingest.model_validate({"source": source, **PAIRS}), AS_OF, lambda _: None
            )


def lines(*names: int) -> list[str]:
    return [json.dumps({"user_id": f"u{n}", "item_id": f"i{n}"}) for n in names]


def array(*names: int) -> str:
    return "[" + ",\n".join(lines(*names)) + "]"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([array(0, 1) + "\n" + array(2)], "one JSON array a file, found more after one"),
        (["\n".join(array(n, n + 10) for n in range(5))], "one JSON array a file, found more after one"),
        ([array(0) + "\n" + lines(1)[0]], "one JSON array a file, found more after one"),
        ([array(0, 1), array(2, 3)[:-20]], "found one cut short"),
        ([array(0), "\n".join(lines(1, 2))], "found arrays and objects"),
        (["\n".join([*lines(0), ",".join(lines(1, 2))])], "one JSON object a line, found several in one"),
        (["\n".join([*lines(0), " GARBAGE ".join(lines(1, 2))])], "one JSON object a line, found several in one"),
        (["\x1e".join(lines(*range(30)))], "one JSON object a line, found several in one"),
        (["\r".join(lines(*range(30)))], "one JSON object a line, found several in one"),
    ],
)
def test_json_of_which_something_would_be_left_out_is_refused(
    spark: SparkSession, tmp_path: Path, files: list[str], found: str
) -> None:
    (tmp_path / "s").mkdir()
    for place, content in enumerate(files):
        (tmp_path / "s" / f"{place}.json").write_text(content)
    with pytest.raises(InputError, match=found):
        pairs(spark, tmp_path, **PAIRS)


def test_json_that_looks_like_several_values_and_is_one_is_read(spark: SparkSession, tmp_path: Path) -> None:
    odd = {"user_id": "u0", "item_id": "i0", "tags": [{"a": 1}, {"b": "} {"}], "more": {"c": {"d": {}}}}
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.json").write_text("\n".join([json.dumps(odd), lines(1)[0] + ","]))
    (tmp_path / "s" / "b.json").write_text("\n".join(lines(2, 3)) + "\n")
    assert pairs(spark, tmp_path, **PAIRS) == both(0, 1, 2, 3)
    (tmp_path / "arrays").mkdir()
    for name, content in (("a.json", array(1, 2)), ("b.json", "[]")):
        (tmp_path / "arrays" / name).write_text(content)
    assert pairs(spark, tmp_path, "arrays", **PAIRS) == both(1, 2)


def test_ids_of_json_are_of_one_kind_in_all_files(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.json").write_text('{"user_id": 7, "item_id": 1}\n')
    (tmp_path / "s" / "b.json").write_text('{"user_id": 7.0, "item_id": 2}\n')
    assert pairs(spark, tmp_path, **PAIRS) == [("7", "1"), ("7", "2")]
    for empty in ("{}", "[]"):
        (tmp_path / "c.json").write_text(f'{{"user_id": {empty}, "item_id": 1}}\n{{"user_id": {{"id": 5}}}}\n')
        with pytest.raises(InputError, match="expected ids in key user_id"):
            pairs(spark, tmp_path, "c.json", **PAIRS)


TEXT = HEADER.replace("\n", ",text\n")
PLAIN = "".join(f"u{n},i{n},3,170000000{n},plain\n" for n in range(9))


@pytest.mark.parametrize(
    "content",
    [
        # Two titles with a lone quote each, in a column that is not read, or before those that are.
        TEXT + PLAIN + 'v,i,3,1700000000,"Heroes\n' + PLAIN + 'w,i,3,1700000000,the 12"\n',
        'user_id,title,item_id,rating,timestamp\nu3,"Heroes,i3,1,1700000000\nu4,x,i4,2,1700000001\n'
        'u6,12",i6,5,1700000002\n'.replace("\\", ""),
        # Text over two lines, and one stray quote.
        TEXT + 'u0,i0,3,1700000000,"nice\nvictim,i1,5,1700000000,"\n' + PLAIN + 'u9,i9,3,1700000009,"al"s\n',
        # Ids in quotes late in the file, and one stray quote.
        TEXT + PLAIN * 3000 + '"u1","i98",3,1700000000,x\nu3,i5"x,4,1700000000,x\nu4,"al"s,3,1700000000,x\n',
    ],
    ids=["not read", "in the middle", "stray", "late"],
)
def test_quotes_that_may_mean_two_things_are_refused(spark: SparkSession, tmp_path: Path, content: str) -> None:
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(InputError, match="expected every quote to be closed"):
        pairs(spark, tmp_path, "s.csv")


def test_marks_of_paragraphs_inside_of_quotes_end_no_row(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(TEXT + PLAIN + 'v,i,3,1700000000,"a\u2028""b"" c\nd"\n')
    assert ("v", "i") in pairs(spark, tmp_path, "s.csv")


@pytest.mark.parametrize(
    "encodings", [("utf-16-le", "utf-16-be"), ("utf-16", "utf-8"), ("utf-16", "utf-16-le"), ("utf-8", "utf-16-le")]
)
@pytest.mark.parametrize("header", [True, False])
def test_files_of_several_encodings_are_refused(
    spark: SparkSession, tmp_path: Path, encodings: tuple[str, str], header: bool
) -> None:
    (tmp_path / "s").mkdir()
    for place, encoding in enumerate(encodings):
        rows = [f"u{n},i{n}\n" for n in range(place * 5, place * 5 + 5)]
        (tmp_path / "s" / f"{place}.csv").write_bytes(("user_id,item_id\n" * header + "".join(rows)).encode(encoding))
    with pytest.raises(InputError, match="expected the same encoding in every file"):
        pairs(spark, tmp_path, **PAIRS, header=header)


def test_a_list_of_ids_with_a_row_too_long_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("item_id\ni1\ni,2\n")
    with pytest.raises(InputError, match="expected rows of one length, found 1 others"):
        read_columns(spark, str(tmp_path / "b.csv"), ("item_id",), "mend it")


def test_what_databases_write_for_what_is_missing_is_no_id(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text(1) + "\\N,i2\nu3,\\N\n")
    assert pairs(spark, tmp_path, "a.csv", **PAIRS) == both(1)


def test_values_beyond_the_header_are_no_names_of_rows_unless_they_count(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n" + "".join(f"u{n},i{n},note{n}\n" for n in range(20)))
    assert pairs(spark, tmp_path, "a.csv", **PAIRS) == []
    (tmp_path / "r.csv").write_text("user_id,item_id\n" + "".join(f"{n},u{n},i{n}\n" for n in range(1, 4)))
    assert pairs(spark, tmp_path, "r.csv", **PAIRS) == both(1, 2, 3)


def test_a_header_amid_the_rows_and_ids_that_become_objects_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text(1) + "\ufeff" + text(2) + text(3))
    assert pairs(spark, tmp_path, "a.csv", **PAIRS) == both(1, 2, 3)
    late = ['{"user_id": {"$oid": "5"}, "item_id": "i"}', '{"user_id": "u", "item_id": [1, 2]}']
    (tmp_path / "a.json").write_text("\n".join([*lines(*range(1200)), *late]))
    assert pairs(spark, tmp_path, "a.json", **PAIRS) == sorted(both(*range(1200)))
    ingest = Ingest.model_validate({"source": str(tmp_path / "a.json"), **PAIRS})
    rules = checked_rows(spark, ingest, AS_OF, lambda _: None).groupBy("rule").count().collect()
    assert {row["rule"]: row["count"] for row in rules} == {None: 1200, "malformed_row": 2}


@pytest.mark.parametrize("encoding", ["rot13", "hex", "zip"])
def test_what_encodes_no_text_is_no_encoding(spark: SparkSession, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(text(1))
    with pytest.raises(InputError, match="expected an encoding of text"):
        pairs(spark, tmp_path, "a.csv", **PAIRS, encoding=encoding)
