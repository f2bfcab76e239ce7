"""The console script `ganrec`: every command with its options, one line each."""

import argparse
from collections.abc import Callable, Sequence

from ganrec_spark import __version__
from ganrec_spark.cli import checks, feedback, lakes, loop, runs, sizing, stream, tune
from ganrec_spark.cli.options import common, one_run
from ganrec_spark.cli.process import EXIT_CODES, guarded

Options = Callable[[argparse.ArgumentParser], None]
Handler = Callable[[argparse.Namespace], int]


def _none(_: argparse.ArgumentParser) -> None:
    """Add no options."""


# Name, what it does, the function that does it, its options.
COMMANDS: tuple[tuple[str, str, Handler, Options], ...] = (
    ("demo", "run everything on a generated world, or on --data, and show the result", runs.demo, runs.demo_options),
    ("look", "say what a source of ratings holds, and the settings to take it", checks.look, checks.look_options),
    ("doctor", "look for what would stop a run or has damaged the lake", checks.doctor, checks.doctor_options),
    ("run", "run all stages of one date", runs.run_pipeline_command, runs.pipeline_options),
    ("stage", "run one stage of one date", runs.run_stage_command, runs.stage_options),
    ("feedback", "append events, what people did, to the log", feedback.feedback, feedback.feedback_options),
    (
        "stream",
        "append events as they come, from a folder or Kafka, until SIGTERM",
        stream.stream,
        stream.stream_options,
    ),
    ("refresh", "make the published lists of users with new events anew", loop.refresh, common),
    ("stages", "list the stages in order, with what they read and write", runs.stages, _none),
    (
        "learn",
        "measure what people did with the published lists, and decide what to do next",
        loop.learn,
        loop.loop_options,
    ),
    ("next", "print what to do next, as learn decided, and why", loop.next_run, loop.loop_options),
    ("explain", "say why a user is listed an item, or why not", lakes.explain, lakes.explain_options),
    ("publications", "list what was published when", lakes.publications, common),
    ("rollback", "point readers back to an earlier run", lakes.rollback, lakes.rollback_options),
    ("digest", "print a content hash of every table of a run, to compare runs", lakes.digest, one_run),
    ("config", "print the effective configuration", runs.config, common),
    ("submit", "print the spark-submit command of every stage, or of --stage", runs.submit, runs.submit_options),
    ("fill-wanted", "print yes where the run's sparse users call for filling, else no", lakes.fill_wanted, one_run),
    ("world", "write a generated world of ratings, of any size, as Parquet", runs.world, runs.world_options),
    ("sizing", "say what a run of so many users, items and ratings takes", sizing.sizing, sizing.sizing_options),
    ("tune", "search the recommenders' settings on a run's validation users", tune.tune, tune.tune_options),
    ("sql", "print the command that opens spark-sql on the lake", lakes.sql, common),
    (
        "install-jars",
        "put Iceberg and the JDBC drivers beside this Spark, for spark-submit, and a class archive for fast starts",
        checks.install_jars,
        checks.install_options,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ganrec`; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="ganrec", description="Sparsity-aware batch recommendations on Apache Spark.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, doc, handler, options in COMMANDS:
        command = commands.add_parser(name, help=doc, description=doc, epilog=EXIT_CODES)
        options(command)
        command.set_defaults(handler=handler)
    return guarded(parser, argv)
