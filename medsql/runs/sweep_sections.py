"""What a report says of a sweep as a whole: of its seeds, of what was swept, and of the search."""

from __future__ import annotations

from collections.abc import Sequence

from medsql.runs import sweep_plots
from medsql.runs.labels import score_label
from medsql.runs.pages import Plot, Section, Table
from medsql.runs.plots import MOST_ROWS
from medsql.runs.recorded import counted, score_names
from medsql.runs.seeds import (
    MEANS,
    METHODS,
    Configuration,
    SeedComparison,
    difference_rows,
    mean_rows,
    title_of,
    within_shares,
)

OF_F1 = ("token_precision", "token_recall")
"""Scores that token F1 is made of, and that it stands for where a plot has a panel for each score."""


def best_of_seeds(found: Sequence[Configuration]) -> str:
    """Which configuration has the best mean, in a sentence."""
    best = found[0]
    name = next(iter(score_names(best.runs.values())), "")
    score = best.score(name) if name else None
    of_test = f"; test {score_label(name)} is {score.percent()} %" if score else ""
    return (
        f"Of {counted(len(found), 'configuration')}, {best.label} has the best mean {_metric(found)} over "
        f"{counted(len(best.runs), 'seed')}: {best.objective().plain()}, on validation rows{of_test}. "
        "Intervals are over seeds."
    )


def seeds_section(found: Sequence[Configuration], comparisons: Sequence[SeedComparison]) -> Section:
    """Each configuration's means over seeds, and how they differ."""
    section = Section("Seeds")
    if not found:
        return section
    names = score_names(run for each in found for run in each.runs.values())
    names = [name for name in names if any(each.score(name) for each in found)]
    same = len({each.seeds for each in found}) == 1
    if same:
        section.texts.append(f"Every configuration was run with the seeds {found[0].seeds}.")
    section.plots += _seeds_plot(found[:MOST_ROWS], [name for name in names if name not in OF_F1])
    columns = [
        "configuration",
        "seeds",
        f"{_metric(found)}, mean",
        *[f"test {score_label(name)}" for name in names],
    ]
    section.tables.append(Table(columns, mean_rows(found, names), MEANS))
    if not same:
        section.tables.append(
            Table(["configuration", "its seeds"], [[each.label, each.seeds] for each in found])
        )
    for comparison in comparisons:
        columns = [
            title_of(comparison),
            "points, over rows",
            "p, over rows",
            "points, over seeds",
            "p, over seeds",
        ]
        section.tables.append(Table(columns, difference_rows(comparison, names)))
    if comparisons:
        section.notes.append(METHODS)
    return section


def _seeds_plot(shown: Sequence[Configuration], names: Sequence[str]) -> list[Plot]:
    panels = {
        score_label(name): [
            None
            if (score := each.score(name)) is None
            else (
                [run.scores[name].value for run in each.runs.values()],
                score.interval and within_shares(score.interval),
            )
            for each in shown
        ]
        for name in names
    }
    caption = "Test scores of single seeds (rings), and their means with 95 % intervals over seeds."
    figure = sweep_plots.seeds([each.label for each in shown], panels)
    return [Plot("seeds", figure, caption)] if panels else []


def _metric(found: Sequence[Configuration]) -> str:
    return next(iter(found[0].runs.values())).metric
