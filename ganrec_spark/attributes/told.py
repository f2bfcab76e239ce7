"""What is said of sources of attributes: what was rejected, whose ids nobody knows, what each column was taken for."""

from collections.abc import Iterator, Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.attributes.reading import AttributeSource
from ganrec_spark.errors import InputError
from ganrec_spark.raw.rejects import shape

_SHOWN = 3


def require_ids(sources: Sequence[AttributeSource], most: float, run_id: str) -> int:
    """Return how many rows the sources have.

    Raises InputError where one has no valid row, or more than a share of `most` broke a rule.
    """
    total = 0
    for source in sources:
        counts = {row.rule: row["count"] for row in source.rows.groupBy("rule").count().collect()}
        read, valid = sum(counts.values()), counts.pop(None, 0)
        broken = ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))
        if not valid or read - valid > most * read:
            raise InputError(
                f"{source.side.key} '{source.name}': expected one row for each id, at most {most:.1%} of the rows that "
                f"cannot be used, found {read - valid} of {read} ({broken or 'no rows'}); look at table "
                f"rejected_attributes where run_id = '{run_id}', then correct the source; ingest.max_rejected_share is "
                "how many rows you can do without"
            )
        total += read
    return total


def strangers(source: AttributeSource, known: DataFrame) -> str:
    """Return a warning where none of a source's ids is among the known ones; samples of both sides are in it.

    Of users' ids their shape is shown, not themselves.
    """
    ids = source.valid.select(source.id)
    if not ids.join(known.select(source.id), source.id, "left_semi").isEmpty() or known.isEmpty():
        return ""
    samples = [_samples(rows, source.id) for rows in (ids, known)]
    return (
        f"{source.side.key} '{source.name}': none of its ids is one that the ratings have: it has {samples[0]}, they "
        f"have {samples[1]}; all of them become new {source.side.role}s. Where that is wrong, see "
        f"ingest.columns.{source.side.role}"
    )


def columns_in_words(
    sources: Sequence[AttributeSource], counts: Mapping[str, Mapping[str, tuple[int, int]]]
) -> Iterator[str]:
    """Yield for each source what its columns were taken for, by what they were guessed, and what cannot be used."""
    for source in sources:
        parts = []
        for name, kind in source.kinds.items():
            _, bad = counts[source.name].get(name, (0, 0))
            more = ", ".join(filter(None, (kind.why, f"{bad} values are none" if bad else "")))
            parts.append(f"{name} {kind.name}" + (f" ({more})" if more else ""))
        yield f"{source.side.key} '{source.name}': {', '.join(parts) or 'ids alone'}"


def _samples(rows: DataFrame, column: str) -> str:
    found = [row[0] for row in rows.orderBy(F.xxhash64(column)).limit(_SHOWN).collect()]
    return ", ".join(shape(one) if column == "user_id" else repr(one) for one in found)
