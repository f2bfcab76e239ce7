"""What benchmarks/loop.py writes: one page in Markdown, and one picture of the days."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from loop_experiments import Small
from loop_world import Size
from matplotlib.figure import Figure
from scipy.stats import binom

_KINDS = {
    "a difference": "arms differ",
    "no difference": "arms list the same",
    "policy blend": "policy: the blend",
    "policy item_item": "policy: EASE alone",
    "policy popularity": "policy: popularity",
}


def write(folder: Path, days: pd.DataFrame, found: pd.DataFrame, size: Size, small: Small, command: str) -> None:
    """Write loop.md and loop.svg from the rows of all days and of all intervals, and print the page."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# The loop in worlds whose truth is known",
        "",
        f"`{command}`",
        "",
        "Simulated people, not ours, and not the whole pipeline every day: lists are those of two members and of what "
        "is "
        "trending, fused by reciprocal ranks, with the project's own functions on arrays (EASE, ALS's half-steps, "
        "`explored`, `arm_of`, `learning.effects`, `learning.estimates`). There is no search, no gate, no Transformer "
        "and no "
        "Spark. What the worlds are is said in `benchmarks/loop_world.py`.",
        "",
        *_days(days, size),
        "",
        "![clicks, concentration and items shown by day](loop.svg)",
        "",
        *_intervals(found, small),
        "",
    ]
    text = "\n".join(lines)
    (folder / "loop.md").write_text(text)
    picture(days).savefig(folder / "loop.svg", metadata={"Date": None})
    print(text)


def _days(days: pd.DataFrame, size: Size) -> Iterator[str]:
    n_seeds, last = days["seed"].nunique(), days["day"].max()
    late = days[days["day"] > last - max(1, last // 4)]
    yield f"## {last} days, {n_seeds} worlds"
    yield ""
    yield (
        f"{size.users} users and {size.items} items, {size.new_users} and {size.new_items} more a day, tastes that "
        f"walk, "
        f"items that fade, lists of {size.n}. A day has two halves: *refreshed* lists know in the second what people "
        f"did in "
        "the first. *Explored*: the last two places are drawn. *Filled*: ALS has EASE's ten best of users with five "
        "events "
        "or fewer, at weight 0.3. Clicks are those to expect by the true probabilities, as a share of what the best "
        "lists "
        "would have had for the same people at the same time; brackets hold the least and the most of the worlds. "
        f"Gini (of exposures over items) and items shown are means of the last {late['day'].nunique()} days."
    )
    yield ""
    yield "| lists | all days | against daily | last days | Gini | items shown | exposures of new items |"
    yield "|---" * 7 + "|"
    shares = _shares(days)
    for way in days["way"].unique():
        own, end = shares[way], late[late["way"] == way]
        change = own / shares["daily"] - 1
        yield (
            f"| {way} | {_spread(own, '.1%')} | {_spread(change, '+.1%')} | {_spread(_shares(end)[way], '.1%')} "
            f"| {end['gini'].mean():.2f} | {end['distinct'].mean():.0f} of {end['items'].mean():.0f} "
            f"| {end['new_shown'].mean():.1%} |"
        )


def _shares(days: pd.DataFrame) -> pd.DataFrame:
    """Return clicks as a share of the best by seed (rows) and way (columns)."""
    sums = days.groupby(["seed", "way"])[["clicks", "best"]].sum()
    return (sums["clicks"] / sums["best"]).unstack("way")


def _spread(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}} [{values.min():{form}}, {values.max():{form}}]"


def _intervals(found: pd.DataFrame, small: Small) -> Iterator[str]:
    worlds = found["seed"].nunique()
    yield f"## Do 95 % intervals hold the truth? {worlds} small worlds of each kind"
    yield ""
    yield (
        f"{small.users} users in two arms ({1 - small.control:.0%} and {small.control:.0%}, by the salted hash), "
        f"{small.days} days, lists of {small.n} of {small.items} items, models fitted on other people. The arms list "
        f"the blend "
        "and popularity, or both the blend. Policies: the "
        f"last {small.slots} places are drawn, and the log says what others would have earned there. The truth is "
        f"that of "
        f"{small.everyone:,} further people of the same world ({small.traced:,} for policies), by their probabilities. "
        f"Intervals that hold in 95 of 100 hold in {binom.ppf(0.025, worlds, 0.95):.0f} to "
        f"{binom.ppf(0.975, worlds, 0.95):.0f} of {worlds} by chance."
    )
    yield ""
    yield "| worlds | measure | hold the truth | truth | half width | say that there is a difference |"
    yield "|---" * 6 + "|"
    for (kind, name), own in found.groupby(["kind", "name"], sort=False):
        half = ((own["high"] - own["low"]) / 2).replace(np.inf, np.nan)
        tells = ((own["low"] > 0) | (own["high"] < 0)).mean()
        said = f"{tells:.0%}" if "difference" in kind else ""
        yield (
            f"| {_KINDS[kind]} | {name.replace('_', ' ')} | {own['holds'].sum()} of {len(own)} "
            f"| {own['truth'].mean():.4f} | {half.mean():.4f} | {said} |"
        )
    arms = found[found["kind"] == "a difference"].drop_duplicates("seed")
    reduction = found[found["kind"].str.contains("difference")].groupby("name")["reduction"].mean()
    effective = found[found["kind"] == "policy popularity"]["effective"].mean()
    told = ", ".join(f"{value:.0%} of {name.replace('_', ' ')}" for name, value in reduction.items())
    yield ""
    yield (
        f"Sizes of arms that do not fit their shares (p < .001): {(arms['mismatch'] < 0.001).sum()} of {len(arms)} "
        f"worlds. "
        f"What activity before takes out of the variance: {told}. Popularity's values are decided by {effective:.0f} "
        f"of "
        f"{small.users * small.days * small.slots:,} drawn exposures."
    )


def picture(days: pd.DataFrame) -> Figure:
    """Draw clicks as a share of the best, Gini, and the share of items shown, by day; the mean of all worlds."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    means = days.assign(share=days["clicks"] / days["best"], reach=days["distinct"] / days["items"])
    titles = {"share": "clicks / best possible", "gini": "Gini of exposures", "reach": "items shown / items"}
    panels = figure.subplots(1, 3)
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for way in days["way"].unique():
            own = means[means["way"] == way].groupby("day")[column].mean()
            axes.plot(own.index, own, label=way, linestyle="--" if way.startswith("static") else "-")
        axes.set(title=title, xlabel="day")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    return figure
