"""What the columns of a source may be, by their names and by what their values look like."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.names import likely_columns, plain, usual_names
from ganrec_spark.raw.sources import wanted_columns
from ganrec_spark.raw.times import TimeForm, recognised

NUMBER = re.compile(r"^[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?$")
FEW = 20  # kinds of events, at most
_LARGEST_RATING = 1000.0
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_NAMELESS = re.compile(r"(Unnamed: \d+)?")  # as pandas and R leave the column of their rows' names


@dataclass(frozen=True)
class Seen:
    """A source's columns and first rows as text; `header`: whether the file names its columns, None where it must.

    `parts` has all values of the columns that are folders' names; rows have those of the first file.
    """

    what: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    header: bool | None = None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def kinds(self, column: str | int) -> set[str]:
        """Return the distinct values of a column, by name or by position from 1, as far as they were seen."""
        place = self.place(column)
        values = self.parts.get(self.names[place], [row[place] for row in self.rows if place < len(row)])
        return {value.strip() for value in values}

    def place(self, column: str | int) -> int:
        """Return where a column is, from 0. Raises InputError where there is none."""
        names = [plain(name) for name in self.names]
        if not isinstance(column, int) and plain(column) in names:
            return names.index(plain(column))
        if isinstance(column, int) and column <= len(names):
            return column - 1
        raise InputError(f"ingest.columns: expected names or positions of {len(names)} columns, found {column}")


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: none of it is a number, and below it some are, or it has known names.

    So it does where it counts its columns from 0, as pandas does for want of names; and where it has words for things
    that are rated, none of which is a value further down.
    """
    if [cell for cell in rows[0] if cell] == [str(place) for place in range(len([cell for cell in rows[0] if cell]))]:
        return len(rows[0]) > 1
    if any(NUMBER.match(cell) for cell in rows[0]):
        return False
    wanted: dict[str, str | int] = dict.fromkeys(("user", "item", "rating", "timestamp"), 0)
    below = any(NUMBER.match(cell) for row in rows[1:20] for cell in row)
    return below or len(likely_columns(rows[0], wanted)) > 1 or (usual_names(rows[0]) and not _again(rows))


