"""The plots of a sweep: what its runs came to, by their seeds and by what was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

from medsql.metrics.estimate import Estimate
from medsql.runs.plots import LINES, ON_THE_AXIS, STYLE, in_percent, panels_of, row_height


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
