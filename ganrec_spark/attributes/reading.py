"""Sources of attributes become rows: one for each user or item, column and value; vectors apart."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import cast

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, StringType, StructType

from ganrec_spark.attributes.kinds import (
    DATE,
    JSON,
    MISSING,
    NONE,
    NUMBER,
    VALUES,
    VECTOR,
    Kind,
    kind_of,
)
from ganrec_spark.config.load import from_environment
from ganrec_spark.errors import InputError
from ganrec_spark.raw.names import quoted
from ganrec_spark.raw.readers import MALFORMED
from ganrec_spark.raw.rules import NULL, id_text, inexact, number, pseudonym, row_as_json, row_hash, without_user
from ganrec_spark.raw.sources import read_attributes
from ganrec_spark.raw.times import time_column

_SAMPLE, _SAMPLE_LENGTH = 10_000, 1000  # rows, and characters of a value, that kinds are guessed by
_DAY = 86_400.0
_NO_VECTORS = Kind(NONE, why="vectors of users are not taken")
_VALUE = "array<struct<name:string,value:string,number:double>>"


@dataclass(frozen=True)
class Side:
    """Whose attributes: `role` user or item, the column of ids (a name, or a position), what is said of the others.

    `salt`: what users' ids are made pseudonyms with (ingest.pseudonym_salt). `sensitive`: columns for reports alone.
    """

    role: str
    column: str | int
    kinds: Mapping[str, str]
    salt: str | None = None
    sensitive: Sequence[str] = ()
    key_of_sources: str | None = None

    @property
    def key(self) -> str:
        """The configuration's key of the sources."""
        return self.key_of_sources or f"ingest.{self.role}s_source"


