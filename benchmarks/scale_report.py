"""What benchmarks/scale.py makes of its measurements: the constants that `ganrec sizing` reads, and the page."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.optimize import nnls

from ganrec_spark.cli.sizing import EXECUTOR_CORES, told
from ganrec_spark.config.load import load_config
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.sizing import GIB, MEASURES, Constants, Size, forecast

MODELS = "cheap models (CHEAP in benchmarks/refresh.py): short vectors, one epoch, no search, no fills"
CORES = 2  # of CHEAP's spark.master
RECORDED = Path(__file__).with_name("recorded.yaml")
NEAR = 0.3
LARGE, LARGE_CORES = Size(users=100_000_000, items=1_000_000, ratings=1_000_000_000), 1000
_SMALLEST = 0.01  # share of a stage's largest cost; below it errors do not count relative to the cost
_SIZES_OF_EXPONENT = 3
_WORLD = ["ratings", "users", "items"]


def constants_of(rows: pd.DataFrame, command: str) -> dict[str, Any]:
    """Return what `ganrec sizing` reads: costs are not negative, and errors count relative to what was measured."""
    done = rows[rows["outcome"] == "done"]
    return {
        "models": MODELS,
        "measured": command,
        "cores": CORES,
        "worlds": [vars(world) for world in worlds(done)],
        "left_out": [name for name in names(rows) if name not in set(done["stage"])],
        "stages": {
            name: {measure: fitted(own, measure) for measure in MEASURES}
            for name, own in ((name, done[done["stage"] == name]) for name in names(done))
        },
    }


def fitted(own: pd.DataFrame, measure: str) -> dict[str, float]:
    """Return the constants by term of one stage's measure: non-negative least squares of relative errors."""
    terms = [size.terms() for size in worlds(own)]
    found = own[measure].clip(lower=0).to_numpy(dtype=np.float64)
    scale = np.maximum(found, _SMALLEST * found.max() or 1.0)
    design = np.array([list(row.values()) for row in terms]) / scale[:, None]
    size_of_term = np.linalg.norm(design, axis=0)
    values, _ = nnls(design / size_of_term, found / scale)
    return {
        term: float(f"{value:.4g}") for term, value in zip(terms[0], values / size_of_term, strict=True) if value > 0
    }


def worlds(rows: pd.DataFrame) -> list[Size]:
    """Return the sizes of the rows, each once, in order."""
    return [
        Size(users=int(users), items=int(items), ratings=int(ratings))
        for ratings, users, items in rows[_WORLD].drop_duplicates().itertuples(index=False)
    ]


def names(rows: pd.DataFrame) -> list[str]:
    """Return the stages of the rows in the pipeline's order."""
    found = set(rows["stage"])
    return [stage.name for stage in STAGES if stage.name in found]


