"""The command sizing: what a run of a size takes, before there is data for it."""

import argparse
from dataclasses import astuple

from ganrec_spark.cli.options import common, load
from ganrec_spark.config.sections import Config
from ganrec_spark.sizing import (
    CONSTANTS,
    GIB,
    Constants,
    Limit,
    Size,
    StageForecast,
    executors_of,
    forecast,
    limits,
    memory,
)

EXECUTOR_CORES = 4
_HOUR = 3600


def sizing_options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    for name, what in (("users", "users with ratings"), ("items", "items with ratings"), ("ratings", "ratings")):
        parser.add_argument(f"--{name}", type=int, required=True, help=f"how many {what}")
    parser.add_argument("--cores", type=int, required=True, help="cores of all executors together")
    parser.add_argument("--executor-cores", type=int, default=EXECUTOR_CORES, help="cores of one executor")


def sizing(arguments: argparse.Namespace) -> int:
    """Print hours and bytes of each stage, where they were measured, executors and memory, and what breaks first."""
    size = Size(users=arguments.users, items=arguments.items, ratings=arguments.ratings)
    constants = Constants.read() if CONSTANTS.exists() else None
    print("\n".join(told(constants, size, load(arguments), arguments.cores, arguments.executor_cores)))
    return 0


def told(constants: Constants | None, size: Size, config: Config, cores: int, executor_cores: int) -> list[str]:
    """Return what the command prints, line by line; without constants no hours."""
    if constants is None:
        hours = ["Hours and bytes: no constants were measured yet; benchmarks/scale.py does (docs/scaling.md)."]
    else:
        hours = [*_basis(constants, size), "", *_hours(forecast(constants, size, cores), cores)]
    return [
        f"{size.ratings:,} ratings, {size.users:,} users, {size.items:,} items.",
        *hours,
        "",
        *_machines(size, config, cores, executor_cores),
        "",
        *_breaks(limits(size, config, cores)),
    ]


def _basis(constants: Constants, size: Size) -> list[str]:
    """Return what the forecast is taken from, and how far it goes beyond it."""
    largest, smallest = constants.largest, min(world.ratings for world in constants.worlds)
    most = {name: max(vars(world)[name] for world in constants.worlds) for name in vars(size)}
    beyond = [f"{value / most[name]:,.0f} times the {name}" for name, value in vars(size).items() if value > most[name]]
    return [
        f"Taken from {len(constants.worlds)} generated worlds of {smallest:,} to {largest.ratings:,} ratings on "
        f"{constants.cores} cores ({constants.measured}).",
        f"Extrapolated to {', '.join(beyond)} of the largest of them." if beyond else "Within their sizes.",
        f"Settings: {constants.models}. The shipped models take longer; by how much is not measured. Not in it: "
        f"{', '.join(constants.left_out)}.",
    ]


def _hours(stages: list[StageForecast], cores: int) -> list[str]:
    """Return a line a stage, and one of all."""
    head = ("core hours", "hours", "of it driver", "GiB shuffled", "GiB lake")
    together = StageForecast("all", *map(sum, zip(*(astuple(one)[1:] for one in stages), strict=True)))
    return [
        f"{'stage':20}" + "".join(f"{words:>14}" for words in head),
        *(_line(one) for one in (*stages, together)),
        f"Hours on {cores:,} cores are a lower bound: no core waits, no task is tried twice.",
    ]


def _line(one: StageForecast) -> str:
    hours = (one.cpu / _HOUR, one.seconds / _HOUR, one.driver_seconds / _HOUR)
    numbers = (*hours, one.shuffled / GIB, one.written / GIB)
    return f"{one.stage:20}" + "".join(f"{number:14,.2f}" for number in numbers)


def _machines(size: Size, config: Config, cores: int, executor_cores: int) -> list[str]:
    """Return how many executors, and the memory of executors and driver as Spark's properties."""
    executors = executors_of(cores, executor_cores)
    need = memory(size, config, executors, executor_cores)
    return [
        f"{executors:,} executors of {executor_cores} cores:",
        f"  spark.executor.memory {_gib(need.executor_heap)}",
        f"  spark.executor.memoryOverhead {_gib(need.executor_overhead)}: most for {need.executor_most}",
        f"the driver: spark.driver_memory {_gib(need.driver_heap)}",
        f"  beside it, for Python, {_gib(need.driver_python)}: most for {need.driver_most}",
    ]


def _breaks(found: list[Limit]) -> list[str]:
    """Return what is beyond its bound, that which is furthest first, then what comes next."""
    broken = [limit for limit in found if limit.share > 1]
    lines = ["Beyond their bounds, the furthest first:" if broken else "Nothing is beyond its bound."]
    lines += [f"  {_limit(limit)}" for limit in broken]
    lines += [f"Next: {_limit(limit)}" for limit in found[len(broken) :][:1]]
    return lines


def _limit(limit: Limit) -> str:
    key = "no key changes it" if limit.key == "none" else limit.key
    return f"{limit.what}: {_number(limit.found)}, the bound is {_number(limit.bound)} ({key}); beyond it {limit.then}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(size: float) -> str:
    return f"{-(-size // GIB):.0f}g"
