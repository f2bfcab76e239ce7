"""`ganrec look`: what a source of ratings holds, by its first rows, and the settings that would take them."""

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import yaml
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, NumericType, StringType, StructType, TimestampNTZType, TimestampType

from ganrec_spark.config.load import with_values
from ganrec_spark.config.sections import Config, Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.files import SAMPLE_BYTES, located, part_values, sampled
from ganrec_spark.raw.guesses import FEW, NUMBER, Seen, fitting_settings, is_header, time_form_of
from ganrec_spark.raw.names import quoted
from ganrec_spark.raw.readers import read_parquet
from ganrec_spark.raw.rejects import advice_on, common_rules, count_rules
from ganrec_spark.raw.rules import IGNORED, apply_rules, mark_duplicates
from ganrec_spark.raw.sources import explained, read_source
from ganrec_spark.raw.text import as_wide, decoded, is_json, json_names, layout, lines
from ganrec_spark.raw.times import doubt, time_form

_ROWS = 10_000
_TIMES = (DateType, TimestampType, TimestampNTZType)
_STEPS, _LARGEST_STAR = 2, 100.0  # a scale of ratings has more values than that, and ends there; beyond it are counts


def look(spark: SparkSession, config: Config, source: str, as_of: datetime) -> list[str]:
    """Return lines that say what a sample of the source holds, what ingest would reject of it, and what to set."""
    with tempfile.TemporaryDirectory(prefix="ganrec-look-") as scratch:
        return _look(spark, config, source, as_of, Path(scratch))


def _look(spark: SparkSession, config: Config, source: str, as_of: datetime, scratch: Path) -> list[str]:
    with explained(source):
        seen = _seen(spark, config.ingest, source, scratch / "first")
    columns = [f"  {place}. {name}: {_values(seen.rows, place - 1)}" for place, name in enumerate(seen.names, 1)]
    told = [f"{source}: {seen.what}", "columns:", *columns]
    defaults = Ingest().model_dump(mode="json")
    given = {
        name: value
        for name, value in config.ingest.model_dump(mode="json").items()
        if value != defaults[name] and name not in ("source", "test_source")
    }
    values = given | fitting_settings(config.ingest, seen)
    fitting = with_values(config, {f"ingest.{name}": value for name, value in values.items()}).ingest
    try:
        rows = read_source(spark, fitting, source, scratch / "again")
        told += _checked(_first_rows(spark, rows), fitting, as_of)
    except InputError as error:
        told.append(f"ingest would refuse it: {error}")
    words = [("source", source), *_flat(values)]
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
    if len(first) != len(wide) == len(found.names) and is_header([[one for one in first if one], *found.rows]):
        header, names, rows = True, tuple(wide), found.rows
    else:
        header = bool(found.rows) and is_header(found.rows)
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


def _first_rows(spark: SparkSession, rows: DataFrame) -> DataFrame:
    """Return the first rows of a source, read once. Times are brought as text: Python has no year 10000, nor 0."""
    kinds = {field.name: field.dataType for field in rows.schema.fields}
    times = [name for name, kind in kinds.items() if isinstance(kind, _TIMES)]
    raw = kinds["raw"].fields if isinstance(kinds["raw"], StructType) else []
    parts = {field.name: F.col(f"raw.{quoted(field.name)}") for field in raw}
    whole = [field.name for field in raw if isinstance(field.dataType, StringType | NumericType)]
    texts = [(column if name in whole else column.cast("string")).alias(name) for name, column in parts.items()]
    brought = rows.withColumns({name: F.col(name).cast("string") for name in times} | {"raw": F.struct(*texts)})
    first = spark.createDataFrame(brought.limit(_ROWS).collect(), brought.schema)
    return first.withColumns({name: F.col(name).try_cast(kinds[name]) for name in times})


def _texts(frame: DataFrame) -> tuple[tuple[str, ...], ...]:
    rows = frame.select([F.col(quoted(name)).cast("string") for name in frame.columns]).limit(1000).collect()
    return tuple(tuple("" if value is None else value for value in row) for row in rows)


def _values(rows: Sequence[Sequence[str]], place: int) -> str:
    values = [row[place] for row in rows if place < len(row)]
    distinct = len(set(values))
    kind = "numbers" if values and all(NUMBER.match(value) for value in values if value) else "text"
    form = time_form_of(values)
    if form is not None and kind == "text":
        kind = "times"
    examples = ", ".join(dict.fromkeys(values[:50]))[:60]
    return f"{kind}, {distinct} different in {len(values)} rows; {examples}"


def _checked(sample: DataFrame, ingest: Ingest, as_of: datetime) -> list[str]:
    form = time_form(sample, ingest) if "timestamp" in sample.columns else None
    rows = apply_rules(sample, ingest, as_of, form).withColumn("origin", F.lit("source"))
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
        F.min("ts").cast("string").alias("oldest"),
        F.max("ts").cast("string").alias("newest"),
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
        kinds = rows.groupBy("event").count().orderBy(F.desc("count"), "event").limit(FEW).collect()
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
            without = dict.fromkeys(known.keys() - value.keys())  # null takes a kind away
            flat.append((name, {k: weight for k, weight in (value | without).items() if known.get(k, -1) != weight}))
        else:
            flat.append((name, value))
    return flat


def _yaml(value: object) -> str:
    """Return a value as --set reads it, and a text as it is where YAML does not read it as something else."""
    spellings = [json.dumps(value, ensure_ascii=False), json.dumps(value)]  # YAML takes a character's code as one of 16
    for text in [value, *spellings] if isinstance(value, str) else spellings:
        with suppress(yaml.YAMLError):
            if yaml.safe_load(text) == value:
                return text
    return spellings[-1]
