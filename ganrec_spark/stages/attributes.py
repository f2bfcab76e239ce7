"""Stage attributes: read what is known of users and items besides ratings (attributes.reading)."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame

from ganrec_spark.attributes.elsewhere import elsewhere
from ganrec_spark.attributes.reading import AttributeSource, Side, rejected, sources_of
from ganrec_spark.attributes.told import columns_in_words, require_ids, strangers
from ganrec_spark.frames.dense_index import extend_dictionary
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write user_attributes, item_attributes, item_vectors, attribute_columns, rejected_attributes and new ids.

    Raises InputError where a source cannot be read, or too many of its rows were rejected.
    """
    ingest = context.config.ingest
    scratch = Path(context.work_dir) / "unpacked" if "://" not in context.work_dir else None
    people = Side("user", ingest.columns.user, ingest.user_columns, ingest.pseudonym_salt, ingest.sensitive)
    things = Side("item", ingest.columns.item, ingest.item_columns)
    read: list[AttributeSource] = []
    try:
        for side, names in ((people, ingest.users_source), (things, ingest.items_source)):
            read += sources_of(context.spark, side, names, scratch)
        own = [source for source in read if source.side.role == people.role]
        read += elsewhere(context.spark, people, ingest, own, scratch)
        context.lake.write("rejected_attributes", _all(context, "rejected_attributes", rejected(read)))
        n_rows = require_ids(read, ingest.max_rejected_share, context.run_id)
        told = [f"{n_rows} rows read" if read else "no sources of attributes"]
        for role in ("user", "item"):
            told += _write(context, role, [source for source in read if source.side.role == role])
        columns = {source.name: source.counts() for source in read}
        context.lake.write("attribute_columns", _columns(context, read, columns))
    finally:
        for source in read:
            source.rows.unpersist()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return "; ".join([*told, *columns_in_words(read, columns)])


def _write(context: Context, role: str, sources: Sequence[AttributeSource]) -> list[str]:
    """Write what is known of users, or of items, and give unknown ids their index; return what is told of it."""
    known = context.lake.read(f"{role}s")
    for source in sources:
        if warning := strangers(source, known):
            context.warn(warning)
    n_new = 0
    if sources:
        ids = reduce(DataFrame.union, (source.valid.select(source.id) for source in sources))
        n_new = extend_dictionary(context.lake, ids, f"{role}s", role)
    index, table = context.lake.read(f"{role}s").select(f"{role}_id", f"{role}_idx"), f"{role}_attributes"
    context.lake.write(table, _all(context, table, (source.values().join(index, source.id) for source in sources)))
    if role == "item":
        vectors = (part.join(index, "item_id") for source in sources for part in source.vectors())
        context.lake.write("item_vectors", _all(context, "item_vectors", vectors))
    return [f"{n_new} new {role}s"] if sources else []


def _columns(
    context: Context, sources: Sequence[AttributeSource], counts: Mapping[str, Mapping[str, tuple[int, int]]]
) -> DataFrame:
    rows = [
        (source.side.role, name, kind.name, kind.why, name in source.side.sensitive, given, bad)
        for source in sources
        for name, kind in source.kinds.items()
        for given, bad in [counts[source.name].get(name, (0, 0))]
    ]
    return context.lake.frame("attribute_columns", rows)


def _all(context: Context, table: str, parts: Iterable[DataFrame]) -> DataFrame:
    """Return the rows of all parts, as the table has them."""
    frame = context.lake.frame(table, [])
    return reduce(DataFrame.unionByName, (part.select(*frame.columns) for part in parts), frame)
