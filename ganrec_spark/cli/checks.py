"""The commands that look before a run: look, doctor; and install-jars, which makes ready for one."""

import argparse
import json
import sys

from ganrec_spark.cli.options import common, load, one_run
from ganrec_spark.errors import LakeError
from ganrec_spark.plan.run_id import RunId


def look_options(parser: argparse.ArgumentParser) -> None:
    one_run(parser)
    parser.add_argument(
        "source", metavar="SOURCE", help="a file, folder or URI; a table with --set ingest.format=table"
    )


def look(arguments: argparse.Namespace) -> int:
    from ganrec_spark.raw.look import look as described
    from ganrec_spark.spark.session import build_session

    config = load(arguments)
    spark = build_session(config, "ganrec look", makes_lake=False)
    try:
        as_of = RunId.parse(arguments.run_date).as_of(config.run.as_of)
        print("\n".join(described(spark, config, arguments.source, as_of)))
    finally:
        spark.stop()
    return 0


def doctor_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended, after saying what")


def doctor(arguments: argparse.Namespace) -> int:
    from pyspark.sql import SparkSession

    from ganrec_spark.run.doctor import examine

    config = load(arguments)
    try:
        findings, repairs = examine(config)
        if arguments.json:
            print(json.dumps([vars(finding) for finding in findings], indent=1))
        else:
            print("\n".join(map(str, findings)))
        for repair in repairs:
            print(f"{'repair' if arguments.repair else '--repair would'}: {repair.words}", file=sys.stderr)
            if arguments.repair:
                repair.do()
    finally:
        if session := SparkSession.getActiveSession():
            session.stop()
    if arguments.repair and repairs:
        print("repaired; `ganrec doctor` says what is left", file=sys.stderr)
    return LakeError.exit_code if any(finding.level == "fail" for finding in findings) else 0


def install_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--kafka", action="store_true", help="also what `ganrec stream` reads Kafka with")


def install_jars(arguments: argparse.Namespace) -> int:
    from ganrec_spark.cli.class_archive import write_archive
    from ganrec_spark.feedback.kafka import with_kafka
    from ganrec_spark.spark import session

    config = load(arguments)
    for jar in session.install_jars(with_kafka(config) if arguments.kafka else config):
        print(jar)
    print(write_archive(session.spark_jars_dir().parent))
    return 0
