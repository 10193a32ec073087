"""What a report says of a sweep as a whole: of its seeds, of what was swept, and of the search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from medsql.runs import sweep_plots
from medsql.runs.importances import METHOD as METHOD_OF_IMPORTANCES
from medsql.runs.importances import why_none
from medsql.runs.labels import score_label, short
from medsql.runs.pages import Plot, Section, Table, left_out
from medsql.runs.plots import MOST_ROWS
from medsql.runs.recorded import Recorded, lower_is_better, ranked, score_names, unlike
from medsql.runs.seeds import (
    DIFFERENCE_COLUMNS,
    MEANS,
    METHODS,
    Configuration,
    SeedComparison,
    difference_rows,
    mean_rows,
    metric_of_all,
    title_of,
    within_shares,
)
from medsql.runs.swept import Parameter
from medsql.runs.table import decimals
from medsql.wording import counted

OF_F1 = ("token_precision", "token_recall")
"""Scores that token F1 is made of, and that it stands for where a plot has a panel for each score."""


def best_of_seeds(found: Sequence[Configuration]) -> str:
    """Which configuration has the best mean, in a sentence."""
    best = found[0]
    lower = ", lower is better" * lower_is_better(next(iter(best.runs.values())))
    name = next(iter(score_names(best.runs.values())), "")
    score = best.score(name) if name else None
    of_test = f"; test {score_label(name)} is {score.percent()} %" if score else ""
    seeds = f"over {counted(len(best.runs), 'seed')}: {best.objective().plain()}"
    return (
        f"Of {counted(len(found), 'configuration')}, {best.label} has the best mean {metric_of_all(found)} "
        f"{seeds}, on validation rows{lower}{of_test}. Intervals are over seeds."
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
    if different := unlike(run for each in found for run in each.runs.values()):
        section.texts.append(f"In no order: the runs do not all have the same {different}.")
    section.plots += _seeds_plot(found, [name for name in names if name not in OF_F1])
    columns = [
        "configuration",
        "seeds",
        f"{metric_of_all(found)}, mean",
        *[f"test {score_label(name)}" for name in names],
    ]
    section.tables.append(Table(columns, mean_rows(found, names), MEANS))
    if not same:
        section.tables.append(
            Table(["configuration", "its seeds"], [[each.label, each.seeds] for each in found])
        )
    for comparison in comparisons:
        columns = [title_of(comparison), *DIFFERENCE_COLUMNS]
        section.tables.append(Table(columns, difference_rows(comparison, names)))
    if comparisons:
        section.notes.append(METHODS)
    return section


def _seeds_plot(found: Sequence[Configuration], names: Sequence[str]) -> list[Plot]:
    shown = found[:MOST_ROWS]
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
    caption = (
        "Test scores of single seeds (rings) that finished, and their means with 95 % intervals over seeds."
    ) + left_out(len(found) - len(shown), "the table has all")
    figure = sweep_plots.seeds([each.label for each in shown], panels)
    return [Plot("seeds", figure, caption)] if panels else []


def swept_section(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> Section:
    """What each swept parameter does to the objective; `parameters` are of the runs as they stand here."""
    section = Section("What was swept")
    valued = [place for place, run in enumerate(runs) if run.standing is not None]
    shown = [parameter.of(valued) for parameter in parameters]
    shown = [parameter for parameter in shown if len(parameter.levels) > 1]
    if shown and (different := unlike(runs)):
        section.texts.append(_no_objective(different))
    if not shown or section.texts:
        return section
    standing = _standing([runs[place] for place in valued])
    axes = [_axis(parameter) for parameter in shown]
    section.plots.append(
        Plot(
            "effects",
            sweep_plots.effects(axes, standing),
            f"{standing.objective} by the value of each swept parameter, a point a run: the spread at one "
            "value is what the other parameters, and seeds, do. Means are of finished runs, of values tried "
            f"often.{_lower(standing)}{_without(len(runs) - len(valued))}",
        )
    )
    if len(shown) > 1 and len(valued) > 2:
        ticks = sweep_plots.ticks_of(standing.values, most=0)
        last = sweep_plots.Axis(standing.objective, standing.values, ticks, falling=standing.falling)
        caption = (
            f"A line a run; darker, and higher on the last axis, is better by {last.title}; the best stands "
            f"out{'' if all(standing.finished) else ', and what is not finished is faint'}.{_lower(standing)}"
        )
        figure = sweep_plots.parallel_coordinates(axes, last, standing.finished)
        section.plots.append(Plot("parallel-coordinates", figure, caption))
    return section


def _standing(runs: Sequence[Recorded]) -> sweep_plots.Standing:
    """Of runs that all have a value of the same objective."""
    values, finished = [run.standing or 0.0 for run in runs], [run.state == "finished" for run in runs]
    return sweep_plots.Standing(runs[0].metric, values, finished, lower_is_better(runs[0]))


def _no_objective(different: str) -> str:
    return f"Nothing is drawn of objectives: the runs do not all have the same {different}."


def _lower(standing: sweep_plots.Standing) -> str:
    return " Lower is better." * standing.falling


def _axis(parameter: Parameter) -> sweep_plots.Axis:
    numbers, logarithmic = parameter.numbers(), parameter.logarithmic
    ticks = (
        sweep_plots.ticks_of(numbers, logarithmic)
        if parameter.numeric
        else {float(place): str(level) for place, level in enumerate(parameter.levels)}
    )
    return sweep_plots.Axis(parameter.key, numbers, ticks, logarithmic, categories=not parameter.numeric)


def _without(count: int) -> str:
    return f" {counted(count, 'run')} without a validation {'is' if count == 1 else 'are'} left out." * bool(
        count
    )


def search_section(
    runs: Sequence[Recorded], parameters: Sequence[Parameter], found: Mapping[str, float]
) -> Section:
    """How Optuna searches went, trial by trial; and `found`, the importances of their parameters."""
    section = Section("Search")
    studies: dict[Path, list[Recorded]] = {}
    for run in runs:
        if run.trial is not None:
            studies.setdefault(run.folder.parent, []).append(run)
    for place, (folder, trials) in enumerate(studies.items(), 1):
        of = short(folder) if len(studies) > 1 else ""
        _add_history(section, trials, f"history-{place}" if place > 1 else "history", of)
    if found:
        section.plots.append(
            Plot("importances", sweep_plots.shares(found), f"Importances. {METHOD_OF_IMPORTANCES}")
        )
    elif len(parameters) > 1:
        why = why_none(runs, parameters)
        section.texts.append(f"Importances of the parameters are not given: {why}.")
    return section


def _add_history(section: Section, trials: Sequence[Recorded], name: str, of: str) -> None:
    """Draw the trials of one study; of few there is no history. `of` is said before the caption."""
    valued = [run for run in trials if run.standing is not None and run.state != "failed"]
    if len(valued) < 3:
        return
    if different := unlike(valued):
        section.texts.append(f"{of}{': ' * bool(of)}{_no_objective(different)}")
        return
    standing = _standing(valued)
    failed = [run.trial or 0 for run in trials if run.state == "failed"]
    figure = sweep_plots.history([run.trial or 0 for run in valued], standing, failed)
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in trials).items())
    caption = f"{of}{': ' * bool(of)}{standing.objective} of each trial, {states}.{_lower(standing)}"
    section.plots.append(Plot(name, figure, caption))


def pareto_front(runs: Sequence[Recorded]) -> list[Recorded]:
    """Finished runs that no other beats in trained weights and objective at once, fewest weights first.

    Empty where all have the same number of weights, or where objectives cannot be compared.
    """
    done = [run for run in ranked(runs) if "trainable" in run.parameters]
    if unlike(done) or len({run.parameters["trainable"] for run in done}) < 2:
        return []
    front: list[Recorded] = []
    falls = 1 if lower_is_better(done[0]) else -1
    # Best first, and of equals the cheapest: on the front is each that is cheaper than all before it.
    for run in sorted(done, key=lambda run: (falls * (run.standing or 0.0), run.parameters["trainable"])):
        if not front or run.parameters["trainable"] < front[-1].parameters["trainable"]:
            front.append(run)
    return front[::-1]


def add_front(section: Section, runs: Sequence[Recorded]) -> None:
    """Draw and list what an objective costs in trained weights, where there is anything to choose from."""
    chosen = pareto_front(runs)
    if not chosen:
        return
    done = [run for run in ranked(runs) if "trainable" in run.parameters]
    standing, names = _standing(done), [run.label if run in chosen else "" for run in done]
    metric, weights = standing.objective, [run.parameters["trainable"] for run in done]
    figure = sweep_plots.front(weights, standing, names, "trained weights")
    caption = (
        f"{metric} of finished runs against trained weights; on the Pareto front is what no run beats in "
        f"both.{_lower(standing)}"
    )
    section.plots.append(Plot("pareto", figure, caption))
    score = next(iter(score_names(chosen)), "")
    rows = [
        [
            run.label,
            f"{run.parameters['trainable']:,}",
            decimals(run.objective),
            *([str(run.scores.get(score, ""))] if score else []),
        ]
        for run in chosen
    ]
    columns = [
        "on the Pareto front",
        "trained weights",
        metric,
        *([f"test {score_label(score)}"] if score else []),
    ]
    section.tables.append(Table(columns, rows))