@dataclass(frozen=True)
class AttributeSource:
    """Rows of one source with their id (user_id or item_id) and `rule`, the first one broken or NULL; their columns."""

    side: Side
    name: str
    rows: DataFrame
    kinds: Mapping[str, Kind]

    @property
    def id(self) -> str:
        """The name of the column of ids."""
        return f"{self.side.role}_id"

    @property
    def valid(self) -> DataFrame:
        """The rows that broke no rule."""
        return self.rows.where(F.col("rule").isNull())

    def values(self) -> DataFrame:
        """Return (id, name, value, number): one row for each value of the columns that are no vectors."""
        parts = [self._values(name, kind) for name, kind in self._columns(but=(VECTOR, NONE))]
        values = F.concat(*parts) if parts else F.array().cast(_VALUE)
        return self.valid.select(self.id, F.explode(values).alias("one")).select(self.id, "one.*")

    def vectors(self) -> Iterator[DataFrame]:
        """Yield (id, modality, vector) of each column of vectors."""
        rows, usable = self._with_usable()
        for name, vector in usable.items():
            yield rows.where(vector.isNotNull()).select(self.id, F.lit(name).alias("modality"), vector.alias("vector"))

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return column -> the number of rows that have a value, and of those the number whose value cannot be used."""
        columns = self._columns(but=(NONE,))
        if not columns:
            return {}
        (rows, vectors), wanted = self._with_usable(), []
        for name, kind in columns:
            given = _given(self._column(name))
            known = vectors[name].isNotNull() if name in vectors else F.size(self._values(name, kind)) > 0
            wanted += [F.count_if(given), F.count_if(given & ~known)]
        found = [int(count) for count in rows.agg(*wanted).collect()[0]]
        return {name: (found[2 * place], found[2 * place + 1]) for place, (name, _) in enumerate(columns)}

    def _with_usable(self) -> tuple[DataFrame, dict[str, Column]]:
        """Return the valid rows, and the vectors by name: NULL where one is not as long as most, or not finite."""
        names = [name for name, kind in self.kinds.items() if kind.name == VECTOR]
        if not names:
            return self.valid, {}
        places = {name: f"_vector_{place}" for place, name in enumerate(names)}
        rows = self.valid.withColumns(
            {place: _vector(self._column(name), self.kinds[name]) for name, place in places.items()}
        )
        lengths = rows.agg(*[F.mode(F.size(place)) for place in places.values()]).collect()[0]
        return rows, {
            name: F.when((F.size(place) == F.lit(length)) & F.forall(place, _is_finite), F.col(place))
            for (name, place), length in zip(places.items(), lengths, strict=True)
        }

    def _columns(self, but: Sequence[str]) -> list[tuple[str, Kind]]:
        return [(name, kind) for name, kind in self.kinds.items() if kind.name not in but]

    def _values(self, name: str, kind: Kind) -> Column:
        return _values(name, self._column(name), kind)

    def _column(self, name: str) -> Column:
        return F.col(f"raw.{quoted(name)}")


def sources_of(spark: SparkSession, side: Side, names: Sequence[str], scratch: Path | None) -> list[AttributeSource]:
    """Return what is read of the sources, their rows persisted.

    Raises InputError naming the key where one cannot be read, where two have a column in common, or where the
    configuration names a column that none has.
    """
    found: list[AttributeSource] = []
    for name in names:
        try:
            read = read_attributes(spark, name, side.role, side.column, f"check {side.key}", scratch)
        except InputError as error:
            raise InputError(f"{side.key}: {error}") from error
        ids = str(read.schema[side.role].metadata["column"])
        rows = _checked(read, side, ids).persist()
        found.append(AttributeSource(side, name, rows, _kinds(rows, side, ids)))
    seen: dict[str, str] = {}
    for source in found:
        for column in source.kinds:
            if column in seen:
                raise InputError(
                    f"{side.key}: expected columns of different names in its sources, found '{column}' in "
                    f"'{seen[column]}' and '{source.name}'; rename one, or leave one out"
                )
            seen[column] = source.name
    if unknown := sorted(side.kinds.keys() - seen.keys()):
        raise InputError(
            f"ingest.{side.role}_columns: expected columns of {side.key}, found {', '.join(unknown)}, which none "
            f"of its sources has; they have {', '.join(sorted(seen)) or 'no columns but the ids'}"
        )
    if unknown := sorted(set(side.sensitive) - seen.keys()):
        raise InputError(
            f"ingest.sensitive: expected columns of {side.key}, found {', '.join(unknown)}, which none of its sources "
            "has; what is misspelt would not be kept from anything"
        )
    return found


def _checked(read: DataFrame, side: Side, ids: str) -> DataFrame:
    """Return (id, file, raw, rule); of several rows of an id all but one break a rule."""
    kind, raw_type = read.schema[side.role].dataType, cast(StructType, read.schema["raw"].dataType)
    given = id_text(F.col(side.role), kind, ids)
    shown, raw = shown_and_raw(given, raw_type, ids, side.salt)
    rule = first_broken(raw_type, [(given, F.col(side.role), kind)])
    rows = read.select(shown.alias(f"{side.role}_id"), "file", raw.alias("raw"), rule.alias("rule"))
    # Rows that broke a rule have no id; their own hash spreads them over the tasks.
    hashed = row_hash(raw_type)
    window = Window.partitionBy(f"{side.role}_id", F.when(F.col("rule").isNotNull(), hashed)).orderBy(hashed)
    again = F.when(F.row_number().over(window) > 1, "duplicate_id")
    return rows.withColumn("rule", F.coalesce("rule", again))


def shown_and_raw(given: Column, raw_type: StructType, ids: str, salt: str | None) -> tuple[Column, Column]:
    """Return the id that is kept of a given one, in column `ids` of raw, and raw: pseudonyms where there is a salt."""
    if salt is None:
        return given, F.col("raw")
    shown = pseudonym(given, from_environment("ingest.pseudonym_salt", salt))
    return shown, without_user(raw_type, ids, shown)


def first_broken(raw_type: StructType, ids: Sequence[tuple[Column, Column, DataType]]) -> Column:
    """Return the first rule that a row broke, NULL where none. `ids`: each id as text, as it came, and its type."""

    def any_of(*broken: Column) -> Column:
        return reduce(Column.__or__, broken)

    malformed = F.col(f"raw.{MALFORMED}").isNotNull() if MALFORMED in raw_type.names else F.lit(False)
    return (
        F.when(malformed, "malformed_row")
        .when(any_of(*(text.isNull() | (text == NULL) for text, _, _ in ids)), "missing_id")
        .when(any_of(*(text.contains("\ufffd") for text, _, _ in ids)), "bad_encoding")
        .when(any_of(*(inexact(came, kind) for _, came, kind in ids)), "inexact_id")
    )


def rejected(sources: Sequence[AttributeSource]) -> Iterator[DataFrame]:
    """Yield (rule, file, row) of the rows that broke a rule, of each source."""
    for source in sources:
        broken = source.rows.where(F.col("rule").isNotNull())
        yield broken.select("rule", "file", row_as_json(source.rows.schema["raw"].dataType).alias("row"))


def _kinds(rows: DataFrame, side: Side, ids: str) -> dict[str, Kind]:
    raw_type = cast(StructType, rows.schema["raw"].dataType)
    fields = [field for field in raw_type.fields if field.name not in (MALFORMED, ids)]
    texts = {}
    plain = [field.name for field in fields if not isinstance(field.dataType, ArrayType | StructType)]
    if plain:
        columns = {name: F.col(f"raw.{quoted(name)}").cast("string") for name in plain}
        short = [F.substring(column, 1, _SAMPLE_LENGTH).alias(name) for name, column in columns.items()]
        sample = rows.where(F.col("rule").isNull()).select(*short).limit(_SAMPLE).toArrow()
        texts = {name: sample.column(place).to_pylist() for place, name in enumerate(plain)}
    found = {
        field.name: kind_of(field.name, field.dataType, texts.get(field.name, ()), side.kinds.get(field.name))
        for field in fields
    }
    if side.role == "user":
        found |= {name: _NO_VECTORS for name, kind in found.items() if kind.name == VECTOR}
    return found


def _given(column: Column) -> Column:
    """Whether a value is there at all."""
    text = F.lower(F.btrim(column.cast("string")))
    return F.coalesce(~text.isin(*MISSING) & (text != "[]"), F.lit(False))


def _values(name: str, column: Column, kind: Kind) -> Column:
    """Return the values of a column as an array of (name, value, number); empty where none can be used."""
    text = F.btrim(column.cast("string"))
    nothing = F.array().cast(_VALUE)
    if kind.name == VALUES:
        parts = F.filter(F.transform(_parts(column, kind), lambda one: F.btrim(one)), lambda one: _given(one))
        rows = F.transform(F.array_distinct(parts), lambda one: _one(name, one, F.lit(None)))
        return F.coalesce(rows.cast(_VALUE), nothing)
    value, amount = text, F.lit(None).cast("double")
    if kind.name == NUMBER:
        amount = number(text)
        amount = F.when(_is_finite(amount), amount)
        value, usable = F.lit(None).cast("string"), amount.isNotNull()
    elif kind.name == DATE:
        moment = _moment(column, kind)
        amount, value = F.unix_micros(moment) / F.lit(1e6 * _DAY), F.date_format(moment, "yyyy-MM-dd")
        usable = moment.isNotNull()
    else:  # a category or a text is what it is
        usable = F.lit(True)
    return F.when(_given(column) & usable, F.array(_one(name, value, amount)).cast(_VALUE)).otherwise(nothing)


def _moment(column: Column, kind: Kind) -> Column:
    return time_column(column.cast("string"), StringType(), kind.time, "auto")


def _one(name: str, value: Column, amount: Column) -> Column:
    return F.struct(F.lit(name).alias("name"), value.alias("value"), amount.cast("double").alias("number"))


def _parts(column: Column, kind: Kind) -> Column:
    """Return several values as an array of texts."""
    if kind.parts is None:
        return column.cast("array<string>")
    if kind.parts == JSON:
        return F.from_json(column, "array<string>")
    return F.split(column, re.escape(kind.parts))


def _is_finite(one: Column) -> Column:
    return one.isNotNull() & ~F.isnan(one) & (F.abs(one) < float("inf"))


def _vector(column: Column, kind: Kind) -> Column:
    numbers = column if kind.parts is None else F.transform(_parts(column, kind), lambda one: one.try_cast("float"))
    return numbers.cast("array<float>")
