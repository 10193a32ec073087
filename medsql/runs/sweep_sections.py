"""What a report says of a sweep as a whole: of its seeds, of what was swept, and of the search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from medsql.runs import sweep_plots
from medsql.runs.importances import FEWEST
from medsql.runs.importances import METHOD as METHOD_OF_IMPORTANCES
from medsql.runs.labels import score_label
from medsql.runs.pages import Plot, Section, Table
from medsql.runs.plots import MOST_ROWS
from medsql.runs.recorded import Recorded, counted, lower_is_better, ranked, score_names, unlike
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
from medsql.runs.swept import Parameter
from medsql.runs.table import decimals

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


def swept_section(runs: Sequence[Recorded], parameters: Sequence[Parameter]) -> Section:
    """What each swept parameter does to the objective; `parameters` are of the runs as they stand here."""
    section = Section("What was swept")
    valued = [place for place, run in enumerate(runs) if run.standing is not None]
    shown = [parameter.of(valued) for parameter in parameters]
    shown = [parameter for parameter in shown if len(parameter.levels) > 1]
    if not shown or unlike(runs):
        return section
    standing = [runs[place] for place in valued]
    objective = [run.standing or 0.0 for run in standing]
    finished = [run.state == "finished" for run in standing]
    axes = [_axis(parameter) for parameter in shown]
    section.plots.append(
        Plot(
            "effects",
            sweep_plots.effects(axes, sweep_plots.Standing(standing[0].metric, objective, finished)),
            f"{standing[0].metric} by the value of each swept parameter, a point a run: the spread at one "
            f"value is what the other parameters, and seeds, do.{_without(len(runs) - len(valued))}",
        )
    )
    if len(shown) > 1 and len(standing) > 2:
        falling = lower_is_better(standing[0])
        last = sweep_plots.Axis(
            standing[0].metric, objective, sweep_plots.ticks_of(objective, most=0), falling=falling
        )
        caption = (
            f"A line a run; darker, and higher on the last axis, is better by {last.title}; the best stands "
            f"out{'' if all(finished) else ', and what is not finished is faint'}."
        )
        figure = sweep_plots.parallel_coordinates(axes, last, finished)
        section.plots.append(Plot("parallel-coordinates", figure, caption))
    return section


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
    """How an Optuna search went, trial by trial; and `found`, the importances of its parameters."""
    section = Section("Search")
    trials = [
        run for run in runs if run.trial is not None and run.standing is not None and run.state != "failed"
    ]
    if len(trials) > 2 and not unlike(runs):
        failed = [run.trial for run in runs if run.state == "failed" and run.trial is not None]
        standing = sweep_plots.Standing(
            trials[0].metric,
            [run.standing or 0.0 for run in trials],
            [run.state == "finished" for run in trials],
        )
        numbers = [run.trial or 0 for run in trials]
        figure = sweep_plots.history(numbers, standing, failed, lower_is_better(trials[0]))
        states = Counter(run.state for run in runs)
        caption = (
            f"{standing.objective} of each trial: {', '.join(f'{n} {state}' for state, n in states.items())}."
        )
        section.plots.append(Plot("history", figure, caption))
    if found:
        section.plots.append(
            Plot("importances", sweep_plots.shares(found), f"Importances. {METHOD_OF_IMPORTANCES}")
        )
    elif len(parameters) > 1 and not unlike(runs):
        done = len(ranked(runs))
        if done < FEWEST:
            section.texts.append(
                f"Importances of the parameters are not given: {counted(done, 'finished run')} "
                f"{'is' if done == 1 else 'are'} too few, {FEWEST} are needed."
            )
    return section


def pareto_front(runs: Sequence[Recorded]) -> list[Recorded]:
    """Finished runs that no other beats in trained weights and objective at once, fewest weights first.

    Empty where all have the same number of weights, or where objectives cannot be compared.
    """
    done = [run for run in ranked(runs) if "trainable" in run.parameters]
    if unlike(runs) or len({run.parameters["trainable"] for run in done}) < 2:
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
    metric, names = done[0].metric, [run.label if run in chosen else "" for run in done]
    figure = sweep_plots.front(
        [run.parameters["trainable"] for run in done],
        [run.standing or 0.0 for run in done],
        names,
        "trained weights",
        metric,
    )
    caption = f"{metric} against trained weights; on the Pareto front is what no run beats in both."
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
