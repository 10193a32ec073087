"""The plots of a sweep: what its runs came to, by their seeds and by what was swept."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import log10
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from medsql.metrics.estimate import Estimate
from medsql.runs.plots import (
    LINES,
    ON_THE_AXIS,
    STYLE,
    WIDTH,
    in_percent,
    legend_above,
    panels_of,
    row_height,
    thousands,
)


@matplotlib.rc_context(STYLE)
def seeds(
    rows: Sequence[str], panels: Mapping[str, Sequence[tuple[Sequence[float], Estimate | None] | None]]
) -> Figure:
    """A row for each configuration, a panel for each share: a ring a seed, and the mean with its interval.

    `panels[title][i]` belongs to `rows[i]`; the numbers stand at the right.
    """
    figure, grid = panels_of(len(panels), across=2, height=row_height(len(rows)), sharey=True)
    color, marker, _ = LINES[0]
    for axes, (title, found) in zip(grid, panels.items()):
        for place, (values, mean) in ((place, each) for place, each in enumerate(found) if each is not None):
            percent = [100 * value for value in values]
            axes.plot(percent, [place] * len(values), "o", mfc="none", mec="#888888", clip_on=False, zorder=3)
            at = axes.get_yaxis_transform()
            if mean is None:
                axes.text(1.06, place, f"{fmean(percent):.1f}", transform=at, va="center", fontsize=8)
            else:
                value, reach = in_percent(mean)
                axes.errorbar(value, place, xerr=reach, fmt=marker, color=color, **ON_THE_AXIS)
                axes.text(1.06, place, str(mean), transform=at, va="center", fontsize=8)
        axes.set(title=f"{title}, %", xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure


class Axis(NamedTuple):
    """A swept parameter as an axis: `values[i]` is where the i-th run lies on it.

    `ticks` are the places that are named: all of them where they are few. An axis of categories has one for
    each. Better values of an objective are at the upper end of its axis, `falling` where these are the lower.
    """

    title: str
    values: Sequence[float]
    ticks: Mapping[float, str]
    logarithmic: bool = False
    categories: bool = False
    falling: bool = False


class Standing(NamedTuple):
    """What the runs came to, best finished one first: the objective of each, and whether that is final.

    `falling` where lower is better.
    """

    objective: str
    values: Sequence[float]
    finished: Sequence[bool]
    falling: bool = False

    @property
    def logarithmic(self) -> bool:
        """Of a loss of which a few diverged, so that these do not press the others together."""
        return self.falling and min(self.values) > 0 and max(self.values) / min(self.values) > 10

    @property
    def title(self) -> str:
        """What its axis is called: `val/loss (lower is better, log scale)`."""
        said = [*["lower is better"] * self.falling, *["log scale"] * self.logarithmic]
        return f"{self.objective} ({', '.join(said)})" if said else self.objective


@matplotlib.rc_context(STYLE)
def effects(parameters: Sequence[Axis], standing: Standing) -> Figure:
    """A panel for each parameter: every run's objective at its value, and the mean of values tried often."""
    figure, grid = panels_of(len(parameters), across=min(3, len(parameters)), height=2.7, sharey=True)
    color, other = LINES[0][0], LINES[1][0]
    spread = standing.values
    for axes, parameter in zip(grid, parameters):
        places = _apart(parameter)
        for final, style in ((False, _unfinished()), (True, _dot(color))):
            chosen = [i for i, done in enumerate(standing.finished) if done == final]
            label = "finished run" if final else "not finished: last validation"
            if chosen:
                axes.plot([places[i] for i in chosen], [spread[i] for i in chosen], label=label, **style)
        if means := _means(parameter, standing):
            line = "none" if parameter.categories else "-"
            axes.plot(
                *zip(*means),
                color=other,
                linestyle=line,
                marker="D",
                mec="white",
                ms=7,
                zorder=6,
                label="mean of finished runs",
            )
        _put_on_x(axes, parameter)
    grid[0].set_ylabel(standing.title)
    for axes in grid:
        _objective_scale(axes, standing)
    legend_above(figure)
    return figure


MARKED: Any = {"linestyle": "none", "clip_on": False}
"""Markers without a line; those that lie on an axis are whole."""


def _dot(color: str) -> Any:
    return MARKED | {"marker": "o", "color": color, "alpha": 0.65, "mec": "white", "zorder": 5}


