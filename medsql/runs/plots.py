"""The plots of a report, each drawn from plain data by one function.

They are to be read in greyscale and by colour-blind readers too: colours are those of Okabe and Ito
("Color Universal Design", 2008), and marker and line style differ as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from medsql.metrics.estimate import Estimate
from medsql.runs import published

MOST_LINES = 8
"""Lines, or markers, that a reader can still tell apart in one plot."""

MOST_ROWS = 20
"""Rows of a dot plot that still fit on a page."""

TALLEST = 8.0
"""Inches of a plot that is still seen as a whole."""

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
"""Colour, marker and line style of the first, second, … run shown, the same in every plot."""

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
    """What one run logged: a value at each of the steps; `style` is its place in `LINES`.

    One without a style is drawn faint, among the others; a cross ends one that was pruned.
    """

    label: str
    style: int | None
    steps: Sequence[int]
    values: Sequence[float]
    pruned: bool = False


class Point(NamedTuple):
    """A run's cost, in any unit, and what it scored; `style` is its place in `LINES`."""

    label: str
    style: int
    cost: float
    score: Estimate


@matplotlib.rc_context(STYLE)
def loss_curves(training: Sequence[Curve], validation: Sequence[Curve]) -> Figure:
    """Training loss on the left, faint as logged and as a running mean; validation loss on the right.

    Each on a logarithmic scale of its own, which leaves out how high the first tenth of the steps lies.
    """
    figure, (left, right) = panels_of(2, across=2, height=3.2)
    for curve in training:
        if curve.style is not None:
            left.plot(curve.steps, curve.values, color=LINES[curve.style][0], alpha=0.25, linewidth=0.7)
    draw(left, [curve._replace(values=running_mean(curve.values)) for curve in training], marked=False)
    draw(right, validation)
    for axes, title, curves in ((left, "training", training), (right, "validation", validation)):
        axes.set_title(title)
        last = max(max(curve.steps) for curve in curves)
        late = [
            value
            for curve in curves
            for step, value in zip(curve.steps, curve.values)
            if step > last / 10 and value > 0
        ]
        axes.set_yscale("log")
        axes.set_ylim(min(late) / 1.05, 1.05 * max(late)) if late else None
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    left.set_ylabel("loss, nats a token (log scale)")
    legend_above(figure)
    return figure


def running_mean(values: Sequence[float]) -> list[float]:
    """Over a twentieth of all values, centred; fewer at both ends."""
    reach = len(values) // 40
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]


@matplotlib.rc_context(STYLE)
def score_curves(panels: Mapping[str, Sequence[Curve]]) -> Figure:
    """Validation scores, fractions, against steps: a panel each, on one scale from 0 to 100 %."""
    figure, grid = panels_of(len(panels), across=3, height=2.6)
    for axes, (title, curves) in zip(grid, panels.items()):
        scaled = [curve._replace(values=[100 * value for value in curve.values]) for curve in curves]
        draw(axes, scaled, clipped=False)
        axes.set(title=f"{title}, %", ylim=(0, 100))
    legend_above(figure)
    return figure


@matplotlib.rc_context(STYLE)
def published_losses(validation: Sequence[Curve]) -> Figure:
    """The published report's Table 1 and, beside it, validation losses of the same scale."""
    figure, (axes,) = panels_of(1, across=1, height=3.6)
    table = {"training": published.TRAINING_LOSS, "validation": published.VALIDATION_LOSS}
    for (name, losses), line in zip(table.items(), (":", "-")):
        label = f"published, {name}"
        axes.plot(
            published.STEPS, losses, color="#555555", linestyle=line, marker="o", mfc="white", label=label
        )
    draw(axes, validation)
    axes.set_ylabel("loss, nats a token")
    legend_above(figure)
    return figure


