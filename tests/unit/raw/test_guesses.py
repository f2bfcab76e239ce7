"""What the columns of a file are is told by names and values; what a message shows of them is nobody's id."""

import pytest

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.guesses import Seen, fitting_settings, is_header
from ganrec_spark.raw.names import resolve, shown
from ganrec_spark.raw.rejects import shape


def seen(*lines: str, header: bool | None = True) -> Seen:
    rows = [tuple(line.split(";")) for line in lines]
    names = rows.pop(0) if header is not False else tuple(f"column {place}" for place in range(1, len(rows[0]) + 1))
    return Seen("-", names, tuple(rows), header)


@pytest.mark.parametrize(
    ("plays", "decimal"),
    [
        (["1,234", "999", "2,500"], None),
        (["1,234", "1,5"], ","),
        (["0,125", "0,250"], ","),
        (["4,5", "3"], ","),
        (["4,5", "3.5"], None),
    ],
)
def test_commas_between_thousands_are_no_decimals(plays: list[str], decimal: str | None) -> None:
    found = fitting_settings(Ingest(), seen("user_id;item_id;plays", *[f"u;i;{value}" for value in plays]))
    assert found.get("decimal") == decimal


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_a_column_of_row_numbers_is_nobody(index: str) -> None:
    rows = [f"{n};k{n};a{n % 7};n{n}" for n in range(20)]
    columns = fitting_settings(Ingest(), seen(f"{index};kunde;artikel;note", *rows))["columns"]
    assert isinstance(columns, dict)
    assert (columns["user"], columns["item"]) == (2, 3)
    columns = fitting_settings(Ingest(), seen(f"{index};artikel", *[f"u{n};a{n}" for n in range(20)]))["columns"]
    assert isinstance(columns, dict)
    assert (columns["user"], columns["item"]) == (1, 2), "where there is no other column it is one of the two"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["customer;product", "c-0;p-0", "c-1;p-0"], True),
        (["customer;product;colour", "c-0;p-0;red", "c-1;p-0;blue"], True),
        (["movie;book", "game;book", "movie;film"], False),
        (["anna;Action;good", "ben;Comedy;bad"], False),
        (["anna;Action", "ben;Comedy"], False),
        (["c-0;p-0", "c-1;p-0"], False),
    ],
)
def test_words_for_things_are_a_header_unless_they_are_values(rows: list[str], named: bool) -> None:
    assert is_header([row.split(";") for row in rows]) == named


def test_columns_are_found_whatever_their_case_and_none_lies_beyond_the_last() -> None:
    log = seen("user_id;item_id;event;timestamp", "u;i;view;1", "u;j;wish;2")
    assert log.kinds("EVENT") == log.kinds(3) == {"view", "wish"}
    ingest = Ingest.model_validate({"feedback": "implicit", "columns": {"event": 9}})
    with pytest.raises(InputError, match="expected names or positions of 4 columns, found 9"):
        fitting_settings(ingest, log)


def test_positions_and_nulls_that_are_given_count_without_a_header() -> None:
    rows = [f"i{n % 7};{n % 3};u{n};{1_700_000_000 + n}" for n in range(20)]
    ingest = Ingest.model_validate({"columns": {"user": 3, "rating": None, "timestamp": None}})
    columns = fitting_settings(ingest, seen(*rows, header=False))["columns"]
    assert columns == {"user": 3, "item": 1, "rating": None, "timestamp": None, "event": None}


@pytest.mark.parametrize("line", ["anna,Action,good", "anna,Action", "jane@x.org,title,text", "u1,movie_id,name"])
def test_a_first_line_of_data_is_not_shown(line: str) -> None:
    assert shown(line).startswith(f"of {len(line)} characters, that begins with data")


@pytest.mark.parametrize("line", ["user_id,artikel", "movie", "customer;product;colour", "userId,rating"])
def test_a_first_line_of_names_is_shown(line: str) -> None:
    assert shown(line) == repr(line)


def test_names_of_columns_that_may_be_users_are_not_shown() -> None:
    wanted: dict[str, str | int] = {"user": "user_id", "item": "item_id"}
    for names in (["jane@x.org", "bob@x.org"], ["jane", "bob"], ["user_id", "jane7"]):
        with pytest.raises(InputError, match="found 2 columns of other names") as error:
            resolve("a.json", wanted, names)
        assert not any(name in str(error.value) for name in ("jane", "bob"))
    with pytest.raises(InputError, match="found columns userId, product, text; missing: user_id, item_id"):
        resolve("a.json", wanted, ["userId", "product", "text"])


@pytest.mark.parametrize(
    ("value", "look"),
    [
        ("soon", "'soon'"),
        ("jane0@x.org", "'aaaa9@a.aaa'"),
        ("Jörg", "'aaaa'"),
        ("4 stars", "'9 stars'"),
        ("2004-11-09T14:18:11Z", "'9999-99-99T99:99:99Z'"),
        ("Nov 9, 2004", "'Nov 9, 9999'"),
        ("1,234", "'9,999'"),
        ("王小明", "'aaa'"),
        ("", "''"),
        (None, "none at all"),
    ],
)
def test_the_look_of_a_value_tells_its_form_and_nobodys_id(value: str | None, look: str) -> None:
    assert shape(value) == look
