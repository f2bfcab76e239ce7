"""The command that takes what people did with their lists: feedback."""

import argparse
import tempfile
from pathlib import Path

from ganrec_spark.cli.options import common, load
from ganrec_spark.errors import InputError


def feedback_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the feedback job."""
    common(parser)
    parser.add_argument("source", metavar="SOURCE", help="events: a file, folder, URI or table")


def feedback(arguments: argparse.Namespace) -> int:
    """Append the events of a source to the log and say in one sentence what became of them."""
    from ganrec_spark.feedback.log import append_events, source_rows
    from ganrec_spark.lake.store import Lake
    from ganrec_spark.raw.sources import explained
    from ganrec_spark.spark.session import build_session

    config, source = load(arguments), arguments.source
    spark = build_session(config, "ganrec feedback")
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        with tempfile.TemporaryDirectory(prefix="ganrec-feedback-") as scratch, explained(source, "check the delivery"):
            taken = append_events(lake, config, source_rows(spark, config, source, Path(scratch)))
    finally:
        spark.stop()
    if taken.read and taken.read == sum(taken.rejected.values()):
        raise InputError(
            f"source '{source}': expected events, found that every row was rejected: {taken.in_words()}; look at table "
            "rejected_feedback, and at section feedback of the configuration"
        )
    print(taken.in_words())
    return 0
