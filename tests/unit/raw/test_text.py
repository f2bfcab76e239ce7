"""What a text file looks like is told by its first lines: delimiter, header, names, quotes, times."""

import io

import pytest

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.names import likely_columns, unique
from ganrec_spark.raw.text import Layout, decoded, json_names, layout, lines, rows_in_quotes
from ganrec_spark.raw.times import TimeForm, recognised

WANTED: dict[str, str | int] = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}
POSITIONS: dict[str, str | int] = {"user": 3, "item": 1, "rating": 2}


def found(text: str, wanted: dict[str, str | int] = WANTED, name: str = "a.csv", **settings: object) -> Layout:
    return layout(lines(text, whole=True), "utf-8", Ingest.model_validate(settings), name, wanted)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "::", " "])
@pytest.mark.parametrize("header", [True, False])
def test_any_delimiter_is_found_with_and_without_a_header(delimiter: str, header: bool) -> None:
    rows = ["user_id,item_id,rating,timestamp"] * header + ["u1,i1,4,1700000000", "u2,i2,5,1700000001"]
    seen = found("\n".join(row.replace(",", delimiter) for row in rows), header=False)
    assert seen.delimiter == delimiter
    assert seen.header == header
    assert seen.names == ("user_id", "item_id", "rating", "timestamp")
    assert seen.rows == (("u1", "i1", "4", "1700000000"), ("u2", "i2", "5", "1700000001"))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (",user_id,item_id,rating,timestamp\n0,u,i,3,1\n", ("_1", "user_id", "item_id", "rating", "timestamp")),
        ("user_id,item_id,rating,timestamp,\nu,i,3,1,\n", ("user_id", "item_id", "rating", "timestamp", "_5")),
        ("user_id,item_id,rating,timestamp\nu,i,3,1,\nv,i,3,1,\n", (*WANTED.values(), "_5")),
        ("User_ID,note,item_id,rating,note,Timestamp\nu,x,i,3,y,1\n",
         ("User_ID", "note", "item_id", "rating", "note_5", "Timestamp")),
        ("user_id,item_id,rating,timestamp,a`b\nu,i,3,1,x\n", (*WANTED.values(), "a`b")),
        ('user_id,item_id,rating,timestamp,text\nu,i,3,1,"a, b"\n', (*WANTED.values(), "text")),
    ],
)  # fmt: skip
def test_blank_repeated_and_odd_names_do_not_matter(head: str, names: tuple[str, ...]) -> None:
    assert found(head).names == names


def test_a_column_that_is_read_stands_once_or_is_named_by_position() -> None:
    text = "user_id,item_id,rating,rating,timestamp\nu,i,3,4,1\n"
    with pytest.raises(InputError, match=r"expected one column rating, found 2; name the one to read by its position"):
        found(text)
    assert found(text, {**WANTED, "rating": 4}).names[3] == "rating_4"
    assert found("i1,3,u1\ni2,4,u2\n", POSITIONS, header=False).rows[0] == ("i1", "3", "u1")
    with pytest.raises(InputError, match="expected 3 columns"):
        found("i1,3\ni2,4\n", POSITIONS, header=False)
    # A first line of numbers is no header: it would be lost without a word.
    with pytest.raises(InputError, match=r"expected a first line that names the columns.*header=false"):
        found("7,3,u1\n8,4,u2\n", POSITIONS)
    assert found("item,stars,who\ni1,3,u1\n", POSITIONS).rows == (("i1", "3", "u1"),)


def test_no_message_shows_whose_ratings_they_are() -> None:
    for wanted, settings in ((WANTED, {}), (POSITIONS, {"header": False}), (WANTED, {"delimiter": ";"})):
        with pytest.raises(InputError) as error:
            found("alice@example.org,242\nbob@example.org,243\n", wanted, **settings)
        assert "alice" not in str(error.value)
        assert "first line of 21 characters" in str(error.value)


def test_decimal_commas_do_not_make_a_comma_the_delimiter() -> None:
    assert found("1;7;4,0;1100\n1;8;3,5;1101\n", header=False).delimiter == ";"