def _unfinished() -> Any:
    return MARKED | {"marker": "x", "color": "#999999", "ms": 4, "zorder": 4}


def _apart(parameter: Axis) -> list[float]:
    """Runs of one category beside each other, so that none hides another."""
    if not parameter.categories:
        return [*parameter.values]
    seen: Counter[float] = Counter()
    places = []
    for value in parameter.values:
        step, seen[value] = seen[value] % 7, seen[value] + 1
        places.append(value + 0.08 * ((step + 1) // 2) * (1 if step % 2 else -1))
    return places


def _means(parameter: Axis, standing: Standing) -> list[tuple[float, float]]:
    """The mean of finished runs at each value, where values come again."""
    found: dict[float, list[float]] = {}
    for value, objective, finished in zip(parameter.values, standing.values, standing.finished):
        if finished:
            found.setdefault(value, []).append(objective)
    if not found or sum(map(len, found.values())) < 2 * len(found):
        return []
    return [(value, fmean(found[value])) for value in sorted(found)]


def _put_on_x(axes: Axes, parameter: Axis) -> None:
    axes.set_xlabel(parameter.title)
    if parameter.logarithmic:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(parameter.ticks), list(parameter.ticks.values()))
    if parameter.categories:
        axes.set_xlim(-0.6, max(parameter.ticks) + 0.6)
    if sum(map(len, parameter.ticks.values())) > 20:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")


def _objective_scale(axes: Axes, standing: Standing) -> None:
    """Set the scale, once all is drawn: no score lies below 0 or above 1, and no loss below 0."""
    if not standing.logarithmic:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), high if standing.falling else min(high, 1))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


