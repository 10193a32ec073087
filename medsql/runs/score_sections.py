"""What a report says of scores: those of evaluations and how they differ, and of runs with what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from medsql.runs import plots
from medsql.runs.differences import METHODS, Comparison
from medsql.runs.labels import score_label, state_label
from medsql.runs.pages import Plot, Section, Table, left_out
from medsql.runs.plots import MOST_LINES, MOST_ROWS, Point
from medsql.runs.recorded import (
    Recorded,
    by_rows,
    differing_settings,
    lower_is_better,
    metric_of,
    on_losses,
    ranked,
    remarks,
    score_names,
    unlike,
)
from medsql.runs.sweep_sections import OF_F1, add_front
from medsql.runs.table import decimals
from medsql.wording import counted

LONGEST_ERROR = 120
"""Characters of an error that a table has room for; the run's log has all of it."""

MOST_BESIDE = 3
"""Test scores that fit beside what else is told of a run."""

INTERVALS = (
    "Percent, with 95 % intervals in brackets: Wilson's of shares (exact match, logical form, execution, "
    "validity), the percentile bootstrap's over rows of means (token overlap). They cover the choice of "
    "rows, not that of seeds."
)
CASE = (
    " Exact match ignores the case of values and logical form does not, so exact match can be the higher of "
    "the two."
)


def evaluations_section(scored: Sequence[Recorded]) -> Section:
    """Evaluations with their scores, those of the same rows in a plot."""
    section, names = Section("Evaluations"), score_names(scored)
    if not names:
        return section
    section.plots += [_score_plot(group, name) for name, group in groups_of("scores", scored)]
    rows = [
        [each.label, each.split, as_text(each.n), *[str(each.scores.get(name, "")) for name in names]]
        for each in scored
    ]
    columns = ["scored", "split", "rows", *map(score_label, names)]
    section.tables.append(Table(columns, rows, _method(names), words=2))
    section.notes += [f"{remark}." for remark in remarks(scored)]
    return section


def groups_of(name: str, records: Iterable[Recorded]) -> list[tuple[str, list[Recorded]]]:
    """Those of the same rows, where there are several, and a plot's name for each group."""
    groups = [group for group in by_rows(records) if len(group) > 1]
    return [(f"{name}-{place}" if place > 1 else name, group) for place, group in enumerate(groups, 1)]


def _method(names: Sequence[str]) -> str:
    return INTERVALS + CASE * ({"exact_match", "logical_form"} <= set(names)) if names else ""


def _score_plot(group: Sequence[Recorded], name: str) -> Plot:
    shown = group[:MOST_ROWS]
    names = [name for name in score_names(shown) if name not in OF_F1]
    panels = {score_label(name): [each.scores.get(name) for each in shown] for name in names}
    caption = f"Scores on the same {counted(shown[0].n or 0, f'{shown[0].split} row')}, with 95 % intervals."
    figure = plots.dots([each.label for each in shown], panels)
    return Plot(name, figure, caption + left_out(len(group) - len(shown), "the table has all"))


def differences_section(comparisons: Sequence[Comparison]) -> Section:
    """How far evaluations of the same rows differ, score by score."""
    section = Section("Differences")
    for comparison in comparisons:
        first = f"difference from {comparison.first.label}"
        section.tables.append(Table((first, "score", "points", "rows", "p"), comparison.rows(), words=2))
    if section.tables:
        section.texts += [
            "Row by row on the same rows, in percentage points, with 95 % intervals: Newcombe's of "
            "differences of shares, the paired bootstrap's of means.",
            f"{METHODS}.",
        ]
    return section


def runs_section(runs: Sequence[Recorded]) -> Section:
    """Where each run stands, what it cost, and in which settings they differ."""
    section = Section("Runs")
    if not runs:
        return section
    shown = drawn_runs(runs)
    section.plots += [_score_plot(group, name) for name, group in groups_of("configurations", runs)]
    for name, group in groups_of("trade-off", runs):
        section.plots += _trade_off(group, shown, name)
    section.tables += leaderboard(runs)
    add_front(section, runs)
    section.tables += settings_that_differ(runs)
    section.notes += [f"{remark}." for remark in remarks(runs)]
    if on_loss := on_losses(run for run in runs if "val/loss" in run.validation):
        section.notes.append(on_loss)
    return section


