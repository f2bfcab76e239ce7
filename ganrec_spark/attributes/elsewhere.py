"""What the same people rated elsewhere: each item there is one of several values of theirs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ganrec_spark.attributes.kinds import VALUES, Kind
from ganrec_spark.attributes.reading import AttributeSource, Side, first_broken, shown_and_raw
from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.rules import id_text
from ganrec_spark.raw.sources import read_events

_KEY = "ingest.other_ratings"
_KIND = Kind(VALUES, why="ratings elsewhere")


@dataclass(frozen=True)
class Elsewhere(AttributeSource):
    """Ratings of another domain, with user_id, `item` as it is called there, and `rule`; the domain names a column."""

    def values(self) -> DataFrame:
        """Return (user_id, name, value, number): one row for each item that a user rated there."""
        (domain,) = self.kinds
        pairs = self.valid.select(self.id, "item").distinct()
        nothing = F.lit(None).cast("double").alias("number")
        return pairs.select(self.id, F.lit(domain).alias("name"), F.col("item").alias("value"), nothing)

    def vectors(self) -> Iterator[DataFrame]:
        """Yield nothing."""
        return iter(())

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return the domain -> the number of ratings, all of which can be used."""
        (domain,) = self.kinds
        return {domain: (self.valid.count(), 0)}


def elsewhere(
    spark: SparkSession, people: Side, ingest: Ingest, others: Sequence[AttributeSource], scratch: Path | None
) -> list[Elsewhere]:
    """Return what is read of the ratings of other domains (ingest.other_ratings), their rows persisted.

    Users and items are the columns that ingest.columns says. Raises InputError where one cannot be read, or is called
    as a column of `others`.
    """
    side, found = replace(people, key_of_sources=_KEY), []
    taken: Mapping[str, str] = {name: source.name for source in others for name in source.kinds}
    for domain, name in ingest.other_ratings.items():
        if domain in taken:
            raise InputError(
                f"{_KEY}: expected names that no column of ingest.users_source has, found '{domain}', which "
                f"'{taken[domain]}' has; call it otherwise"
            )
        wanted = {"user": ingest.columns.user, "item": ingest.columns.item}
        try:
            read = read_events(spark, Ingest(), name, wanted, {}, scratch)
        except InputError as error:
            raise InputError(f"{_KEY}: {domain}: {error}") from error
        found.append(Elsewhere(side, f"{name} ({domain})", _checked(read, side).persist(), {domain: _KIND}))
    return found


def _checked(read: DataFrame, side: Side) -> DataFrame:
    """Return (user_id, item, file, raw, rule). A pair that is there twice is no fault."""
    kinds = {role: read.schema[role].dataType for role in ("user", "item")}
    columns = {role: str(read.schema[role].metadata["column"]) for role in kinds}
    ids = {role: id_text(F.col(role), kind, columns[role]) for role, kind in kinds.items()}
    raw_type = cast(StructType, read.schema["raw"].dataType)
    shown, raw = shown_and_raw(ids["user"], raw_type, columns["user"], side.salt)
    rule = first_broken(raw_type, [(ids[role], F.col(role), kind) for role, kind in kinds.items()])
    return read.select(shown.alias("user_id"), ids["item"].alias("item"), "file", raw.alias("raw"), rule.alias("rule"))
