"""The commands that run stages, or say how others would: run, stage, demo, submit, stages, config, world."""

import argparse
import json
import os
import shlex
from pathlib import Path

import yaml

from ganrec_spark.cli.console import clear
from ganrec_spark.cli.options import common, load, run_date
from ganrec_spark.config.load import load_config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.pipeline import LOOP_STAGES, STAGE_BY_NAME, STAGES


def stage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of one stage's job."""
    common(parser)
    parser.add_argument(
        "--stage", required=True, choices=list(STAGE_BY_NAME), metavar="STAGE", help="see `ganrec stages`"
    )
    run_date(parser)


def run_stage_command(arguments: argparse.Namespace) -> int:
    """Run one stage in a session of its own."""
    from ganrec_spark.run.runner import run_stage
    from ganrec_spark.spark.session import build_session

    config = load(arguments)
    stage = STAGE_BY_NAME[arguments.stage]
    spark = build_session(config, f"ganrec {stage.name} {arguments.run_date}", stage.profile)
    try:
        outcome = run_stage(spark, config, stage, arguments.run_date)
        clear()
        print(f"{outcome.stage}: {outcome.outcome} in {outcome.seconds:.1f} s: {outcome.message}")
    finally:
        spark.stop()
    return 0


def pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the whole pipeline's job."""
    common(parser)
    run_date(parser)
    parser.add_argument("--metrics-json", metavar="FILE", help="write every row of the run's metrics there as JSON")
    parser.add_argument("--force", action="store_true", help="run stages again that finished with the same inputs")


def run_pipeline_command(arguments: argparse.Namespace) -> int:
    """Run all stages in one session and print the summary."""
    from ganrec_spark.reporting.summary import metrics_rows, print_summary
    from ganrec_spark.run.runner import run_pipeline
    from ganrec_spark.spark.session import build_session

    config = load(arguments)
    if arguments.metrics_json:
        _require_writable(Path(arguments.metrics_json))
    spark = build_session(config, f"ganrec {arguments.run_date}", "training")  # some of its stages train
    try:
        run_pipeline(spark, config, arguments.run_date, arguments.force)
        clear()
        if arguments.metrics_json:
            rows = metrics_rows(spark, config, arguments.run_date)
            Path(arguments.metrics_json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print_summary(spark, config, arguments.run_date)
    finally:
        spark.stop()
    return 0


def _require_writable(file: Path) -> None:
    """Raise ConfigError before the run, not after it, where its metrics could not be written."""
    problem = "found none" if not file.parent.is_dir() else ""
    if not problem and file.is_dir():
        problem = "found that the file is a folder"
    if not problem and not os.access(file if file.exists() else file.parent, os.W_OK):
        problem = "found that it may not be written"
    if problem:
        raise ConfigError(f"--metrics-json '{file}': expected a file in an existing folder, {problem}")


def demo_options(parser: argparse.ArgumentParser) -> None:
    pipeline_options(parser)
    parser.add_argument("--data", metavar="PATH", help="your ratings: csv, tsv, MovieLens `::` or Parquet")


def demo(arguments: argparse.Namespace) -> int:
    from ganrec_spark.lake.files import exists, lake_root
    from ganrec_spark.raw.world import write_world

    arguments.config = arguments.config or str(_bundled("demo.yaml"))
    config = load(arguments)
    if arguments.data:
        arguments.set.append(f"ingest.source={json.dumps(arguments.data)}")
    elif config.ingest.source is None:
        world = f"{lake_root(config)}/world/ratings.parquet"
        if not exists(world):
            write_world(world)
        arguments.set.append(f"ingest.source={json.dumps(world)}")
    return run_pipeline_command(arguments)


def _bundled(name: str) -> Path:
    """Return a file of conf/, in a checkout or beside an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here.parent / "conf", here / "conf"):
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"conf/{name}: expected beside the package, found none; name a file with --config")


def stages(_: argparse.Namespace) -> int:
    for stage in (*STAGES, *LOOP_STAGES):
        print(f"{stage.name:20} {stage.doc} (profile {stage.profile})")
        print(f"{'':20}   {', '.join(stage.reads) or 'sources'} -> {', '.join(stage.writes) or 'HTML'}")
    return 0


def config(arguments: argparse.Namespace) -> int:
    print(yaml.safe_dump(load(arguments).model_dump(mode="json"), sort_keys=False), end="")
    return 0


def submit_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "--stage", choices=list(STAGE_BY_NAME), metavar="STAGE", help="see `ganrec stages`; default: all"
    )
    run_date(parser)


def submit(arguments: argparse.Namespace) -> int:
    from ganrec_spark.spark.session import spark_jars_dir
    from ganrec_spark.spark.submit import secrets, submit_command

    config = load(arguments)
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
    passed_on += ["--verbose"] if arguments.verbose else []
    passed_on += [word for override in arguments.set for word in ("--set", override)]
    for stage in [STAGE_BY_NAME[arguments.stage]] if arguments.stage else STAGES:
        command = submit_command(config, stage, arguments.run_date, passed_on, spark_jars_dir().parent)
        print(shlex.join(command))
    return 0


def world_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--out", required=True, metavar="PATH", help="Parquet file to write, or a URI")
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--ratings", type=int, help="about so many, made in Spark: --out is then a new folder")
    parser.add_argument("--skew", type=float, default=1.0, help="with --ratings: popularity falls with rank ** -SKEW")
    parser.add_argument("--seed", type=int, default=7)


def world(arguments: argparse.Namespace) -> int:
    from ganrec_spark.raw.world import write_world

    if arguments.ratings is not None:
        return _large_world(arguments)
    print(f"{write_world(arguments.out, arguments.users, arguments.items, arguments.seed)} ratings in {arguments.out}")
    return 0


def _large_world(arguments: argparse.Namespace) -> int:
    from ganrec_spark.lake.files import exists
    from ganrec_spark.raw.large_world import LargeWorld
    from ganrec_spark.spark.session import build_session

    made = LargeWorld(arguments.users, arguments.items, arguments.ratings, arguments.skew, arguments.seed)
    if exists(arguments.out):
        raise ConfigError(f"--out {arguments.out}: expected a folder that is not there yet, found one")
    spark = build_session(load(arguments), "ganrec world")
    try:
        made.frame(spark).write.parquet(arguments.out)
        print(f"{spark.read.parquet(arguments.out).count()} ratings in {arguments.out}")
    finally:
        spark.stop()
    return 0