def test_a_missing_column_is_told_with_what_would_fit() -> None:
    with pytest.raises(InputError) as error:
        found("userId,movieId,rating,timestamp\n1,7,4.0,1100039773\n")
    assert "--set ingest.columns.user=userId --set ingest.columns.item=movieId would fit" in str(error.value)
    assert likely_columns(["visitorid", "event", "itemid"], {"user": "user_id", "event": "kind"}) == {
        "user": "visitorid",
        "event": "event",
    }


def test_encodings_by_their_mark_or_by_setting() -> None:
    text = "user_id,item_id\né,1\n"
    for encoding, told in (("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("utf-8", "utf-8")):
        assert decoded(text.encode(encoding), Ingest(), "a") == (text, told)
    with pytest.raises(InputError, match=r"expected UTF-8 text or Parquet.*ingest\.encoding"):
        decoded(text.encode("latin-1"), Ingest(), "a")
    assert decoded(text.encode("latin-1"), Ingest(encoding="latin-1"), "a") == (text, "iso8859-1")
    with pytest.raises(InputError, match="unknown encoding"):
        decoded(b"a", Ingest(encoding="klingon"), "a")
    # A sample that ends in the middle of a character is no fault.
    assert decoded("aé".encode()[:-1], Ingest(), "a")[0] == "a"


QUOTED = [
    ('u,i,3,"two\nlines"\nv,i,4,"one"\n', True),
    ('u,"weird al\nv,i,3\n', False),
    ('u,"weird\nv,"al,3\n', False),
    ('u,i,3,"nice\nvictim,i,5,"\n', True),
]


@pytest.mark.parametrize(("text", "spans"), QUOTED)
def test_open_quotes_span_lines_only_where_they_are_closed_as_quotes_are(text: str, spans: bool) -> None:
    seen = Layout(",", "utf-8", True, False, ("a", "b"), (), "")
    assert rows_in_quotes([io.BytesIO(text.encode())], seen) == spans


def test_json_objects_a_line_or_in_one_array() -> None:
    names, rows = json_names(['{"a": 1, "b": {"c": 2}}', "broken", '{"d": null}'], "f")
    assert names == ("a", "b", "d")
    assert len(rows) == 2
    assert json_names(['[{"a": 1},', '{"b": 2}]'], "f")[0] == ("a", "b")
    with pytest.raises(InputError, match="one JSON object a line"):
        json_names(["{broken"], "f")


def test_names_that_spark_or_we_use_are_numbered() -> None:
    assert unique(["a", " A ", "", "_malformed_line"], ["_malformed_line"]) == ("a", "A_2", "_3", "_malformed_line_4")


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["1700000000", "1700000001.5", "1e9"], TimeForm()),
        (["20041109", "20050101"], TimeForm("yyyyMMdd", days=True)),
        (["20041109", "99999999"], TimeForm()),  # a counter that happens to look like a day
        (["20041109101112"], TimeForm("yyyyMMddHHmmss")),
        (["2004-11-09", "2004-1-9"], TimeForm(days=True)),
        (["2004-11-09T10:11:12Z"], TimeForm()),
        (["2004/11/09 14:18:11"], TimeForm("yyyy/M/d[ H:mm[:ss]]")),
        (["11/26/2004", "1/2/2004"], TimeForm("M/d/yyyy[ H:mm[:ss]]", days=True)),
        (["26/11/2004 10:11"], TimeForm("d/M/yyyy[ H:mm[:ss]]")),
        (["11 09, 2004", "9 13, 2004"], TimeForm("M d, yyyy", days=True)),
        (["Nov 9, 2004"], TimeForm("MMM d, yyyy[ H:mm[:ss]]", days=True)),
        (["Tue Nov 09 14:18:11 -0700 2004"], TimeForm("MMM d H:mm:ss Z yyyy")),
        (["9.11.2004"], TimeForm("d.M.yyyy[ H:mm[:ss]]", days=True)),
        ([], TimeForm()),
        (["yesterday"], TimeForm()),
    ],
)
def test_forms_of_time(texts: list[str], form: TimeForm) -> None:
    assert recognised(texts, "t") == form


def test_a_day_that_could_be_a_month_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"month and day cannot be told apart; set ingest\.timestamp_format"):
        recognised(["1/2/2004", "3/4/2004"], "t")
