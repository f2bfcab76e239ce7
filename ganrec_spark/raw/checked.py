"""Every row of the sources, with the rule that it broke."""

from collections.abc import Callable
from datetime import datetime
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.rules import apply_rules, mark_duplicates, row_as_json
from ganrec_spark.raw.sources import explained, read_source
from ganrec_spark.raw.times import doubt, time_form


def checked_rows(
    spark: SparkSession, ingest: Ingest, as_of: datetime, warn: Callable[[str], None], scratch: Path | None = None
) -> DataFrame:
    """Return every row of all sources with origin (source, test_source) and the rule it broke, or NULL.

    `warn` hears of what is doubtful; what is packed is unpacked to `scratch`. Raises InputError without a source.
    """
    if not ingest.source:
        raise InputError(
            "ingest.source: expected a file, folder, URI or table, found none; set it in the configuration"
        )
    frames = []
    for origin, source in (("source", ingest.source), ("test_source", ingest.test_source)):
        if source:
            read = read_source(spark, ingest, source, scratch)
            with explained(source):
                form = time_form(read, ingest) if "timestamp" in read.columns else None
                if form is not None and (warning := doubt(read, ingest, form)):
                    warn(f"source '{source}': {warning}")
            rows = apply_rules(read, ingest, as_of, form)
            # Without times, or with days alone, equal events are as many, no copies.
            if ingest.feedback == "explicit" or (form is not None and not form.days):
                rows = mark_duplicates(rows.withColumn("origin", F.lit(origin)), ingest.feedback == "implicit")
            else:
                rows = rows.withColumn("origin", F.lit(origin))
            frames.append(
                rows.withColumn(
                    "row", F.when(F.col("rule").isNotNull(), row_as_json(rows.schema["raw"].dataType))
                ).drop("raw")
            )
    return reduce(DataFrame.unionByName, frames)
