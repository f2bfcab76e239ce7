"""Options that several commands share, and the configuration that they make."""

import argparse
import json
from datetime import UTC, date, datetime

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError


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
        "--run-date", type=_date, default=datetime.now(UTC).date().isoformat(), help="YYYY-MM-DD, the run's id; today"
    )


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected a date, YYYY-MM-DD") from None


def load(arguments: argparse.Namespace) -> Config:
    overrides = [*_json_overrides(arguments.set_json), *arguments.set]
    if arguments.master:
        overrides.append(f"spark.master={arguments.master}")
    return load_config(arguments.config, overrides)


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
