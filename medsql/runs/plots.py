"""The plots of a report, each drawn from plain data by one function.

They are to be read in greyscale and by colour-blind readers too: colours are those of Okabe and Ito
("Color Universal Design", 2008), and marker and line style differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from medsql.runs import published

MOST_LINES = 8
"""Lines, or markers, that a reader can still tell apart in one plot."""

MOST_LABELS = 5
"""Curves whose names still find room where they end."""

MOST_ROWS = 20
"""Rows of a dot plot that still fit on a page."""

LINES: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", (0, (5, 1.5))),
    ("#009E73", "^", (0, (1, 1))),
    ("#CC79A7", "D", (0, (6, 1.5, 1, 1.5))),
    ("#000000", "v", (0, (3, 1))),
    ("#E69F00", "P", (0, (8, 2))),
    ("#56B4E9", "X", (0, (3, 1, 1, 1, 1, 1))),
    ("#777777", "*", (0, (2, 2))),
)
"""Colour, marker and line style of the first, second, … thing shown."""

INK = "#222222"
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same plot on every machine
    "font.size": 9.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "path",
    "svg.hashsalt": "medsql",  # the same plot gives the same file
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
}

WIDTH = 7.0
"""Inches, of every plot."""


class Curve(NamedTuple):
    """What one run logged: a value at each of the steps."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


class Estimate(NamedTuple):
    """A score from 0 to 1 with its 95 % interval."""

    value: float
    low: float
    high: float


class Point(NamedTuple):
    """A run's cost, in any unit, and what it scored."""

    label: str
    cost: float
    score: Estimate


@matplotlib.rc_context(STYLE)
def loss_curves(training: Sequence[Curve], validation: Sequence[Curve]) -> Figure:
    """Training loss on the left, faint as logged and as a running mean; validation loss on the right.

    Both have one logarithmic scale: the first steps would otherwise press all later ones together.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for (color, _, line), curve in zip(LINES, training):
        left.plot(curve.steps, curve.values, color=color, alpha=0.25, linewidth=0.7)
        left.plot(curve.steps, _running_mean(curve.values), color=color, linestyle=line)
    _draw(right, validation)
    left.set(title="training", ylabel="loss, nats a token (log scale)")
    right.set(title="validation")
    _log_numbers(left)
    _steps(left, right)
    _name_curves(figure, right, validation)
    return figure


def _running_mean(values: Sequence[float]) -> list[float]:
    """Over a twentieth of all values, centred; fewer at both ends."""
    reach = len(values) // 40
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]


@matplotlib.rc_context(STYLE)
def score_curves(panels: Mapping[str, Sequence[Curve]]) -> Figure:
    """Validation scores, fractions, against steps: a panel each, on one scale from 0 to 100 %."""
    figure, grid = _panels(len(panels), height=2.7)
    for axes, (title, curves) in zip(grid, panels.items()):
        _draw(axes, [curve._replace(values=[100 * value for value in curve.values]) for curve in curves])
        axes.set(title=title, ylim=(0, 100))
    grid[0].set_ylabel("validation score, %")
    _steps(*grid)
    last = [
        curve._replace(values=[100 * value for value in curve.values]) for curve in [*panels.values()][-1]
    ]
    _name_curves(figure, grid[-1], last)
    return figure


@matplotlib.rc_context(STYLE)
def published_losses(validation: Sequence[Curve]) -> Figure:
    """The published report's Table 1 and, beside it, validation losses of the same scale."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    table = (
        Curve("published, training", published.STEPS, published.TRAINING_LOSS),
        Curve("published, validation", published.STEPS, published.VALIDATION_LOSS),
    )
    for curve, line in zip(table, (":", "-")):
        axes.plot(curve.steps, curve.values, color="#555555", linestyle=line, marker="o", mfc="white")
    _draw(axes, validation)
    axes.set(ylabel="loss, nats a token")
    _steps(axes)
    _label_ends(axes, [*table, *validation], colors=["#555555"] * 2 + [line[0] for line in LINES])
    return figure


@matplotlib.rc_context(STYLE)
def dot_rows(rows: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], xlabel: str) -> Figure:
    """One row each of `rows`, and in it a dot with its interval for each of the series.

    `series[label][i]` belongs to `rows[i]`; the numbers stand at the right.
    """
    gap = 0.8 / len(series)
    height = 1.1 + len(rows) * max(0.3, 0.21 * len(series) + 0.1)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    for place, ((label, estimates), (color, marker, _)) in enumerate(zip(series.items(), LINES)):
        offset = gap * (place - (len(series) - 1) / 2)
        _dots(axes, [row + offset for row in range(len(rows))], estimates, color, marker, label)
    for row in range(1, len(rows)):
        axes.axhline(row - 0.5, color="#e4e4e4", linewidth=0.7)
    _percent_rows(axes, rows, xlabel)
    _legend(figure, *axes.get_legend_handles_labels())
    return figure


