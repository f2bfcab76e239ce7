"""What columns are taken for: those of well-known data sets, and what is odd."""

import pytest
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
)

from ganrec_spark.attributes.kinds import JSON, Kind, kind_of
from ganrec_spark.errors import InputError

TEXT = StringType()
NAMES = [f"Toy Story {number} (1995)" for number in range(200)]


@pytest.mark.parametrize(
    ("data_type", "texts", "kind", "parts"),
    [
        (TEXT, ["F", "M", "M", None, ""], "category", None),
        (TEXT, ["Action|Comedy", "Drama", "Drama|War"], "values", "|"),
        (TEXT, ["Berry, Joe", "Ash, Ann", "Smith"], "category", None),  # a comma is as often part of a name
        (TEXT, ['["a", "b"]', "[]", '["c"]'], "values", JSON),
        (TEXT, [str([0.5] * 8)] * 3, "vector", JSON),
        (TEXT, ["[1, 2]", "[3]"], "values", JSON),
        (TEXT, ["12.5", "7", "1e3", "n/a"], "number", None),
        (TEXT, ["1", "18", "25"], "category", None),
        (TEXT, [str(number) for number in range(40)], "number", None),
        (TEXT, ["1995-01-01", "1996-12-24"], "date", None),
        (TEXT, ["24.12.1996", "01.01.1995"], "date", None),
        (TEXT, ["01/02/1996", "03/04/1997"], "category", None),  # day and month cannot be told apart
        (TEXT, NAMES, "text", None),
        (
            TEXT,
            [
                "He goes home; nobody is there, and so he waits for them until they come from the sea",
                "A man and a horse, and what became of them when the war was over; a true story",
            ],
            "text",
            None,
        ),
        (TEXT, ["Science fiction|Film noir", "Drama"], "values", "|"),
        (TEXT, ["98107", "02139", *[f"1{number:04d}" for number in range(40)]], "category", None),
        (TEXT, ["A man goes home and finds that it is not there"] * 3, "text", None),
        (TEXT, [f"B00{number:05d}x" for number in range(200)], "none", None),
        (TEXT, [None, "", "NULL", "\\N"], "category", None),
        (IntegerType(), ["1995"] * 3 + [str(year) for year in range(1930, 1999)], "number", None),
        (LongType(), ["1", "18", "25"], "category", None),
        (DoubleType(), ["1.0", "2.0"], "number", None),
        (BooleanType(), ["true"], "category", None),
        (DateType(), ["1995-01-01"], "date", None),
        (ArrayType(TEXT), [], "values", None),
        (ArrayType(LongType()), [], "values", None),
        (ArrayType(FloatType()), [], "vector", None),
        (StructType(), [], "none", None),
        (BinaryType(), [], "none", None),
    ],
)
def test_guesses(data_type: DataType, texts: list[str | None], kind: str, parts: str | None) -> None:
    found = kind_of("x", data_type, texts)
    assert (found.name, found.parts) == (kind, parts)
    assert found.why


def test_what_is_said_counts() -> None:
    assert kind_of("x", TEXT, ["a, b", "c"], "values") == Kind("values", ",")
    assert kind_of("x", TEXT, ["a"], "values") == Kind("values", "|")
    assert kind_of("x", LongType(), ["1", "2"], "number") == Kind("number")
    assert kind_of("x", TEXT, ["0.5|0.25"], "vector") == Kind("vector", "|")
    assert kind_of("x", ArrayType(LongType()), [], "vector") == Kind("vector")
    assert kind_of("x", TEXT, ["anything"], "none") == Kind("none")
    assert kind_of("x", TEXT, ["F", "M"], "category").why == ""
    for data_type, kind in ((ArrayType(TEXT), "number"), (BooleanType(), "text"), (StructType(), "category")):
        with pytest.raises(InputError, match=rf"column 'x': expected what can be of kind {kind}, found"):
            kind_of("x", data_type, [], kind)