@matplotlib.rc_context(STYLE)
def parallel_coordinates(parameters: Sequence[Axis], objective: Axis, finished: Sequence[bool]) -> Figure:
    """A line a run across an axis for each parameter and, last, the objective, which is its colour.

    Better is higher there and darker; the best, the first run, is drawn above all, and runs that are not
    finished faint.
    """
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    every = [*parameters, objective]
    room = int(90 / len(every))  # characters of a name that fit between two axes
    heights = [_heights(axis, axis.values) for axis in every]
    lines = [*zip(*heights)]
    colors = matplotlib.colormaps["cividis_r"]
    width = max(0.6, min(1.8, 40 / len(lines)))
    best = finished.index(True) if True in finished else None
    for place in sorted(range(len(lines)), key=lambda i: (finished[i], heights[-1][i])):
        if not finished[place]:
            style: dict[str, Any] = {
                "color": "#aaaaaa",
                "alpha": 0.45,
                "linewidth": 0.7,
                "linestyle": (0, (3, 2)),
            }
        elif place == best:
            style = {"color": LINES[1][0], "linewidth": 2.6, "zorder": 5}
        else:
            style = {"color": colors(0.1 + 0.9 * heights[-1][place]), "alpha": 0.8, "linewidth": width}
        axes.plot(range(len(every)), lines[place], **style)
    for place, axis in enumerate(every):
        axes.axvline(place, color="#555555", linewidth=1, zorder=6)
        for at, name in zip(_heights(axis, [*axis.ticks]), axis.ticks.values()):
            last = place == len(every) - 1
            axes.plot([place], [at], marker="_", color="#555555", ms=6, zorder=7)
            axes.annotate(
                textwrap.fill(name, room, max_lines=2, placeholder="…"),
                (place, at),
                xytext=(6 if last else -5, 0),
                textcoords="offset points",
                ha="left" if last else "right",
                va="center",
                fontsize=8,
                zorder=8,
                bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
            )
    axes.set_xticks(range(len(every)), [_in_lines(axis.title, room) for axis in every])
    axes.tick_params(axis="x", length=0, labelsize=9, labeltop=True, labelbottom=False)
    axes.set(ylim=(-0.05, 1.05), xlim=(-0.45, len(every) - 0.55), yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _in_lines(key: str, longest: int) -> str:
    """`optim.label_smoothing` in a line for each part, and where these are too long, for each word."""
    parts = key.replace(".", ".\n").replace("/", "/\n").split("\n")
    return "\n".join(part if len(part) <= longest else part.replace("_", "_\n") for part in parts)


def _heights(axis: Axis, values: Sequence[float]) -> list[float]:
    """From 0 to 1 between the axis's least and greatest value."""
    scaled = [log10(value) for value in values] if axis.logarithmic else [*values]
    ends = [log10(value) for value in axis.values] if axis.logarithmic else [*axis.values]
    low, high = min(ends), max(ends)
    found = [(value - low) / (high - low) if high > low else 0.5 for value in scaled]
    return [1 - height for height in found] if axis.falling else found


def ticks_of(values: Sequence[float], logarithmic: bool = False, most: int = 6) -> dict[float, str]:
    """The places to be named: every value where they are few, else round ones between their ends."""
    found = sorted(set(values))
    low, high = found[0], found[-1]
    if len(found) > most:
        locator = LogLocator(subs=(1, 3)) if logarithmic else MaxNLocator(4)
        found = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    named: dict[float, str] = {}
    last = 0.0
    for value in found:
        place = log10(value) if logarithmic else value
        span = log10(high / low) if logarithmic else high - low
        if not named or place - last >= 0.09 * span:  # names of closer ones would overlap
            named[float(value)] = f"{value:.{3 if abs(value) < 1000 else 6}g}"
            last = place
    return named


@matplotlib.rc_context(STYLE)
def history(trials: Sequence[int], standing: Standing, failed: Sequence[int]) -> Figure:
    """The objective of each trial, the best so far as a line, and trials that failed as ticks below."""
    figure, (axes,) = panels_of(1, across=1, height=3.2)
    order = sorted(range(len(trials)), key=lambda i: trials[i])
    for final, style in ((False, _unfinished()), (True, _dot(LINES[0][0]))):
        chosen = [i for i in order if standing.finished[i] == final]
        label = "finished" if final else "not finished: last validation"
        if chosen:
            axes.plot([trials[i] for i in chosen], [standing.values[i] for i in chosen], label=label, **style)
    done = [i for i in order if standing.finished[i]]
    best = [*accumulate((standing.values[i] for i in done), min if standing.falling else max)]
    if done:
        steps = [*(trials[i] for i in done), max(*trials, *failed, trials[done[-1]])]
        axes.step(steps, [*best, best[-1]], where="post", color=LINES[1][0], label="best so far")
    if failed:
        at = axes.get_xaxis_transform()
        axes.plot(
            failed, [0.02] * len(failed), "|", color="black", ms=9, mew=1.6, transform=at, label="failed"
        )
    _objective_scale(axes, standing)
    axes.set(xlabel="trial", ylabel=standing.title)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    legend_above(figure)
    return figure


@matplotlib.rc_context(STYLE)
def shares(found: Mapping[str, float]) -> Figure:
    """A bar for each name, as long as its share of 1."""
    figure, (axes,) = panels_of(1, across=1, height=row_height(len(found)))
    bars = axes.barh([*found], [*found.values()], color=LINES[0][0], height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8.5)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    return figure


@matplotlib.rc_context(STYLE)
def front(costs: Sequence[float], standing: Standing, on_front: Sequence[str], unit: str) -> Figure:
    """Objective against cost: a run each, those that no other beats in both joined by steps and named.

    All have finished. `on_front[i]` is the name of the i-th run where it is one of these, else empty.
    """
    figure, (axes,) = panels_of(1, across=1, height=3.4)
    style = _dot("#888888")
    axes.plot(costs, standing.values, label="finished run", **style)
    best = sorted((costs[i], standing.values[i], name) for i, name in enumerate(on_front) if name)
    axes.step(
        [cost for cost, *_ in best],
        [value for _, value, _ in best],
        where="post",
        color=LINES[1][0],
        marker="D",
        mec="white",
        zorder=6,
        label="Pareto front",
    )
    for cost, value, name in best:
        left = cost == best[-1][0] and len(best) > 1  # towards the middle, and on the other side of the front
        above = left != standing.falling or value == 0  # below are the names of the axis
        axes.annotate(
            name,
            (cost, value),
            xytext=(-7 if left else 6, 5 if above else -5),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom" if above else "top",
            fontsize=8,
            zorder=8,
        )
    if logarithmic := min(costs) > 0 and max(costs) / min(costs) >= 3:
        axes.set_xscale("log")
        axes.set_xticks(list(ticks_of(costs, logarithmic=True)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axes.margins(x=0.12, y=0.12)
    _objective_scale(axes, standing)
    axes.set(xlabel=f"{unit} (log scale)" if logarithmic else unit, ylabel=standing.title)
    legend_above(figure)
    return figure