@matplotlib.rc_context(STYLE)
def configurations(rows: Sequence[str], panels: Mapping[str, Sequence[Estimate | None]]) -> Figure:
    """A row for each configuration and a panel for each score, as dots with intervals."""
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(WIDTH, down * (0.9 + 0.3 * len(rows))), layout="constrained")
    grid = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes, (title, estimates) in zip(grid, panels.items()):
        _dots(axes, range(len(rows)), estimates, LINES[0][0], LINES[0][1])
        _percent_rows(axes, rows, "%")
        axes.set_title(title)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def trade_off(panels: Mapping[str, Sequence[Point]], score: str, logarithmic: Sequence[str] = ()) -> Figure:
    """What each run scored against what it cost: a panel for each cost, titled by its unit.

    Panels named in `logarithmic` have such a scale. A run keeps its marker across panels.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    grid = list(figure.subplots(1, len(panels), sharey=True, squeeze=False).flat)
    labels = list(dict.fromkeys(point.label for points in panels.values() for point in points))
    for axes, (xlabel, points) in zip(grid, panels.items()):
        for point in points:
            color, marker, _ = LINES[labels.index(point.label)]
            value, low, high = (100 * part for part in point.score)
            axes.errorbar(
                point.cost,
                value,
                [[value - low], [high - value]],
                fmt=marker,
                color=color,
                elinewidth=1.2,
                markersize=7,
                clip_on=False,
                zorder=4,
                label=point.label,
            )
        axes.set(xlabel=xlabel, ylim=(0, 100))
        costs = [point.cost for point in points]
        if xlabel in logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(0, 1.15 * max(costs))
    grid[0].set_ylabel(f"{score}, %")
    _legend(
        figure, *max((axes.get_legend_handles_labels() for axes in grid), key=lambda found: len(found[1]))
    )
    return figure


# --- parts of plots ---------------------------------------------------------------------------------


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    across = min(count, 3)
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH, down * height), layout="constrained")
    grid = list(figure.subplots(down, across, sharey=True, sharex=True, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    for (color, marker, line), curve in zip(LINES, curves):
        every = max(1, len(curve.steps) // 12)
        axes.plot(
            curve.steps,
            curve.values,
            color=color,
            marker=marker,
            linestyle=line,
            markevery=every,
            mec="white",
        )


def _steps(*grid: Axes) -> None:
    for axes in grid:
        axes.set_xlabel("optimisation steps")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _log_numbers(axes: Axes) -> None:
    """A logarithmic axis with plain numbers on it, enough of them for less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _name_curves(figure: Figure, axes: Axes, curves: Sequence[Curve]) -> None:
    """Few curves are named where they end, more of them above the plot."""
    if len(curves) <= MOST_LABELS:
        _label_ends(axes, curves)
    else:
        _legend(figure, axes.lines[-len(curves) :], [curve.label for curve in curves])


def _label_ends(axes: Axes, curves: Sequence[Curve], colors: Sequence[str] | None = None) -> None:
    """Each curve's name at the right, joined to where it ends; pushed apart where ends lie close together."""
    axes.set_ylim(axes.get_ylim())  # heights below are shares of these limits
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [float(to_axes.transform((curve.steps[-1], curve.values[-1]))[1]) for curve in curves]
    heights = _apart(ends, 0.075)
    for place, (curve, height) in enumerate(zip(curves, heights)):
        color = colors[place] if colors else LINES[place][0]
        axes.annotate(
            curve.label,
            xy=(curve.steps[-1], curve.values[-1]),
            xytext=(1.07, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.6,
                "linestyle": (0, (2, 2)),  # no part of the curve
                "relpos": (0, 0.5),  # from the left end of the name
                "shrinkA": 2,
                "shrinkB": 4,
            },
        )


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """The heights in their order, moved no further than it takes to lie `gap` apart around their middle."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = list(heights)
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    excess = sum(moved) / len(moved) - sum(heights) / len(heights) if moved else 0.0
    return [height - excess for height in moved]


def _dots(
    axes: Axes,
    heights: Sequence[float],
    estimates: Sequence[Estimate | None],
    color: str,
    marker: str,
    label: str | None = None,
) -> None:
    """Dots with intervals, and their numbers in a column at the right of the axes."""
    for height, estimate in zip(heights, estimates):
        if estimate is None:
            continue
        value, low, high = (100 * part for part in estimate)
        # Rounding can leave an end of the interval on the wrong side of the value by 1e-16.
        reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar(
            value,
            height,
            xerr=reach,
            fmt=marker,
            color=color,
            elinewidth=1.3,
            clip_on=False,
            zorder=4,  # above the axis, on which a score of 0 lies
            label=label,
        )
        label = None  # one entry in the legend
        axes.text(
            1.03,
            height,
            f"{value:.1f} ({low:.1f}–{high:.1f})",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the plot, in as many columns as the longest name leaves room for."""
    columns = max(1, min(3, len(labels), 84 // (max(map(len, labels)) + 6)))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def _percent_rows(axes: Axes, rows: Sequence[str], xlabel: str) -> None:
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _thousands(value: float) -> str:
    """`147456` → `147 k`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


# --- files ------------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def as_png(figure: Figure) -> bytes:
    """The plot as a picture, white behind it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=160, metadata={"Software": None})
    return picture.getvalue()


@matplotlib.rc_context(STYLE)
def as_svg(figure: Figure) -> str:
    """The plot as a whole SVG file."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def inline_svg(svg: str, name: str, described: str) -> str:
    """A whole SVG file as an element of an HTML page, with ids that no other plot there has."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{described}"', 1)
