"""Options that several commands share, and the configuration that they make."""

import argparse
import json
from datetime import UTC, datetime

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.run_id import RunId


def common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML over the defaults; conf/ explains every key")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, such as sparsity.max_ratings=10",
    )
    parser.add_argument(
        "--set-json", metavar="JSON", help='overrides as an object, such as {"sparsity.max_ratings": 10}; --set wins'
    )
    parser.add_argument("--verbose", action="store_true", help="also say what was tried, and how training goes")
    parser.add_argument("--master", help="Spark master; the same as --set spark.master=...")


def run_date(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-date",
        type=parsed_run_id,
        default=datetime.now(UTC).date().isoformat(),
        help="the run's id: its date, YYYY-MM-DD (today), or YYYY-MM-DD.N for the N-th further run of that date",
    )


def parsed_run_id(text: str) -> str:
    try:
        return str(RunId.parse(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def load(arguments: argparse.Namespace) -> Config:
    overrides = [*_json_overrides(arguments.set_json), *arguments.set]
    if arguments.master:
        overrides.append(f"spark.master={arguments.master}")
    config = load_config(arguments.config, overrides)
    if getattr(arguments, "run_date", None):
        RunId.parse(arguments.run_date).as_of(config.run.as_of)  # a moment of another date is found before Spark starts
    return config


def _json_overrides(text: str | None) -> list[str]:
    try:
        overrides = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"--set-json: not valid JSON: {error}") from None
    if not isinstance(overrides, dict):
        raise ConfigError(f"--set-json: expected an object of key: value, found {type(overrides).__name__}")
    return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]


def one_run(parser: argparse.ArgumentParser) -> None:
    common(parser)
    run_date(parser)
