"""What a report draws: curves as SVG, attention weights as a picture of one pixel a weight.

Curves take their colours and fonts from the page they stand in, so that they are right in light and dark.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

# --- curves ---

INK = "#010203"  # stands for the page's text colour
COLOURS = ("#0a0b01", "#0a0b02", "#0a0b03")  # stand for the page's --line-1 to --line-3
POINTS = 400  # of a curve; more cannot be seen at this size
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
}


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    label: str
    updates: Sequence[float]
    values: Sequence[float]
    colour: int = 0  # of COLOURS
    dashes: str = "-"  # as matplotlib writes them; tells lines apart without colour
    marker: str = ""


@dataclass(frozen=True)
class Chart:
    """Curves in one pair of axes."""

    title: str
    svg: str  # an `<svg>` element for an HTML page


def chart(title: str, unit: str, curves: Sequence[Curve], *, mark_best: bool = False) -> Chart:
    """Draw curves over updates.

    Args:
        title: what the chart shows; also its description for screen readers.
        unit: label of the vertical axis.
        curves: at least one, each with at least one point.
        mark_best: write the largest value of the first curve beside its point.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=True)
        for each in curves:
            _plot(axes, each)
        if mark_best:
            _mark(axes, curves[0])
        axes.set_xlim(left=0)
        axes.set_xlabel("updates")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda update, _: f"{update:,.0f}"))
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8.5)
        return Chart(title, _element(figure, title))


def _plot(axes: matplotlib.axes.Axes, curve: Curve) -> None:
    step = -(-len(curve.updates) // POINTS)  # every point, or so many apart, counted back from the last
    kept = slice((len(curve.updates) - 1) % step, None, step)
    axes.plot(
        list(curve.updates)[kept],
        list(curve.values)[kept],
        color=COLOURS[curve.colour],
        linestyle=curve.dashes,
        marker=curve.marker or ("o" if len(curve.updates) == 1 else None),
        markersize=3.5,
        linewidth=1.4,
        label=curve.label,
    )


def _mark(axes: matplotlib.axes.Axes, curve: Curve) -> None:
    best = max(range(len(curve.values)), key=lambda i: curve.values[i])
    at = (curve.updates[best], curve.values[best])
    axes.plot(*at, marker="o", markersize=6, color=COLOURS[curve.colour])
    axes.annotate(f"{at[1]:.1f}", at, xytext=(0, -8), textcoords="offset points", ha="center", va="top")


def _element(figure: Figure, title: str) -> str:
    """The bare `<svg>`: no header, style sheet or metadata, no ids but those in use, colours and fonts of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg[^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', svg, count=1
    )
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"\d+\.\d{3,}", _rounded, path[0]), svg)
    svg = re.sub(r"font: (?:(?:bold|700) )?([\d.]+px)[^;\"]*|font-(family): [^;\"]*;? ?", _font, svg)
    for number, colour in enumerate(COLOURS, 1):
        svg = svg.replace(colour, f"var(--line-{number})")
    return re.sub(r"\s*\n\s*", "\n", svg.replace(INK, "currentColor").replace("#000000", "currentColor"))


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"


def _font(found: re.Match[str]) -> str:
    """Keep the size of a font and leave its family to the page."""
    return "" if found[2] else f"font-size: {found[1]}"


# --- attention ---

HEAT = (47, 127, 214)  # red, green, blue; the weight is its opacity, so that any background will do


@dataclass(frozen=True)
class Picture:
    """A small image inside the page."""

    label: str
    uri: str  # data:image/png
    rows: int
    columns: int


def heat(label: str, weights: Tensor) -> Picture:
    """Weights from 0 to 1, (queries, keys), as an image of one pixel a weight."""
    rows, columns = weights.shape
    pixels = np.empty((rows, columns, 4), dtype=np.uint8)
    pixels[..., :3] = HEAT
    pixels[..., 3] = (255 * weights.float().clamp(0, 1)).round().cpu().numpy()
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="png", metadata={"Software": ""})
    return Picture(label, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), rows, columns)
