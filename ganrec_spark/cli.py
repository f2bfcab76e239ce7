"""The console script `ganrec` and the entry points behind jobs/: parse arguments, run, map errors to exit codes."""

import argparse
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import yaml

from ganrec_spark import __version__
from ganrec_spark.config import Config, load_config
from ganrec_spark.errors import ConfigError, GanrecError, LakeError
from ganrec_spark.pipeline import STAGE_BY_NAME, STAGES

if TYPE_CHECKING:
    from ganrec_spark.lake import Lake

_EXIT_CODES = """exit codes: 0 done · 1 unexpected · 2 configuration · 3 input data · 4 lake or missing stage
5 training · 6 quality checks refused publication · 143 ended by SIGTERM"""
_SIGTERM_CODE, _GRACE_SECONDS = 143, 8.0
_TERMINATED = threading.Event()
_TUNED = ("als", "item_item", "transformer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ganrec`; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ganrec", description="Sparsity-aware batch recommendations on Apache Spark.", epilog=_EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add(
        commands, "demo", "run everything on a generated world, or on --data, and show the result", _demo, _demo_options
    )
    _add(
        commands,
        "look",
        "say what a source of ratings holds, and the settings that would take it",
        _look,
        _look_options,
    )
    _add(commands, "doctor", "look for what would stop a run or has damaged the lake", _doctor, _doctor_options)
    _add(commands, "run", "run all stages of one date", run_pipeline_command, pipeline_options)
    _add(commands, "stage", "run one stage of one date", run_stage_command, stage_options)
    _add(commands, "stages", "list the stages in order, with what they read and write", _stages)
    _add(commands, "publications", "list what was published when", _publications, _common)
    _add(commands, "rollback", "point readers back to an earlier run", _rollback, _rollback_options)
    _add(commands, "digest", "print a content hash of every table of a run, to compare runs", _digest, _one_run)
    _add(commands, "config", "print the effective configuration", _config, _common)
    _add(commands, "submit", "print the spark-submit command of every stage, or of --stage", _submit, _submit_options)
    _add(
        commands,
        "fill-wanted",
        "print yes where the run's sparse users call for filling, else no",
        _fill_wanted,
        _one_run,
    )
    _add(commands, "world", "write a generated world of ratings to a Parquet file", _world, _world_options)
    _add(commands, "tune", "search the recommenders' settings on a run's validation users", _tune, _tune_options)
    _add(commands, "sql", "print the command that opens spark-sql on the lake", _sql, _common)
    _add(
        commands,
        "install-jars",
        "put Iceberg and the JDBC drivers beside this Spark, for spark-submit, and a class archive for fast starts",
        _install_jars,
        _common,
    )
    return guarded(parser, argv)


def job(options: Callable[[argparse.ArgumentParser], None], command: Callable[[argparse.Namespace], int]) -> int:
    """Run one command as a spark-submit entry point; return its exit code."""
    parser = argparse.ArgumentParser(epilog=_EXIT_CODES)
    options(parser)
    parser.set_defaults(handler=command)
    return guarded(parser, None)


def guarded(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse and run; print an expected error as one message and return its exit code."""
    os.umask(0o077)  # what the lake knows of people is its owner's
    _end_on_sigterm()
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("ganrec").setLevel(logging.INFO)
    try:
        code = int(arguments.handler(arguments))
        if not _TERMINATED.is_set():
            return code
    except GanrecError as error:
        if not _TERMINATED.is_set():
            print(f"ganrec: {type(error).__name__}: {error}", file=sys.stderr)
            return error.exit_code
    except Exception as error:
        if not _TERMINATED.is_set():
            told = _explained(error, arguments.command if "command" in arguments else Path(sys.argv[0]).stem)
            if told is None:
                raise
            print(f"ganrec: {type(told).__name__}: {told}", file=sys.stderr)
            return told.exit_code
    print("ganrec: ended by SIGTERM; run it again, what has finished is kept", file=sys.stderr)
    return _SIGTERM_CODE


def _explained(error: Exception, what: str) -> GanrecError | None:
    """Return an error of Spark's as one line, where there is something that a person can do about it."""
    if not type(error).__module__.startswith(("py4j", "pyspark", "builtins")):
        return None
    from ganrec_spark.failures import explained

    return explained(error, what)


def _end_on_sigterm() -> None:
    """Let SIGTERM end the process within 10 s, with exit code 143, its run let go and its scratch files removed."""

    def end(_: int, frame: FrameType | None) -> None:
        if _TERMINATED.is_set():
            return
        _TERMINATED.set()
        timer = threading.Timer(_GRACE_SECONDS, os._exit, (_SIGTERM_CODE,))
        timer.daemon = True
        timer.start()
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith("py4j"):
                # An answer of the JVM is under way: a job that is cancelled ends with an exception of its own.
                threading.Thread(target=_cancel_jobs, daemon=True).start()
                return
            frame = frame.f_back
        raise SystemExit(_SIGTERM_CODE)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def _cancel_jobs() -> None:
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    with contextlib.suppress(Exception):  # the session may be ending under our hands
        for _ in range(2):  # what runs now, and what was just about to; the log's last commit must not be cancelled
            if context is not None:
                context.cancelAllJobs()
            time.sleep(0.3)


def stage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of one stage's job."""
    _common(parser)
    parser.add_argument(
        "--stage", required=True, choices=list(STAGE_BY_NAME), metavar="STAGE", help="see `ganrec stages`"
    )
    _run_date(parser)


def run_stage_command(arguments: argparse.Namespace) -> int:
    """Run one stage in a session of its own."""
    from ganrec_spark.runner import run_stage
    from ganrec_spark.session import build_session

    config = _load(arguments)
    stage = STAGE_BY_NAME[arguments.stage]
    spark = build_session(config, f"ganrec {stage.name} {arguments.run_date}", stage.profile)
    try:
        outcome = run_stage(spark, config, stage, arguments.run_date)
        print(f"{outcome.stage}: {outcome.outcome} in {outcome.seconds:.1f} s: {outcome.message}")
    finally:
        spark.stop()
    return 0


def pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the whole pipeline's job."""
    _common(parser)
    _run_date(parser)
    parser.add_argument("--metrics-json", metavar="FILE", help="write every row of the run's metrics there as JSON")
    parser.add_argument("--force", action="store_true", help="run stages again that finished with the same inputs")


def run_pipeline_command(arguments: argparse.Namespace) -> int:
    """Run all stages in one session and print the summary."""
    from ganrec_spark.runner import run_pipeline
    from ganrec_spark.session import build_session
    from ganrec_spark.summary import metrics_rows, print_summary

    config = _load(arguments)
    if arguments.metrics_json and not Path(arguments.metrics_json).parent.is_dir():  # said before the run, not after it
        raise ConfigError(f"--metrics-json '{arguments.metrics_json}': expected an existing folder, found none")
    spark = build_session(config, f"ganrec {arguments.run_date}", "training")  # some of its stages train
    try:
        run_pipeline(spark, config, arguments.run_date, arguments.force)
        if arguments.metrics_json:
            rows = metrics_rows(spark, config, arguments.run_date)
            Path(arguments.metrics_json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print_summary(spark, config, arguments.run_date)
    finally:
        spark.stop()
    return 0


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    doc: str,
    handler: Callable[[argparse.Namespace], int],
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    parser = commands.add_parser(name, help=doc, description=doc, epilog=_EXIT_CODES)
    if options:
        options(parser)
    parser.set_defaults(handler=handler)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML over the defaults; see conf/default.yaml")
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
    parser.add_argument("--master", help="Spark master; the same as --set spark.master=...")


def _run_date(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-date", type=_date, default=datetime.now(UTC).date().isoformat(), help="YYYY-MM-DD, the run's id; today"
    )


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected a date, YYYY-MM-DD") from None


def _load(arguments: argparse.Namespace) -> Config:
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


def _demo_options(parser: argparse.ArgumentParser) -> None:
    pipeline_options(parser)
    parser.add_argument("--data", metavar="PATH", help="your ratings: csv, tsv, MovieLens `::` or Parquet")


def _demo(arguments: argparse.Namespace) -> int:
    from ganrec_spark.submit import lake_root
    from ganrec_spark.world import write_world

    arguments.config = arguments.config or str(_bundled("demo.yaml"))
    config = _load(arguments)
    if arguments.data:
        arguments.set.append(f"ingest.source={json.dumps(arguments.data)}")
    elif config.ingest.source is None:
        world = Path(lake_root(config)) / "world" / "ratings.parquet"
        if not world.exists():
            write_world(world)
        arguments.set.append(f"ingest.source={json.dumps(str(world))}")
    return run_pipeline_command(arguments)


def _look_options(parser: argparse.ArgumentParser) -> None:
    _one_run(parser)
    parser.add_argument(
        "source", metavar="SOURCE", help="a file, folder or URI; a table with --set ingest.format=table"
    )


def _look(arguments: argparse.Namespace) -> int:
    from ganrec_spark.look import look
    from ganrec_spark.session import build_session

    config = _load(arguments)
    spark = build_session(config, "ganrec look", makes_lake=False)
    try:
        print("\n".join(look(spark, config, arguments.source, arguments.run_date)))
    finally:
        spark.stop()
    return 0


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended, after saying what")


def _doctor(arguments: argparse.Namespace) -> int:
    from pyspark.sql import SparkSession

    from ganrec_spark.doctor import examine

    config = _load(arguments)
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


def _bundled(name: str) -> Path:
    """Return a file of conf/, in a checkout or beside an installed wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "conf", here / "conf"):
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"conf/{name}: expected beside the package, found none; name a file with --config")


def _stages(_: argparse.Namespace) -> int:
    for stage in STAGES:
        print(f"{stage.name:20} {stage.doc} (profile {stage.profile})")
        print(f"{'':20}   {', '.join(stage.reads) or 'sources'} -> {', '.join(stage.writes) or 'HTML'}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    print(yaml.safe_dump(_load(arguments).model_dump(mode="json"), sort_keys=False), end="")
    return 0


def _publications(arguments: argparse.Namespace) -> int:
    return _with_lake(arguments, _print_publications)


def _rollback_options(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--to", metavar="RUN", help="run id to point to; default: the one published before")


def _rollback(arguments: argparse.Namespace) -> int:
    from ganrec_spark.publication import roll_back

    return _with_lake(arguments, lambda lake: print(f"published run: {roll_back(lake, arguments.to)}"))


def _print_publications(lake: "Lake") -> None:
    for position, publication in enumerate(lake.publications()):
        mark = "  <- what readers see" if position == 0 else ""
        print(f"{publication.committed_at}  {publication.run_id}  {publication.edition}{mark}")


def _one_run(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    _run_date(parser)


def _digest(arguments: argparse.Namespace) -> int:
    from ganrec_spark.publication import table_digests

    def show(lake: "Lake") -> None:
        for name, digest in table_digests(lake, arguments.run_date).items():
            print(f"{digest}  {name}")

    return _with_lake(arguments, show)


def _with_lake(arguments: argparse.Namespace, action: "Callable[[Lake], object]") -> int:
    from ganrec_spark.lake import Lake
    from ganrec_spark.session import build_session
    from ganrec_spark.submit import lake_root

    config = _load(arguments)
    root = Path(lake_root(config))
    if "://" not in config.lake.root and not root.is_dir():
        raise LakeError(f"lake '{root}': expected a lake, found no such folder; see lake.root")
    spark = build_session(config, makes_lake=False)
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        if not lake.exists():
            raise LakeError(f"lake '{root}': expected tables of {lake.name('')[:-1]}, found none; see lake.root")
        action(lake)
    finally:
        spark.stop()
    return 0


def _tune_options(parser: argparse.ArgumentParser) -> None:
    _one_run(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="time for all members together; 30")
    parser.add_argument(
        "--members",
        nargs="+",
        choices=_TUNED,
        default=list(_TUNED),
        metavar="MEMBER",
        help=f"whose settings are searched: {', '.join(_TUNED)}; all",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="write the best settings there, for --config")


def _tune(arguments: argparse.Namespace) -> int:
    from ganrec_spark.session import build_session
    from ganrec_spark.tuning import as_config, tune

    config, out = _load(arguments), Path(arguments.out)
    if not out.parent.is_dir():  # said before the search, not after it
        raise ConfigError(f"--out '{out}': expected a file in an existing folder, found no folder '{out.parent}'")
    spark = build_session(config, f"ganrec tune {arguments.run_date}", "training")
    try:
        found = tune(spark, config, arguments.run_date, arguments.members, arguments.minutes)
    finally:
        spark.stop()
    text = as_config(found, config, arguments.run_date)
    out.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _submit_options(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument(
        "--stage", choices=list(STAGE_BY_NAME), metavar="STAGE", help="see `ganrec stages`; default: all"
    )
    _run_date(parser)


def _submit(arguments: argparse.Namespace) -> int:
    from ganrec_spark.session import spark_jars_dir
    from ganrec_spark.submit import secrets, submit_command

    config = _load(arguments)
    written = secrets(load_config(arguments.config))
    for key, value in secrets(config).items():
        if "${" not in value and written.get(key) != value:
            raise ConfigError(
                f"{key}: expected no secret in --set or --set-json, which stand on the command that is printed; write "
                "${NAME}, and the secret into the driver's environment"
            )
    passed_on = ["--config", arguments.config] if arguments.config else []
    passed_on += ["--set-json", arguments.set_json] if arguments.set_json else []
    passed_on += ["--master", arguments.master] if arguments.master else []
    passed_on += [word for override in arguments.set for word in ("--set", override)]
    for stage in [STAGE_BY_NAME[arguments.stage]] if arguments.stage else STAGES:
        command = submit_command(config, stage, arguments.run_date, passed_on, spark_jars_dir().parent)
        print(shlex.join(command))
    return 0


def _fill_wanted(arguments: argparse.Namespace) -> int:
    from ganrec_spark.runner import fill_wanted

    return _with_lake(arguments, lambda lake: print("yes" if fill_wanted(lake, arguments.run_date) else "no"))


def _world_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="Parquet file to write")
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--seed", type=int, default=7)


def _world(arguments: argparse.Namespace) -> int:
    from ganrec_spark.world import write_world

    print(f"{write_world(arguments.out, arguments.users, arguments.items, arguments.seed)} ratings in {arguments.out}")
    return 0


def _sql(arguments: argparse.Namespace) -> int:
    from ganrec_spark.session import spark_sql_command

    print(spark_sql_command(_load(arguments)))
    return 0


def _install_jars(arguments: argparse.Namespace) -> int:
    from ganrec_spark.class_archive import write_archive
    from ganrec_spark.session import install_jars, spark_jars_dir

    for jar in install_jars(_load(arguments)):
        print(jar)
    print(write_archive(spark_jars_dir().parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
