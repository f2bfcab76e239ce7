"""`ganrec look`: what a source of ratings holds, by its first rows, and the settings that would take them."""

import json
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import with_values
from ganrec_spark.config.sections import Config, Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.files import SAMPLE_BYTES, located, part_values, sampled
from ganrec_spark.raw.readers import read_parquet
from ganrec_spark.raw.rejects import advice_on, common_rules, count_rules
from ganrec_spark.raw.rules import IGNORED, judge, mark_duplicates
from ganrec_spark.raw.sources import explained, quoted, read_source, wanted_columns
from ganrec_spark.raw.text import as_wide, decoded, is_json, json_names, layout, likely_columns, lines
from ganrec_spark.raw.times import TimeForm, doubt, recognised, time_form

_ROWS = 10_000
_NUMBER = re.compile(r"^[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?$")
_LARGEST_RATING = 1000.0
_FEW = 20  # kinds of events, at most
_STEPS, _LARGEST_STAR = 2, 100.0  # a scale of ratings has more values than that, and ends there; beyond it are counts


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

    def kinds(self, name: str) -> set[str]:
        """Return the distinct values of a column, as far as they were seen."""
        place = self.names.index(name)
        return {value.strip() for value in self.parts.get(name, [row[place] for row in self.rows])}


def look(spark: SparkSession, config: Config, source: str, as_of: datetime) -> list[str]:
    """Return lines that say what a sample of the source holds, what ingest would reject of it, and what to set."""
    with tempfile.TemporaryDirectory(prefix="ganrec-look-") as scratch:
        return _look(spark, config, source, as_of, Path(scratch))


def _look(spark: SparkSession, config: Config, source: str, as_of: datetime, scratch: Path) -> list[str]:
    with explained(source):
        seen = _seen(spark, config.ingest, source, scratch / "first")
    columns = [f"  {place}. {name}: {_values(seen.rows, place - 1)}" for place, name in enumerate(seen.names, 1)]
    told = [f"{source}: {seen.what}", "columns:", *columns]
    given = {
        name: value
        for name, value in config.ingest.model_dump(mode="json").items()
        if value != getattr(Ingest(), name) and name not in ("source", "test_source", "columns", "event_weights")
    }
    values = given | _settings(config.ingest, seen)
    fitting = with_values(config, {f"ingest.{name}": value for name, value in values.items()}).ingest
    try:
        rows = read_source(spark, fitting, source, scratch / "again")
        sample = spark.createDataFrame(rows.limit(_ROWS).collect(), rows.schema) if rows.take(1) else rows
        told += _judged(sample, fitting, as_of)
    except InputError as error:
        told.append(f"ingest would refuse it: {error}")
    words = [("source", json.dumps(source)), *_flat(values)]
    options = [f"--set {shlex.quote(f'ingest.{name}={_yaml(value)}')}" for name, value in words]
    return [*told, "settings:", f"  {' '.join(options)}"]


def _seen(spark: SparkSession, ingest: Ingest, source: str, scratch: Path) -> Seen:
    if ingest.format == "table":
        frame = spark.table(source)
        return Seen("a table", tuple(frame.columns), _texts(frame))
    files = located(spark, source, scratch)
    parts = part_values(files)
    _, sample = sampled(spark, files)
    what = f"{len(files.uris)} files, the first is " if len(files.uris) > 1 else ""
    if sample.startswith(b"PAR1"):
        frame = read_parquet(spark, files)
        frame = frame.select(*[quoted(name) for name in frame.columns if name not in parts])
        return Seen(f"{what}Parquet", *_widened(frame.columns, _texts(frame), parts), parts=parts)
    text, encoding = decoded(sample, ingest, source)
    head = lines(text, len(sample) < SAMPLE_BYTES)
    if not head:
        raise InputError(f"source '{source}': expected ratings, found an empty file; check the delivery")
    if is_json(head, ingest.format):
        names, objects = json_names(head, source)
        rows = tuple(tuple("" if one.get(name) is None else str(one[name]) for name in names) for one in objects)
        return Seen(f"{what}JSON, {encoding}", *_widened(names, rows, parts), parts=parts)
    found = layout(head, encoding, ingest.model_copy(update={"header": False}), source, {"rating": 2})
    first = [cell.strip('" ') for cell in head[0].split(found.delimiter)]
    wide = as_wide(first, len(found.names), found.rows)
    if len(first) != len(wide) == len(found.names) and _is_header([[one for one in first if one], *found.rows]):
        header, names, rows = True, tuple(wide), found.rows
    else:
        header = bool(found.rows) and _is_header(found.rows)
        names = tuple(found.rows[0]) if header else tuple(f"column {place}" for place in range(1, len(found.names) + 1))
        rows = found.rows[header:]
    told = f"{what}text, {encoding}, columns separated by {found.delimiter!r}, {'a' if header else 'no'} header"
    return Seen(told, *_widened(names, rows, parts), header, parts)


