"""What a text file of ratings looks like: encoding, delimiter, header, names, quotes; from its first bytes alone."""

import codecs
import contextlib
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.names import explain_missing, plain, shown, unique

QUOTE = '"'
_DELIMITERS = {"csv": ",", "tsv": "\t", "movielens": "::"}
_LINES = re.compile(r"\r\n|\n|\r")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF16 = "utf-16"
_EXCEL_HINT = re.compile(r'^"?sep=.?"?$', re.IGNORECASE)
_JSON = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*(\{|$))')
csv.field_size_limit(1 << 30)  # a long text is a text
_CLOCK_TIME = re.compile(r"^\d{4}-\d{1,2}-\d{1,2}[T ]\d{1,2}:\d{2}")
_HEAD_LINES = 10
_SAMPLE_LINES = 1000
_CONSISTENT = 0.9


@dataclass(frozen=True)
class Layout:
    """How a text file is read: `names` has a distinct name for each column, `rows` are the first ones, as text.

    `header`: the first line of each file is none of the rows. `encoding` is Python's name.
    """

    delimiter: str
    encoding: str
    quoted: bool
    header: bool
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_line: str


def decoded(sample: bytes, ingest: Ingest, source: str) -> tuple[str, str]:
    """Return the sample as text, and its encoding. Raises InputError where the first lines are no text."""
    marked = next((name for bom, name in _BOMS if sample.startswith(bom)), None)
    encoding = ingest.encoding or marked or _unmarked(sample)
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError("expected an encoding of text")
        encoding = codecs.lookup(encoding).name
        if encoding == _UTF16 and marked is None:  # what the name leaves open, the zeros say
            encoding = _unmarked(sample)
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample)
    except (LookupError, UnicodeError) as error:
        raise InputError(f"source '{source}': ingest.encoding '{encoding}': {error}") from None
    text = text.removeprefix("\ufeff")
    head = _LINES.split(text[:10_000], maxsplit=_HEAD_LINES)[:_HEAD_LINES]
    strange = [any(sign in line for sign in ("\ufffd", "\x00")) for line in head if line.strip()]
    # A row that is no text is one that rules reject; a header, or half of the lines, say that the file is another.
    if (any(strange[:1]) and _JSON.match(head[0]) is None) or 2 * sum(strange) >= max(len(strange), 2):
        raise InputError(
            f"source '{source}': expected {encoding.upper()} text or Parquet, found other bytes in its first lines; "
            "say in ingest.encoding what it is (latin-1, cp1252, utf-16, ...)"
        )
    return text, encoding


def _unmarked(sample: bytes) -> str:
    """Return the encoding of text without a mark: in UTF-16 every second byte of Latin letters and digits is 0."""
    head = sample[:200]
    for zeros, letters, name in ((head[1::2], head[::2], "utf-16-le"), (head[::2], head[1::2], "utf-16-be")):
        if zeros and zeros.count(0) > 0.8 * len(zeros) and letters.count(0) == 0:
            return name
    return "utf-8"


def is_json(head: Sequence[str], kind: str) -> bool:
    """Whether lines are JSON: as `kind` (ingest.format) says, or by an object that begins with a key."""
    return kind == "json" or (kind == "auto" and _JSON.match(head[0]) is not None)


def lines(text: str, whole: bool) -> list[str]:
    """Return the first lines of a sample that are not blank; the last one only where it ends in it."""
    found = _LINES.split(text)
    if not whole and len(found) > 1:
        found.pop()
    return [line for line in found if line.strip()][:_SAMPLE_LINES]