@matplotlib.rc_context(STYLE)
def dots(rows: Sequence[str], panels: Mapping[str, Sequence[Estimate | None]]) -> Figure:
    """A row for each of what is compared, a panel for each share, which is a dot with its interval.

    `panels[title][i]` belongs to `rows[i]`; the numbers stand at the right.
    """
    figure, grid = panels_of(len(panels), across=2, height=row_height(len(rows)), sharey=True)
    color, marker, _ = LINES[0]
    for axes, (title, estimates) in zip(grid, panels.items()):
        for place, estimate in enumerate(estimates):
            if estimate is not None:
                value, reach = in_percent(estimate)
                axes.errorbar(value, place, xerr=reach, fmt=marker, color=color, **ON_THE_AXIS)
                at = axes.get_yaxis_transform()
                axes.text(1.06, place, str(estimate), transform=at, va="center", fontsize=8)
        axes.set(title=f"{title}, %", xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure


def most_panels(rows: int) -> int:
    """How many panels of so many rows `dots` can draw before it is too tall."""
    return 2 * max(1, int(TALLEST / row_height(rows)))


def row_height(rows: int) -> float:
    """Inches of a panel with so many rows."""
    return 0.65 + 0.27 * rows


@matplotlib.rc_context(STYLE)
def trade_off(panels: Mapping[str, Sequence[Point]], score: str, logarithmic: Sequence[str] = ()) -> Figure:
    """What each run scored against what it cost: a panel for each cost, titled by its unit.

    Panels named in `logarithmic` have such a scale. A run keeps its marker across panels.
    """
    figure, grid = panels_of(len(panels), across=2, height=3.4, sharey=True)
    for axes, (xlabel, points) in zip(grid, panels.items()):
        for label, style, cost, estimate in points:
            value, reach = in_percent(estimate)
            color, marker, _ = LINES[style]
            axes.errorbar(cost, value, reach, fmt=marker, color=color, label=label, **ON_THE_AXIS)
        axes.set(xlabel=xlabel, ylim=(0, 100))
        costs = [point.cost for point in points]
        if xlabel in logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(0, 1.15 * max(costs))
    grid[0].set_ylabel(f"{score}, %")
    legend_above(figure)
    return figure


# --- parts of plots ---------------------------------------------------------------------------------

OTHERS = "other runs"
"""What the legend calls curves without a style of their own."""

ON_THE_AXIS: Any = {"elinewidth": 1.3, "clip_on": False, "zorder": 4}
"""Dots of scores of 0 and 100 lie on the axes, and above them."""


def panels_of(count: int, across: int, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, `height` inches each; places left over in the last line stay empty."""
    across = min(count, across)
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH, down * height), layout="constrained")
    grid = list(figure.subplots(down, across, sharey=sharey, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def draw(axes: Axes, curves: Sequence[Curve], marked: bool = True, clipped: bool = True) -> None:
    """Curves against steps, each in its own style; those without one in grey, below the others.

    Not `clipped`, markers of values that lie on the axis are whole.
    """
    for label, style, steps, values, pruned in curves:
        alone = len(steps) == 1  # a line of one value is none
        if style is None:
            dot = "." if alone else None
            axes.plot(
                steps, values, color="#b0b0b0", linewidth=0.7, marker=dot, alpha=0.7, label=OTHERS, zorder=1.5
            )
        else:
            color, marker, line = LINES[style]
            axes.plot(
                steps,
                values,
                color=color,
                linestyle=line,
                marker=marker if marked or alone else None,
                markevery=max(1, len(steps) // 12),
                mec="white",
                label=label,
                clip_on=clipped,
                zorder=3,
            )
        if pruned:
            axes.plot(steps[-1:], values[-1:], "x", color="#555555", ms=4.5, clip_on=clipped, label="pruned")
    axes.set_xlabel("optimisation steps")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def in_percent(estimate: Estimate) -> tuple[float, list[list[float]]]:
    """The value, and how far its interval reaches down and up."""
    value, low, high = (100 * part for part in estimate[:3])
    # Rounding can leave an end of the interval on the wrong side of the value by 1e-16.
    return value, [[max(0.0, value - low)], [max(0.0, high - value)]]


def legend_above(figure: Figure) -> None:
    """Every name of any panel, above the plot, in as many columns as the longest leaves room for."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    named = {label: handle for handles, labels in found for handle, label in zip(handles, labels)}
    columns = max(1, min(3, len(named), 84 // (max(map(len, named)) + 6)))
    figure.set_figheight(figure.get_figheight() + 0.2 * (-(-len(named) // columns) - 1))
    figure.legend(named.values(), named, loc="outside upper left", ncols=columns)


def thousands(value: float) -> str:
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