def _again(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a value of the first row is one of its column's further values, too."""
    return any(cell.strip() and cell == below for row in rows[1:] for cell, below in zip(rows[0], row, strict=False))


def time_form_of(values: Sequence[str]) -> TimeForm | None:
    """Return how the values are written as times, None where they are none."""
    texts = [value for value in values if value][:1000]
    try:
        form = recognised(texts, "?")
    except InputError:
        return TimeForm("?")
    iso = texts and sum(bool(re.match(r"^\d{4}-\d{1,2}-\d{1,2}", text)) for text in texts) >= 0.9 * len(texts)
    return form if form.pattern or iso else None


def fitting_settings(ingest: Ingest, seen: Seen) -> dict[str, object]:
    """Return the keys of section ingest that differ from `ingest` for this source: columns, header, feedback."""
    wanted = wanted_columns(ingest)
    present = {name.strip().lower() for name in seen.names}
    configured = {
        role: name for role, name in wanted.items() if isinstance(name, int) or name.strip().lower() in present
    }
    likely = {role: name for role, name in likely_columns(seen.names, wanted).items() if role not in configured}
    placed = {role: name for role, name in configured.items() if isinstance(name, int)}
    named: dict[str, object] = {**placed} if seen.header is False else {**configured, **likely}
    whole = {"user", "item"} <= named.keys() or seen.header is None
    columns = named if whole else _by_values(ingest, seen, named) | named
    event = _events(ingest, seen, columns)
    values: dict[str, object] = {}
    if event is not None:
        columns["event"] = event
        values["feedback"] = "implicit"
        fresh = {kind: 1.0 for kind in sorted(seen.kinds(event)) if kind and kind not in ingest.event_weights}
        if fresh:
            values["event_weights"] = {**ingest.event_weights, **fresh}
    if _has_decimal_comma(seen, columns.get("rating")):
        values["decimal"] = ","
    for role in ("rating", "timestamp"):
        columns.setdefault(role, None)
    base = ingest.columns.model_dump()
    if any(base[role] != name for role, name in columns.items()):
        values["columns"] = {**base, **columns}
    if seen.header is False:
        values["header"] = False
    return values


def _events(ingest: Ingest, seen: Seen, columns: Mapping[str, object]) -> str | int | None:
    """Return the column with the kinds of events of a source without ratings, None where it has none."""
    if "rating" in columns:
        return None
    event = columns.get("event") or likely_columns(seen.names, {"event": 0}).get("event")
    return event if isinstance(event, str | int) and len(seen.kinds(event)) <= FEW else None


def _has_decimal_comma(seen: Seen, rating: object) -> bool:
    """Whether ratings have decimals behind a comma, which those that count in thousands have not."""
    if not isinstance(rating, str | int):
        return False
    place = seen.place(rating)
    values = [row[place].strip() for row in seen.rows if place < len(row)]
    decimals = [value for value in values if re.fullmatch(r"[+-]?\d+,\d+", value) and not _THOUSANDS.fullmatch(value)]
    return bool(decimals) and not any("." in value for value in values)


def _by_values(ingest: Ingest, seen: Seen, named: Mapping[str, object]) -> dict[str, object]:
    """Return role -> position, from 1, by what the values look like: times, kinds, few numbers, then who and what.

    Columns that a role of `named` has are left out; a role that `ingest` sets to null has none.
    """
    places = _open_places(seen, named)
    columns = {place: [row[place] for row in seen.rows if place < len(row)] for place in places}
    found: dict[str, object] = {}
    written = [place for place in places if columns[place] and time_form_of(columns[place]) is not None]
    counted = [place for place in places if columns[place] and all(map(_is_epoch, columns[place][:200]))]
    for place in [*written, *counted][: "timestamp" not in named]:
        found["timestamp"] = place + 1
        places.remove(place)
    rates = not {"rating", "event"} & named.keys()
    for place in places:  # before ratings, for in a log of events few numbers are categories
        kinds = {value.strip() for value in columns[place]}
        if rates and len(places) > 2 and len(kinds) <= FEW and kinds & ingest.event_weights.keys():
            found["event"] = place + 1
            places.remove(place)
            break
    rates = rates and ingest.columns.rating is not None and "event" not in found
    for place in reversed(places):
        values = columns[place]
        few = 1 < len(set(values)) <= len(values) / 2
        if rates and place > 1 and few and all(map(_is_rating, values)):
            found["rating"] = place + 1
            places.remove(place)
            break
    open_roles = [role for role in ("user", "item") if role not in named]
    found |= {role: place + 1 for role, place in zip(open_roles, places, strict=False)}
    if ingest.columns.timestamp is None:
        found.pop("timestamp", None)
    return found


def _open_places(seen: Seen, named: Mapping[str, object]) -> list[int]:
    """Return the places of columns that may have a role: without those that have, and without names of rows."""
    taken = {seen.place(name) for name in [*named.values(), *seen.parts] if isinstance(name, str | int)}
    places = [place for place in range(len(seen.names)) if place not in taken]
    with_name = [place for place in places if not _NAMELESS.fullmatch(seen.names[place].strip())]
    return with_name if len(with_name) > 1 else places


def _is_rating(text: str) -> bool:
    return NUMBER.match(text) is not None and abs(float(text.replace(",", "."))) <= _LARGEST_RATING


def _is_epoch(text: str) -> bool:
    """Whether a number may be seconds or milliseconds of the years 1990 to 2100."""
    if not NUMBER.match(text):
        return False
    value = float(text.replace(",", "."))
    return 6.3e8 < value < 4.2e9 or 6.3e11 < value < 4.2e12