def exponent(ratings: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return by which power of the ratings the values grow: least squares of logarithms over the larger sizes."""
    order = np.argsort(ratings)[-_SIZES_OF_EXPONENT:]
    return float(np.polyfit(np.log(ratings[order]), np.log(values[order]), 1)[0])


def page_of(rows: pd.DataFrame, constants: dict[str, Any]) -> str:
    """Return the page: what was measured, the constants, what they forecast of a recorded run and of a large one."""
    known = Constants.of(constants)
    done = rows[rows["outcome"] == "done"]
    largest = done[done["ratings"] == done["ratings"].max()]
    lines = [
        "# What a stage costs, by ratings, users and items",
        "",
        f"Generated worlds of {' and '.join(in_words(worlds(done)))}; {constants['models']}; {CORES} cores. CPU: "
        "seconds of processors of the process and all that it started. Not called for, and so not measured: "
        f"{', '.join(constants['left_out'])}.",
        "",
        *measured_table(done),
        "",
        "Exponent: by which power of the ratings the CPU seconds grow, over the largest "
        f"{_SIZES_OF_EXPONENT} of these sizes. Forecast: CPU seconds of the last size by constants of the smaller "
        "worlds alone. Resident: the process and all that it started, at the peak; pages that processes share count in "
        "each.",
        "",
        *constants_table(constants, largest),
        "",
        "CPU seconds are the sum of the first five columns, each times the millions of ratings, users and items and "
        "the billions of pairs (users x items). Shuffled and written: MiB of the largest world. At the driver: share "
        "of its CPU seconds that the driver's Python took.",
        "",
        "## A run that was recorded",
        "",
        *recorded_table(known, yaml.safe_load(RECORDED.read_text(encoding="utf-8"))),
        "",
        f"## {LARGE.users:,} users, {LARGE.ratings:,} ratings",
        "",
        "```",
        *told(known, LARGE, load_config(environ={}), LARGE_CORES, EXECUTOR_CORES),
        "```",
        "",
        "## Measured by",
        "",
        "```bash",
        f".venv/bin/python {constants['measured']}",
        "```",
        "",
    ]
    return "\n".join(lines)


def in_words(sizes: Iterable[Size]) -> list[str]:
    """Return each size in words, those that differ in ratings alone together."""
    return [f"{size.ratings:,} ratings x {size.users:,} users x {size.items:,} items" for size in sizes]


def measured_table(done: pd.DataFrame) -> list[str]:
    """Return the table of the worlds that grow: seconds and CPU seconds of each stage, its exponent, its forecast."""
    growing = done[done["grows"]]
    sizes = sorted(growing["ratings"].unique())
    head = " | ".join(f"{ratings:,}: s, CPU s" for ratings in sizes)
    lines = [f"| stage | {head} | exponent | forecast | resident, GiB |", "|---|" + "---|" * (len(sizes) + 3)]
    forecasts = {name: from_smaller(done[done["stage"] == name]) for name in names(done)}
    forecasts["all"] = sum(forecasts.values())
    for name, expected in forecasts.items():
        own = growing if name == "all" else growing[growing["stage"] == name]
        by_size = own.groupby("ratings")[["seconds", "cpu"]].sum()
        cells = " | ".join(f"{by_size.seconds[one]:.1f}, {by_size.cpu[one]:.1f}" for one in sizes)
        power = exponent(by_size.index.to_numpy(dtype=np.float64), by_size.cpu.to_numpy()) if len(sizes) > 1 else np.nan
        lines.append(f"| {name} | {cells} | {power:.2f} | {expected:.1f} | {own['peak'].max() / GIB:.1f} |")
    return lines


def from_smaller(own: pd.DataFrame) -> float:
    """Return the CPU seconds of a stage in the largest world, as the smaller ones forecast them."""
    smaller = own[own["ratings"] < own["ratings"].max()]
    if smaller.empty:
        return float("nan")
    (size,) = worlds(own[own["ratings"] == own["ratings"].max()])
    terms = size.terms()
    return sum(value * terms[term] for term, value in fitted(smaller, "cpu").items())


def constants_table(constants: dict[str, Any], largest: pd.DataFrame) -> list[str]:
    """Return the table of CPU seconds by term, with bytes and the driver's share in the largest world."""
    head = "a run | a million ratings | a million users | a million items | a billion pairs"
    lines = [f"| stage | {head} | at the driver | shuffled | written |", "|---|" + "---|" * 8]
    rows = largest.set_index("stage")
    for name, measures in constants["stages"].items():
        cells = " | ".join(shown(measures["cpu"].get(term, 0.0)) for term in Size(1, 1, 1).terms())
        own = rows.loc[name]
        lines.append(
            f"| {name} | {cells} | {own.driver_cpu / own.cpu:.0%} | {own.shuffled / 2**20:,.0f} | "
            f"{own.written / 2**20:,.1f} |"
        )
    return lines


def recorded_table(constants: Constants, recorded: dict[str, Any]) -> list[str]:
    """Return the table of recorded seconds and of those that the constants forecast on as many cores."""
    runs = recorded["runs"]
    forecasts = [
        {one.stage: one.seconds for one in forecast(constants, Size(run["users"], run["items"], run["ratings"]), CORES)}
        for run in runs
    ]
    head = " | ".join(f"{run['ratings']:,} ratings, {run['users']:,} users | forecast | off by" for run in runs)
    lines = [f"| stage, s | {head} |", "|---|" + "---|" * 3 * len(runs)]
    errors = []
    for stages, seconds in recorded["seconds"].items():
        names_of = [list(found) if stages == "all" else stages.split("+") for found in forecasts]
        sums = [sum(found[name] for name in own) for found, own in zip(forecasts, names_of, strict=True)]
        off = [found / was - 1 for found, was in zip(sums, seconds, strict=True)]
        errors.append(off[-1])
        cells = (f"{was} | {found:.0f} | {error:+.0%}" for was, found, error in zip(seconds, sums, off, strict=True))
        lines.append(f"| {' and '.join(stages.split('+'))} | {' | '.join(cells)} |")
    near = sum(abs(error) <= NEAR for error in errors[:-1])
    beside = "; ".join(f"beside that of {run['ratings']:,} ratings ran {run['beside']}" for run in runs)
    return [
        f"Of the run of {runs[-1]['ratings']:,} ratings, {near} of {len(errors) - 1} lines are forecast within "
        f"{NEAR:.0%}, and all together is off by {errors[-1]:+.0%}. Recorded before, by older code, on {CORES} cores; "
        f"{beside}. A forecast takes all cores to be busy, so it should be too low rather than too high.",
        "",
        *lines,
    ]


def shown(value: float) -> str:
    """Return three digits of a constant, nothing of one that is 0."""
    return f"{value:,.3g}" if value else ""
