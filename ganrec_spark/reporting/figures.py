"""The report's figures: plain data in, SVG text out. The same data gives the same bytes."""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganrec_spark.plan.members import COLOURS

Interval = tuple[float, float, float]  # value, low, high
_LONGEST = 40  # characters of a name beside an axis


def distributions(user_counts: Mapping[int, int], item_counts: Mapping[int, int], max_sparse: int) -> str:
    """Draw how many users have n ratings and how many ratings the items have, from n -> number of users (items)."""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    values = sorted(user_counts)
    colours = ["#D55E00" if value <= max_sparse else "#0072B2" for value in values]
    left.vlines(values, 0.8, [user_counts[value] for value in values], colors=colours, linewidth=2)
    left.set(xscale="log", yscale="log", xlabel="training ratings of a user", ylabel="users")
    left.set_title(f"Activity (orange: sparse, up to {max_sparse})", fontsize=10)
    ranks, counts, rank = [], [], 0
    for count in sorted(item_counts, reverse=True):
        ranks += [rank + 1, rank + item_counts[count]]
        counts += [count, count]
        rank += item_counts[count]
    right.plot(ranks, counts, color="#0072B2")
    right.set(xscale="log", yscale="log", xlabel="item, by popularity", ylabel="training ratings")
    right.set_title("Popularity", fontsize=10)
    return _svg(figure)


def training_curves(history: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> str:
    """Draw one panel per value name (loss, validation_ndcg, ...) with one line per model over epochs."""
    names = sorted(history)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        for model, points in sorted(history[name].items()):
            axis.plot(
                [epoch for epoch, _ in points], [value for _, value in points], label=model, marker=".", markersize=3
            )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=7)
    return _svg(figure)


def gate_lifts(decisions: Sequence[tuple[str, str, bool, Interval]]) -> str:
    """Draw each fill's lift for sparse users with its interval; (fill, level, accepted, lift)."""
    figure = Figure(figsize=(9, 0.6 + 0.27 * len(decisions)))
    axis = figure.subplots()
    for row, (_fill, level, accepted, (value, low, high)) in enumerate(decisions):
        colour = "#009E73" if accepted else "#0072B2" if level == "confirm" else "#999999"
        axis.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2)
        axis.plot([100 * value], [row], "o", color=colour, markersize=4)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(decisions)), [f"{fill} ({level})" for fill, level, _, _ in decisions], fontsize=8)
    axis.set_ylim(len(decisions) - 0.5, -0.5)
    axis.set_xlabel("change of sparse users' NDCG, % (grey: screened, blue: refused, green: accepted)")
    return _svg(figure)


def metric_bars(values: Mapping[tuple[str, str], Mapping[str, Interval]], segments: Sequence[str], label: str) -> str:
    """Draw one group of bars per segment, one bar per (recommender, fill); bars with fill are hatched."""
    figure = Figure(figsize=(9, 3.4))
    axis = figure.subplots()
    width = 0.8 / max(1, len(values))
    for offset, ((recommender, fill), cells) in enumerate(values.items()):
        for position, segment in enumerate(segments):
            if segment not in cells:
                continue
            value, low, high = cells[segment]
            _bar(axis, position + (offset - (len(values) - 1) / 2) * width, width, value, low, high, recommender, fill)
        suffix = "" if fill == "none" else f" + {fill}"
        hatch = "" if fill == "none" else "///"
        axis.bar([0], [0], color=COLOURS.get(recommender, "#CC79A7"), hatch=hatch, label=recommender + suffix)
    axis.set_xticks(range(len(segments)), list(segments), fontsize=8)
    axis.set_ylabel(label)
    axis.legend(fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return _svg(figure)


def group_shares(groups: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw what groups of items have, a row each: (name, share of the catalogue, of ratings, of lists)."""
    figure = Figure(figsize=(9, 0.8 + 0.24 * len(groups)))
    axis = figure.subplots()
    rows = range(len(groups))
    axis.hlines(rows, [100 * min(own) for _, *own in groups], [100 * max(own) for _, *own in groups], color="#CCCCCC")
    looks = (("the catalogue", "o", "none", 70), ("ratings", "D", "#999999", 30), ("lists", "o", "#0072B2", 22))
    for place, (label, marker, colour, size) in enumerate(looks):
        shares = [100 * own[place] for _, *own in groups]
        edge = "black" if colour == "none" else colour
        axis.scatter(
            shares, rows, s=size, marker=marker, facecolors=colour, edgecolors=edge, label=label, zorder=2 + place
        )
    # Names are the source's: a dollar sign begins no formula, and a long one must not push the drawing aside.
    axis.set_yticks(rows, [_short(name) for name, *_ in groups], fontsize=8, parse_math=False)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xlabel("share of the catalogue, of ratings and of lists, %")
    axis.legend(fontsize=7, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return _svg(figure)


def _bar(
    axis: Axes, x: float, width: float, value: float, low: float, high: float, recommender: str, fill: str
) -> None:
    hatch = "" if fill == "none" else "///"
    colour = COLOURS.get(recommender, "#CC79A7")
    spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axis.bar([x], [value], width, color=colour, hatch=hatch, yerr=spread, error_kw={"linewidth": 0.8})


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _svg(figure: Figure) -> str:
    figure.set_layout_engine("tight")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "ganrec", "svg.fonttype": "none", "axes.spines.top": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL)
