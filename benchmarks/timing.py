"""Timing two things in turn, so that what else the machine does meets both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

Measure = Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """One line of the table: what `medsql` and `other` came to in each of several alternating runs.

    `unit` is `s` or `MiB`, of which less is better, or something a second, of which more is. `remark` is
    what else was found, such as whether both came to the same result.
    """

    what: str
    other: str
    unit: str
    figures: list[tuple[float, float]] = field(default_factory=list)
    remark: str = ""

    @property
    def ratios(self) -> list[float]:
        """medsql's figure over the other's, one for each pair of neighbouring runs."""
        return [medsql / other for medsql, other in self.figures]

    @property
    def ratio(self) -> float:
        """The median over pairs: a slow minute of the machine slows both runs of a pair."""
        return median(self.ratios)

    @property
    def medians(self) -> tuple[float, float]:
        """medsql's median and the other's."""
        return median(medsql for medsql, _ in self.figures), median(other for _, other in self.figures)


def alternate(what: str, medsql: Measure, other: Measure, times: int) -> list[tuple[float, float]]:
    """Run A B A B …; returns the figures in pairs, and prints each pair as it comes."""
    figures = []
    for turn in range(1, times + 1):
        figures.append((medsql(), other()))
        say(f"{what}, {turn} of {times}: {figures[-1][0]:.3g} beside {figures[-1][1]:.3g}")
    return figures


def say(line: str) -> None:
    """A line of progress."""
    print(time.strftime("%H:%M:%S"), line, flush=True)
