"""How pictures of the lab look: one style, colours that the colour-blind can tell apart, the same SVG each time.

Colours are those of Okabe and Ito, 2008; series differ in marker too, so that they can be told apart in grey print.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clearhead.lab.statistics import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Any = {  # of matplotlib
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "figure.facecolor": "white",
    "svg.hashsalt": "clearhead",  # the same picture is the same file
}


def panels(count: int = 1, *, height: float = 3.4, width: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; sizes in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * count, height), layout="constrained")
        axes = figure.subplots(1, count, squeeze=False)[0]
    return figure, list(axes)


def label(axes: Axes, *, x: str, y: str, title: str = "") -> None:
    """Axis labels with units, and what the panel shows."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, loc="left")


def line(axes: Axes, x: Sequence[float], y: Sequence[float | Interval], name: str, place: int = 0) -> None:
    """A series with markers, and a band where its values are intervals; `place` picks colour and marker."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    middle = [each.mean if isinstance(each, Interval) else each for each in y]
    axes.plot(x, middle, color=colour, marker=marker, label=name)
    bounds = [each for each in y if _known(each)]
    if len(bounds) == len(y):
        axes.fill_between(x, [e.low for e in bounds], [e.high for e in bounds], color=colour, alpha=0.15, linewidth=0)


def bars(axes: Axes, names: Sequence[str], values: Sequence[float | Interval]) -> None:
    """A bar for each name, with a whisker where its value is an interval."""
    for place, each in enumerate(values):
        colour = COLOURS[place % len(COLOURS)]
        if _known(each):
            whisker = [[max(each.mean - each.low, 0.0)], [max(each.high - each.mean, 0.0)]]
            axes.bar(place, each.mean, color=colour, yerr=whisker, capsize=3)
        else:
            axes.bar(place, each.mean if isinstance(each, Interval) else each, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")


def grouped(axes: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float | Interval]]) -> None:
    """Bars side by side in groups: `series` has a value for each group; one colour and name for each series."""
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        left = [at + (place - (len(series) - 1) / 2) * width for at in range(len(groups))]
        middle = [each.mean if isinstance(each, Interval) else each for each in values]
        whiskers = [(each.mean - each.low, each.high - each.mean) if _known(each) else (0.0, 0.0) for each in values]
        axes.bar(left, middle, width, color=COLOURS[place % len(COLOURS)], label=name)
        axes.errorbar(left, middle, yerr=list(zip(*whiskers, strict=True)), fmt="none", ecolor="black", capsize=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize=7)


def _known(value: float | Interval) -> TypeGuard[Interval]:
    """True for an interval with two ends; that of a single number has none, and is drawn as the number."""
    return isinstance(value, Interval) and math.isfinite(value.high - value.low)


def threshold(axes: Axes, value: float, name: str) -> None:
    """A dashed line where a criterion or a theory lies."""
    axes.axhline(value, color="#555555", linestyle="--", linewidth=1.2, label=name)


def svg(figure: Figure) -> bytes:
    """The picture as SVG, text as outlines; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The picture as PNG, 150 dots an inch, to look at."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
