"""The commands of the loop: refresh lists, learn from what people did, and say what to do next."""

import argparse
from typing import TYPE_CHECKING

from ganrec_spark.cli.console import clear
from ganrec_spark.cli.lakes import with_lake
from ganrec_spark.cli.options import common, load, parsed_run_id
from ganrec_spark.errors import LakeError
from ganrec_spark.plan.pipeline import STAGE_BY_NAME

if TYPE_CHECKING:
    from ganrec_spark.lake.store import Lake


def loop_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--run-date", type=parsed_run_id, metavar="RUN", help="run id; default: the published run")


def refresh(arguments: argparse.Namespace) -> int:
    """Make the published lists of users with new events anew, and say in one sentence what came of it."""
    from ganrec_spark.refresh.refresh import refresh

    def act(lake: "Lake") -> None:
        outcome = refresh(lake, load(arguments))
        clear()
        print(outcome.in_words())

    return with_lake(arguments, act)


def learn(arguments: argparse.Namespace) -> int:
    """Run stage learn for the run that readers see, or a named one, and print what to do next."""
    from ganrec_spark.run.runner import run_stage

    def act(lake: "Lake") -> None:
        outcome = run_stage(lake.spark, load(arguments), STAGE_BY_NAME["learn"], _run_of(lake, arguments.run_date))
        clear()
        print(f"{outcome.stage}: {outcome.outcome} in {outcome.seconds:.1f} s: {outcome.message}")

    return with_lake(arguments, act)


def next_run(arguments: argparse.Namespace) -> int:
    """Print what stage learn decided: the action in the first line, for scripts, the reason in the second."""

    def show(lake: "Lake") -> None:
        run_id = _run_of(lake, arguments.run_date)
        row = lake.read("next_run", run_id).first()
        if row is None:
            raise LakeError(f"table 'next_run', run '{run_id}': expected a row, found none; run `ganrec learn` first")
        print(f"{row.action}\n{row.reason}")

    return with_lake(arguments, show)


def _run_of(lake: "Lake", run_id: str | None) -> str:
    found = run_id or lake.published().run_id
    if found is None:
        raise LakeError(
            "table 'current_run': expected a published run to learn from, found none; run `ganrec run` first"
        )
    return found
