"""The command `ganrec tune`."""

import argparse
from pathlib import Path

from ganrec_spark.cli.options import load, one_run
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.members import TUNED


def tune_options(parser: argparse.ArgumentParser) -> None:
    one_run(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="time for all members together; 30")
    parser.add_argument(
        "--members",
        nargs="+",
        choices=TUNED,
        default=list(TUNED),
        metavar="MEMBER",
        help=f"whose settings are searched: {', '.join(TUNED)}; all",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="write the best settings there, for --config")


def tune(arguments: argparse.Namespace) -> int:
    from ganrec_spark import tuning
    from ganrec_spark.spark.session import build_session

    config, out = load(arguments), Path(arguments.out)
    if not out.parent.is_dir():  # said before the search, not after it
        raise ConfigError(f"--out '{out}': expected a file in an existing folder, found no folder '{out.parent}'")
    spark = build_session(config, f"ganrec tune {arguments.run_date}", "training")
    try:
        found = tuning.tune(spark, config, arguments.run_date, arguments.members, arguments.minutes)
    finally:
        spark.stop()
    text = tuning.as_config(found, config, arguments.run_date)
    out.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0
