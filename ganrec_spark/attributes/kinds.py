"""What a column of attributes holds: as the configuration says, else guessed from its first values."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from ganrec_spark.errors import InputError
from ganrec_spark.raw.times import TimeForm, recognised

CATEGORY, VALUES, NUMBER, DATE, TEXT, VECTOR, NONE = "category", "values", "number", "date", "text", "vector", "none"
# What is written where nothing is known, in lower case.
MISSING = ("", "\\n", "na", "n/a", "nan", "null", "none")
DELIMITERS = ("|", ";", "\t", ",")
JSON = "json"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DAY = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_NEARLY_ALL = 0.95
_FEW_CODES = 32  # whole numbers with no more different values are codes, not amounts
_WORDS = 4  # of a text on average, more than names of categories have
_MANY = 100
_LONG = 8  # an array of so many numbers is a vector
_AS_USUAL = TimeForm()


@dataclass(frozen=True)
class Kind:
    """One of the kinds above.

    `parts`: how several values stand in one text: a delimiter or JSON; None: they are an array. `time`: how dates are
    written. `why` says in words what it was guessed by; empty: the configuration says so.
    """

    name: str
    parts: str | None = None
    time: TimeForm = _AS_USUAL
    why: str = ""


def kind_of(column: str, data_type: DataType, texts: Sequence[str | None], given: str | None = None) -> Kind:
    """Return the kind of a column by its type and its first values as text; `given` is what the configuration says.

    Raises InputError where a column of that type cannot be what it is said to be.
    """
    known = [text.strip() for text in texts if text is not None and text.strip().lower() not in MISSING]
    guess = _guess(data_type, known, column)
    if given is None or given == guess.name:
        return guess if given is None else Kind(guess.name, guess.parts, guess.time)
    if given == NONE:
        return Kind(NONE)
    is_array, is_text = isinstance(data_type, ArrayType), isinstance(data_type, StringType)
    single = is_text or isinstance(data_type, NumericType | BooleanType)
    possible = {
        CATEGORY: single or isinstance(data_type, DateType),
        VALUES: is_array or is_text,
        NUMBER: single,
        DATE: single or isinstance(data_type, DateType | TimestampType | TimestampNTZType),
        TEXT: is_text,
        VECTOR: (is_array and isinstance(data_type.elementType, NumericType)) or is_text,  # type: ignore[attr-defined]
    }[given]
    if not possible:
        raise InputError(
            f"column '{column}': expected what can be of kind {given}, found {data_type.simpleString()}; it looks like "
            f"{guess.name}"
        )
    if given in (VALUES, VECTOR) and is_text:
        return Kind(given, _parts(known) or DELIMITERS[0])
    return Kind(given, time=_time_form(known, column) if given == DATE and is_text else _AS_USUAL)


def _guess(data_type: DataType, known: Sequence[str], column: str) -> Kind:
    if isinstance(data_type, ArrayType):
        floats = isinstance(data_type.elementType, FloatType | DoubleType | DecimalType)
        return Kind(VECTOR if floats else VALUES, why=data_type.simpleString())
    if isinstance(data_type, DateType | TimestampType | TimestampNTZType):
        return Kind(DATE, why=data_type.simpleString())
    if isinstance(data_type, BooleanType):
        return Kind(CATEGORY, why=data_type.simpleString())
    if isinstance(data_type, NumericType):
        return _of_numbers(known, isinstance(data_type, IntegralType))
    if not isinstance(data_type, StringType):
        return Kind(NONE, why=f"{data_type.simpleString()} is none of the kinds")
    return _of_texts(known, column)


def _of_numbers(known: Sequence[str], whole: bool) -> Kind:
    different = len(set(known))
    if whole and different <= _FEW_CODES:
        return Kind(CATEGORY, why=f"{different} different whole numbers")
    return Kind(NUMBER, why="numbers")


def _of_texts(known: Sequence[str], column: str) -> Kind:
    if not known:
        return Kind(CATEGORY, why="no values among the first rows")
    n, different = len(known), len(set(known))

    def share(fits: Callable[[str], object]) -> float:
        return sum(bool(fits(text)) for text in known) / n

    # A zero in front is part of a code, such as a postcode's.
    if share(_NUMBER.fullmatch) >= _NEARLY_ALL and not share(re.compile(r"0\d+").fullmatch):
        return _of_numbers(known, share(lambda text: re.fullmatch(r"[+-]?\d+", text)) >= _NEARLY_ALL)
    if (parts := _parts(known)) == JSON:
        lists = [json.loads(text) for text in known if _is_json(text)]
        numbers = all(isinstance(one, float | int) for found in lists for one in found)
        long = min(map(len, lists)) >= _LONG
        return Kind(VECTOR if numbers and long else VALUES, JSON, why="JSON arrays")
    if share(_DAY.match) >= _NEARLY_ALL:
        return Kind(DATE, why="ISO dates")
    if (form := _time_form(known, column)).pattern:
        return Kind(DATE, time=form, why=f"dates like {form.pattern}")
    words = sum(len(text.split()) for text in known) / n
    pieces = sum(text.count(parts or "|") + 1 for text in known) / n
    if parts in DELIMITERS[:3] and words <= _WORDS * pieces:  # not prose; a comma is as often part of a name
        return Kind(VALUES, parts, why=f"values with '{parts}' between them")
    if words > _WORDS:
        return Kind(TEXT, why=f"{words:.0f} words on average")
    if n > _MANY and different > _NEARLY_ALL * n:
        return Kind(TEXT, why="names") if words > 1.5 else Kind(NONE, why="nearly every row has another: an identifier")
    return Kind(CATEGORY, why=f"{different} different texts in {n}")


def _time_form(known: Sequence[str], column: str) -> TimeForm:
    try:
        return recognised(known, column)
    except InputError:  # day and month cannot be told apart
        return _AS_USUAL


def _parts(known: Sequence[str]) -> str | None:
    """Return how several values stand in the texts: as JSON, or with a delimiter that one in twenty has; or None."""
    if known and sum(map(_is_json, known)) >= _NEARLY_ALL * len(known):
        return JSON
    often = (mark for mark in DELIMITERS if sum(mark in text for text in known) > (1 - _NEARLY_ALL) * len(known))
    return next(often, None)


def _is_json(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False