def layout(sample: Sequence[str], encoding: str, ingest: Ingest, source: str, wanted: dict[str, str | int]) -> Layout:
    """Return how a file with these first lines is read. Raises InputError where the wanted columns are not in it."""
    given = ingest.delimiter or _DELIMITERS.get(ingest.format)
    suffix = re.sub(r"\.(gz|bz2|zip|zst)$", "", source.lower()).rpartition(".")[2]
    first = {"csv": ",", "tsv": "\t"}.get(suffix)
    candidates = (
        [given] if given else list(dict.fromkeys([*([first] if first else []), "::", "\t", ",", ";", "|", " "]))
    )
    if _EXCEL_HINT.match(sample[0]):
        raise InputError(f"source '{source}': expected rows, found {sample[0]!r}, a hint for Excel; take the line away")
    quoted = ingest.quote != "none"
    parsed = {one: _parsed(sample, one, quoted) for one in candidates}
    names = {plain(name) for name in wanted.values() if isinstance(name, str)}
    places = max((place for place in wanted.values() if isinstance(place, int)), default=0)
    delimiter = next((one for one in candidates if names and {plain(cell) for cell in parsed[one][0]} >= names), None)
    named = delimiter is not None
    if delimiter is None:
        fitting = [one for one in candidates if _width(parsed[one]) >= max(len(wanted), places)] or candidates
        # Decimal commas and titles hold a delimiter or two, the file's own is in more places; blanks are in any text.
        delimiter = max([one for one in fitting if one != " "] or fitting, key=lambda one: _width(parsed[one]))
    rows = parsed[delimiter]
    needed = len(set(wanted.values()))
    if not named and _width(rows) < 2 and needed > 1 and not given:
        raise InputError(
            f"source '{source}': expected columns separated by ',', ';', tab, '|', '::' or blanks, found first line "
            f"{shown(sample[0])}; name the separator in ingest.delimiter"
        )
    header = named or (ingest.header and delimiter != "::")
    filled = [cell.strip() for cell in rows[0] if cell.strip()]
    numbered = filled == [str(place) for place in range(len(filled))]  # pandas, for want of names
    if header and not names and not numbered and any(re.fullmatch(r"[+-]?[0-9.]+", cell.strip()) for cell in rows[0]):
        raise InputError(
            f"source '{source}': expected a first line that names the columns, found one with numbers; set "
            "ingest.header=false where it is data, as columns that are named by position suggest"
        )
    if header and not named and names:
        explain_missing(source, wanted, rows[0], sample[0])
    width = _width(rows[1:] if header else rows) if len(rows) > header else len(rows[0])
    if max(width, len(rows[0])) < max(len(wanted), places):
        raise InputError(
            f"source '{source}': expected {max(len(wanted), places)} columns ({', '.join(wanted)}) separated by "
            f"{delimiter!r}, found {len(rows[0])} in the first line {shown(sample[0])}; check "
            "ingest.delimiter, or set "
            "ingest.columns of what the file does not have to null"
        )
    columns = list(rows[0]) if header else _in_order(wanted, width)
    if header:
        columns = as_wide(columns, width, rows[1:])
    twice = [name for name, count in Counter(map(plain, columns)).items() if count > 1 and name in names]
    if twice:
        raise InputError(
            f"source '{source}': expected one column {twice[0]}, found {Counter(map(plain, columns))[twice[0]]}; name "
            f"the one to read by its position, from 1 (ingest.columns; first line {shown(sample[0])})"
        )
    kept = tuple(tuple(row) for row in rows[header:] if len(row) == len(columns))
    _require_no_times_as_ids(source, wanted, columns, kept)
    return Layout(delimiter, encoding, quoted and len(delimiter) == 1, header, unique(columns), kept, sample[0])


def json_names(sample: Sequence[str], source: str) -> tuple[tuple[str, ...], tuple[dict[str, object], ...]]:
    """Return the keys of JSON objects, one a line or in one array, and the objects of the sample."""
    array = sample[0].lstrip().startswith("[")
    parts = ["\n".join(sample).lstrip().removeprefix("[")] if array else sample
    objects = tuple(value for part in parts for value in _elements(part) if isinstance(value, dict))
    if not objects:
        raise InputError(
            f"source '{source}': expected one JSON object a line, found {shown(sample[0])}; write it so, or as CSV"
        )
    names = tuple(dict.fromkeys(name for value in objects for name in value))
    if len({plain(name) for name in names}) < len(names):
        twice = [name for name, count in Counter(map(plain, names)).items() if count > 1]
        raise InputError(f"source '{source}': expected one key {twice[0]}, found several that differ by case alone")
    return names, objects