def leaderboard(runs: Sequence[Recorded]) -> list[Table]:
    """Where each run stands and what it cost; test scores in a table of their own where they are many."""
    names, objective = score_names(runs), metric_of(runs)
    with_loss = objective != "val/loss"
    beside = names if len(names) <= MOST_BESIDE else names[:1]
    rows = [
        [
            run.label,
            f"{state_label(run)}: {_cut(run.error)}" if run.error else state_label(run),
            decimals(run.standing),
            *([decimals(run.validation.get("val/loss"))] if with_loss else []),
            *[str(run.scores.get(name, "")) for name in beside],
            f"{run.parameters['trainable']:,}" if "trainable" in run.parameters else "",
            decimals(run.minutes, 1),
        ]
        for run in runs
    ]
    columns = ["run", "state", objective, *(["val/loss"] if with_loss else [])]
    columns += [*[f"test {score_label(name)}" for name in beside], "trained weights", "minutes"]
    done = ranked(runs)
    method = "" if unlike(done) else "Best first, by the objective, which is a validation score. "
    if done and lower_is_better(done[0]) and not unlike(done):
        method = "Best first, by the objective, a validation loss: lower is better. "
    if any(run.state != "finished" and run.standing is not None for run in runs):
        method += "Of a run that is not finished it is that of its last validation. "
    method += "Minutes are those of training alone, and missing where a run was resumed. "
    if beside == names:
        return [Table(columns, rows, method + _method(names), words=2)]
    scored = [run for run in runs if run.scores]
    of_test = [[run.label, *[str(run.scores.get(name, "")) for name in names]] for run in scored]
    return [
        Table(columns, rows, method, words=2),
        Table(["test scores", *map(score_label, names)], of_test, _method(names)),
    ]


def _cut(error: str) -> str:
    return error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}…"


def settings_that_differ(runs: Sequence[Recorded]) -> list[Table]:
    """The settings that change results and are not the same for all runs, in one table or none."""
    differing = {key: [*map(as_text, found)] for key, found in differing_settings(runs).items()}
    names = [run.label for run in runs]
    if len(differing) > len(names):  # a page has more room below than beside
        return [Table(["settings that differ", *names], [[key, *found] for key, found in differing.items()])]
    rows = [[name, *of_run] for name, of_run in zip(names, zip(*differing.values()))]
    return [Table(["settings that differ", *differing], rows)] if differing else []


def drawn_runs(runs: Iterable[Recorded]) -> dict[Recorded, int]:
    """Those that have a line or a marker of their own, and its place in `LINES`: the same in every plot."""
    drawn = [run for run in runs if run.scores or (run.folder / "metrics.csv").exists()]
    return {run: place for place, run in enumerate(drawn[:MOST_LINES])}


def _trade_off(group: Sequence[Recorded], shown: Mapping[Recorded, int], name: str) -> list[Plot]:
    """What scores cost in weights and time, where there is anything to choose from."""
    score = score_names(group)[0]
    costs: dict[str, Callable[[Recorded], float | None]] = {
        "trained weights (log scale)": lambda run: run.parameters.get("trainable"),
        "minutes of training": lambda run: run.minutes,
    }
    panels, left = {}, set()
    for unit, cost in costs.items():
        found = {run: value for run in group if score in run.scores and (value := cost(run))}
        left |= found.keys() - shown.keys()
        points = [
            Point(run.label, shown[run], value, run.scores[score])
            for run, value in found.items()
            if run in shown
        ]
        if len({point.cost for point in points}) > 1:
            panels[unit] = points
    if not panels:
        return []
    figure = plots.trade_off(panels, f"test {score_label(score)}", logarithmic=[*costs][:1])
    caption = f"What test {score_label(score)} costs, with 95 % intervals."
    if len({run.machine for run in group}) > 1:
        caption += " Not all of these runs had the same hardware: their minutes are not comparable."
    return [Plot(name, figure, caption + left_out(len(left), "the table has all"))]


def as_text(value: Any) -> str:
    """A setting or a number as a table's cell shows it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
