"""The commands that read or turn what is in the lake: publications, explain, rollback, digest, fill-wanted, sql."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ganrec_spark.cli.console import clear
from ganrec_spark.cli.options import common, load
from ganrec_spark.errors import LakeError

if TYPE_CHECKING:
    from ganrec_spark.lake.store import Lake


def publications(arguments: argparse.Namespace) -> int:
    return with_lake(arguments, _print_publications)


def explain_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("items", nargs="*", metavar="ITEM", help="items to explain; default: the list")


def explain(arguments: argparse.Namespace) -> int:
    """Print why a user is listed what readers see, or of items why they are listed or are not."""
    from ganrec_spark.reporting.explain import explain as explained

    def show(lake: "Lake") -> None:
        lines = list(explained(lake, load(arguments), arguments.user, arguments.items))
        clear()
        print("\n".join(lines))

    return with_lake(arguments, show)


def rollback_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("--to", metavar="RUN", help="run id to point to; default: the one published before")


def rollback(arguments: argparse.Namespace) -> int:
    from ganrec_spark.lake.publication import roll_back

    return with_lake(arguments, lambda lake: print(f"published run: {roll_back(lake, arguments.to)}"))


def _print_publications(lake: "Lake") -> None:
    for position, publication in enumerate(lake.publications()):
        mark = "  <- what readers see" if position == 0 else ""
        over = f" + {len(publication.overlays)} overlays" if publication.overlays else ""
        print(f"{publication.committed_at}  {publication.run_id}  {publication.edition}{over}{mark}")


def digest(arguments: argparse.Namespace) -> int:
    from ganrec_spark.lake.publication import table_digests

    def show(lake: "Lake") -> None:
        for name, digest in table_digests(lake, arguments.run_date).items():
            print(f"{digest}  {name}")

    return with_lake(arguments, show)


def with_lake(arguments: argparse.Namespace, action: "Callable[[Lake], object]") -> int:
    """Do something with the lake that is there. Raises LakeError where there is none."""
    from ganrec_spark.lake.files import exists, is_remote, lake_root, require_store
    from ganrec_spark.lake.store import Lake
    from ganrec_spark.spark.session import build_session

    config = load(arguments)
    root = lake_root(config)
    if is_remote(root):
        require_store(root)
    elif not exists(root):
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


def fill_wanted(arguments: argparse.Namespace) -> int:
    from ganrec_spark.run import runner

    return with_lake(arguments, lambda lake: print("yes" if runner.fill_wanted(lake, arguments.run_date) else "no"))


def sql(arguments: argparse.Namespace) -> int:
    from ganrec_spark.spark.session import spark_sql_command

    print(spark_sql_command(load(arguments)))
    return 0