def _elements(text: str) -> Iterator[object]:
    """Yield the JSON values that follow each other in `text`, with or without commas, as far as they are whole."""
    decoder, blanks, place = json.JSONDecoder(), re.compile(r"[\s,]*"), 0
    with contextlib.suppress(ValueError, RecursionError):  # no JSON, an integer of 5,000 digits, 1,000 brackets
        while True:
            start = blanks.match(text, place)
            value, place = decoder.raw_decode(text, start.end() if start else place)
            yield value


def rows_in_quotes(streams: Iterable[IO[bytes]], layout: Layout) -> bool:
    """Whether quotes that one line leaves open are closed, as quotes are, in a later one, and mean one thing alone.

    They do not where every line of such a text would be a row by itself: a title with a quote before it, and another
    with a quote behind it, would swallow what lies between.
    """
    width, delimiter = len(layout.names), layout.delimiter
    for stream in streams:
        reader = io.TextIOWrapper(cast(BinaryIO, stream), layout.encoding, errors="replace", newline="")
        try:
            for row in csv.reader(reader, delimiter=delimiter, quotechar=QUOTE, strict=True):
                for place, value in enumerate(row):
                    first, *later = _LINES.split(value)
                    counts = [place + first.count(delimiter), *(line.count(delimiter) for line in later)]
                    counts[-1] += len(row) - 1 - place
                    if later and all(count == width - 1 for count in counts):
                        return False
        except (csv.Error, UnicodeError):
            return False
        finally:
            stream.close()
    return True


def _require_no_times_as_ids(
    source: str, wanted: dict[str, str | int], columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    places = {plain(name): place for place, name in reversed(list(enumerate(columns)))}
    for role in ("user", "item"):
        name = wanted.get(role)
        place = name - 1 if isinstance(name, int) else places.get(plain(name))
        if place is not None and rows and all(_CLOCK_TIME.match(row[place].strip()) for row in rows):
            raise InputError(
                f"source '{source}': expected ids of {role}s in column {place + 1}, found times such as "
                f"{rows[0][place]!r}; name the columns by their positions, from 1: ingest.columns.user, item, ..."
            )


def _in_order(wanted: dict[str, str | int], width: int) -> list[str]:
    """Return names of a file without header: those of roles without a position in order, others numbered."""
    named = [name for name in wanted.values() if isinstance(name, str)]
    if len(named) < len(wanted):
        return [f"column_{place}" for place in range(1, width + 1)]
    return [*named, *[f"column_{place}" for place in range(len(named) + 1, width + 1)]]


def as_wide(columns: list[str], width: int, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the header's columns for rows that are `width` wide: blank ends of rows or header, or names of rows."""
    more = width - len(columns)
    if more < 0 and all(not name.strip() for name in columns[width:]):
        return columns[:width]
    if more > 0 and all(not cell.strip() for row in rows if len(row) == width for cell in row[-more:]):
        return [*columns, *[""] * more]
    first = [row[0].strip() for row in rows if len(row) == width]
    counted = first[:1] in (["0"], ["1"]) and first == [str(int(first[0]) + place) for place in range(len(first))]
    return ["", *columns] if more == 1 and counted else columns  # names of rows, as R writes them


def _parsed(sample: Sequence[str], delimiter: str, quoted: bool) -> list[list[str]]:
    """Return the values of each row; texts in quotes go over several lines where only so rows are of one width."""
    rows = [_split(line, delimiter, quoted) for line in sample]
    if len(delimiter) > 1 or not quoted or _width(rows) > 1 or not any(QUOTE in line for line in sample):
        return rows
    whole = list(csv.reader((f"{line}\n" for line in sample), delimiter=delimiter))
    return whole if _width(whole) > 1 else rows


def _split(line: str, delimiter: str, quoted: bool) -> list[str]:
    if len(delimiter) > 1 or not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter))


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns nearly all rows have; 1 where they do not agree."""
    if not rows:
        return 1
    (width, count), *_ = Counter(map(len, rows)).most_common(1)
    return width if count >= _CONSISTENT * len(rows) or len(rows) < 10 else 1