def _widened(
    names: Sequence[str], rows: Sequence[Sequence[str]], parts: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return names and rows with the folders' parts behind them."""
    inside = [values[0] for values in parts.values()]
    return (*names, *parts), tuple((*row, *inside) for row in rows)


def _texts(frame: DataFrame) -> tuple[tuple[str, ...], ...]:
    rows = frame.select([F.col(f"`{name}`").cast("string") for name in frame.columns]).limit(1000).collect()
    return tuple(tuple("" if value is None else value for value in row) for row in rows)


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: none of it is a number, and below it some are, or it has known names.

    So it does where it counts its columns from 0, as pandas does for want of names.
    """
    if [cell for cell in rows[0] if cell] == [str(place) for place in range(len([cell for cell in rows[0] if cell]))]:
        return len(rows[0]) > 1
    if any(_NUMBER.match(cell) for cell in rows[0]):
        return False
    wanted: dict[str, str | int] = dict.fromkeys(("user", "item", "rating", "timestamp"), 0)
    below = any(_NUMBER.match(cell) for row in rows[1:20] for cell in row)
    return below or len(likely_columns(rows[0], wanted)) > 1


def _values(rows: Sequence[Sequence[str]], place: int) -> str:
    values = [row[place] for row in rows if place < len(row)]
    distinct = len(set(values))
    kind = "numbers" if values and all(_NUMBER.match(value) for value in values if value) else "text"
    form = _form(values)
    if form is not None and kind == "text":
        kind = "times"
    examples = ", ".join(dict.fromkeys(values[:50]))[:60]
    return f"{kind}, {distinct} different in {len(values)} rows; {examples}"


def _form(values: Sequence[str]) -> TimeForm | None:
    """Return how the values are written as times, None where they are none."""
    texts = [value for value in values if value][:1000]
    try:
        form = recognised(texts, "?")
    except InputError:
        return TimeForm("?")
    iso = texts and sum(bool(re.match(r"^\d{4}-\d{1,2}-\d{1,2}", text)) for text in texts) >= 0.9 * len(texts)
    return form if form.pattern or iso else None


def _settings(ingest: Ingest, seen: Seen) -> dict[str, object]:
    """Return the keys of section ingest that differ from `ingest` for this source: columns, header, feedback."""
    wanted = wanted_columns(ingest)
    present = {name.strip().lower() for name in seen.names}
    configured = {
        role: name for role, name in wanted.items() if isinstance(name, int) or name.strip().lower() in present
    }
    likely = {role: name for role, name in likely_columns(seen.names, wanted).items() if role not in configured}
    named: dict[str, object] = {} if seen.header is False else {**configured, **likely}
    whole = {"user", "item"} <= named.keys() or seen.header is None
    columns = named if whole else _by_values(seen, named) | named
    event = likely_columns(seen.names, {"event": 0}).get("event")
    values: dict[str, object] = {}
    if "rating" not in columns and event is not None and len(seen.kinds(event)) <= _FEW:
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


def _has_decimal_comma(seen: Seen, rating: object) -> bool:
    if rating is None:
        return False
    place = (
        rating - 1
        if isinstance(rating, int)
        else [name.strip().lower() for name in seen.names].index(str(rating).lower())
    )
    values = [row[place] for row in seen.rows if place < len(row)]
    return any(re.fullmatch(r"[+-]?\d+,\d+", value.strip()) for value in values) and not any(
        "." in value for value in values
    )


def _by_values(seen: Seen, named: Mapping[str, object]) -> dict[str, object]:
    """Return role -> position, from 1, by what the values look like: times, few numbers, then who and what.

    Columns that a role of `named` has are left out.
    """
    taken = {str(name).lower() for name in named.values()} | {name.lower() for name in seen.parts}
    places = [place for place, name in enumerate(seen.names) if name.strip().lower() not in taken or not name.strip()]
    columns = {place: [row[place] for row in seen.rows if place < len(row)] for place in places}
    found: dict[str, object] = {}
    written = [place for place in places if columns[place] and _form(columns[place]) is not None]
    counted = [place for place in places if columns[place] and all(map(_is_epoch, columns[place][:200]))]
    for place in [*written, *counted][:1]:
        found["timestamp"] = place + 1
        places.remove(place)
    for place in reversed(places):
        values = columns[place]
        few = 1 < len(set(values)) <= len(values) / 2
        if place > 1 and few and all(map(_is_rating, values)):
            found["rating"] = place + 1
            places.remove(place)
            break
    for role, place in zip(("user", "item"), places, strict=False):
        found[role] = place + 1
    return found


def _is_rating(text: str) -> bool:
    return _NUMBER.match(text) is not None and abs(float(text.replace(",", "."))) <= _LARGEST_RATING


def _is_epoch(text: str) -> bool:
    """Whether a number may be seconds or milliseconds of the years 1990 to 2100."""
    if not _NUMBER.match(text):
        return False
    value = float(text.replace(",", "."))
    return 6.3e8 < value < 4.2e9 or 6.3e11 < value < 4.2e12


def _judged(sample: DataFrame, ingest: Ingest, as_of: datetime) -> list[str]:
    form = time_form(sample, ingest) if "timestamp" in sample.columns else None
    rows = judge(sample, ingest, as_of, form).withColumn("origin", F.lit("source"))
    if ingest.feedback == "explicit" or (form is not None and not form.days):
        rows = mark_duplicates(rows, ingest.feedback == "implicit")
    rows = rows.withColumn("row", F.to_json("raw")).cache()
    counts = count_rules(rows)
    valid = rows.where("rule IS NULL")
    facts = valid.agg(
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("item_id").alias("items"),
        F.min("rating").alias("low"),
        F.max("rating").alias("high"),
        F.min("ts").alias("oldest"),
        F.max("ts").alias("newest"),
    ).collect()[0]
    n_valid = sum(count for (_, rule), count in counts.items() if rule is None)
    told = [
        f"of the first {sum(counts.values())} rows {n_valid} are valid: {facts['users']} users, {facts['items']} items"
    ]
    if n_valid:
        told.append(f"ratings from {facts['low']:g} to {facts['high']:g}")
        told += _low_ratings(valid, ingest)
        told.append(f"times from {facts['oldest']} to {facts['newest']} UTC" if form else "no times")
        told += [line for line in [doubt(sample, ingest, form)] if line] if form else []
    if ingest.feedback == "implicit" and ingest.columns.event:
        kinds = rows.groupBy("event").count().orderBy(F.desc("count"), "event").limit(_FEW).collect()
        told.append("events: " + ", ".join(f"{row['event']} {row['count']}" for row in kinds))
    told += [
        f"{'ignored' if rule in IGNORED else 'rejected'}: {rule} {count}"
        for (_, rule), count in sorted(counts.items(), key=lambda pair: -pair[1])
        if rule
    ]
    told += [line for rule in common_rules(counts) for line in [advice_on(rows, rule, ingest)] if line]
    rows.unpersist()
    return told


def _low_ratings(valid: DataFrame, ingest: Ingest) -> list[str]:
    """Return what to set where low explicit ratings may mean dislike, or 0 not rated: a guess by the scale alone."""
    if ingest.feedback == "implicit" or ingest.columns.rating is None:
        return []
    counts = {row["rating"]: row["count"] for row in valid.groupBy("rating").count().collect()}
    low, high, told = min(counts), max(counts), list[str]()
    liked_from = 0.0 if low < 0 and ingest.liked_from == "auto" else ingest.liked_from
    if isinstance(liked_from, float):
        told.append(f"{_below(counts, liked_from)} ratings below {liked_from:g} are dislikes (ingest.liked_from)")
    elif liked_from == "auto" and len(counts) > _STEPS and low >= 0 and high <= _LARGEST_STAR:
        middle = (low + high) / 2
        told.append(
            f"all ratings count for their items; where those below {middle:g}, {_below(counts, middle)} here, mean "
            f"dislike: --set ingest.liked_from={middle:g}"
        )
    if counts.get(0.0) == max(counts.values()) and len(counts) > _STEPS and ingest.unrated != 0:
        told.append(f"{counts[0.0]} ratings are 0; where that means not rated: --set ingest.unrated=0")
    return told


def _below(counts: dict[float, int], limit: float) -> int:
    return sum(count for rating, count in counts.items() if rating < limit)


def _flat(values: dict[str, object]) -> list[tuple[str, object]]:
    """Return keys with dots of what differs; of columns each one of its own, event weights as a map."""
    columns = Ingest().columns.model_dump()
    flat: list[tuple[str, object]] = []
    for name, value in values.items():
        if name == "columns" and isinstance(value, dict):
            flat += [(f"columns.{role}", one) for role, one in value.items() if columns[role] != one]
        elif name == "event_weights" and isinstance(value, dict):
            known = Ingest().event_weights
            flat.append((name, {kind: weight for kind, weight in value.items() if known.get(kind) != weight}))
        else:
            flat.append((name, value))
    return flat


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
