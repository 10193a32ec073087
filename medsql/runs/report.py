"""A report of runs and evaluations: one page, its plots and its tables, made from their records.

What is said of them is collected here, in sections; `medsql.runs.pages` writes it down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from matplotlib.figure import Figure

from medsql.errors import UserError
from medsql.runs import plots, published
from medsql.runs.differences import METHODS, Comparison, in_points, p_value
from medsql.runs.fingerprint import flatten
from medsql.runs.labels import labels_of, score_label
from medsql.runs.plots import MOST_LINES, MOST_ROWS, Curve, Estimate, Point
from medsql.runs.predictions import ERRORS, read_rows
from medsql.runs.recorded import (
    Records,
    as_estimate,
    by_rows,
    commit,
    differing_settings,
    estimates_of,
    has_interval,
    read_curves,
    score_names,
    scores_of,
    training_minutes,
)
from medsql.runs.table import short, state_of

log = logging.getLogger(__name__)

EXAMPLES = 3
"""Examples shown of each pattern of errors."""

OF_F1 = ("token_precision", "token_recall")
"""Scores that token F1 is made of, and that it stands for where a plot has a panel for each score."""

INTERVALS = (
    "Percent, with 95 % intervals in brackets: Wilson's of shares (exact match, logical form, execution, "
    "validity), the percentile bootstrap's over rows of means (token overlap). They cover the choice of "
    "rows, not that of seeds."
)

Cell = str | Estimate
Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Columns, the first `words` of them of words and the others of numbers, and how they came about."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    method: str = ""
    words: int = 1


@dataclass(frozen=True)
class Plot:
    """A drawn figure; `caption` says what is seen, and what was left out."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Examples:
    """Some wrong predictions that show the same pattern."""

    title: str
    rows: Sequence[Row]


@dataclass
class Section:
    """A heading and what stands below it, in this order."""

    title: str
    texts: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All that is written: the page's sections, and rows of numbers for each CSV file."""

    title: str
    command: str
    warnings: Sequence[str]
    sections: Sequence[Section]
    numbers: Mapping[str, Sequence[Row]]


class Warnings(logging.Handler):
    """The project's own warnings while the context lasts, each once, in their order."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is logged."""
        self.texts[record.getMessage()] = None

    def __enter__(self) -> Self:
        logging.getLogger("medsql").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("medsql").removeHandler(self)


def make_report(
    records: Records, comparisons: Sequence[Comparison], command: str, warnings: Warnings
) -> Report:
    """What the records of runs and evaluations say, in their order, and how evaluations differ.

    Files that cannot be read are passed over; that is logged, and so becomes one of the `warnings`.
    """
    labels = labels_of(records)
    scored = {folder: record for folder, record in records.items() if record.get("kind") == "evaluate"}
    runs = {folder: record for folder, record in records.items() if folder not in scored}
    sections = [
        _in_short(runs, comparisons, labels),
        _evaluations(scored, labels),
        _differences(comparisons, labels),
        _runs(runs, labels),
        _training(runs, labels),
        _errors(records, labels),
        _what_was_compared(records, labels),
        _published(records),
    ]
    return Report(
        title=_title(runs, scored),
        command=command,
        warnings=[*warnings.texts, *_doubts(records, labels)],
        sections=[section for section in sections if section.texts or section.tables or section.plots],
        numbers={
            "runs": [_run_numbers(folder, record) for folder, record in runs.items()],
            "scores": [*_score_numbers(records)],
            "differences": [*_difference_numbers(comparisons)],
            "errors": [*_error_numbers(records)],
        },
    )


def _title(runs: Records, scored: Records) -> str:
    counts = ((len(runs), "run"), (len(scored), "evaluation"))
    return " and ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts if n) + " compared"


# --- sections ---------------------------------------------------------------------------------------


def _in_short(runs: Records, comparisons: Sequence[Comparison], labels: Mapping[Path, str]) -> Section:
    texts = []
    best = next(iter(runs.items()), None)
    if best and len(runs) > 1 and len(_objectives(runs)) == 1 and best[1].get("objective") is not None:
        metric = best[1].get("settings", {}).get("objective", "its objective")
        first = next(iter(estimates_of(best[1]).items()), None)
        of_test = f"; on {scores_of(best[1])['n']} test rows, {score_label(first[0])} is " if first else ""
        texts.append(
            f"Of {len(runs)} runs, {labels[best[0]]} is the best by {metric} ({best[1]['objective']:.3f}, on "
            f"validation rows){of_test}{in_percent(first[1]) + ' %' if first else ''}."
        )
    for comparison in comparisons:
        for other, found in comparison.others.items():
            for name, difference in list(found.items())[:1]:
                texts.append(
                    f"{labels[other]} against {labels[comparison.first]}, {score_label(name)}: "
                    f"{in_points(difference)} points on the same {difference.n} rows, "
                    f"p\u00a0{_is(p_value(difference.p))}."
                )
    return Section("In short", texts[:MOST_LINES])


def _objectives(runs: Records) -> set[str]:
    return {str(record.get("settings", {}).get("objective")) for record in runs.values()}


def _is(p: str) -> str:
    return f"<\u00a0{p[1:]}" if p.startswith("<") else f"=\u00a0{p}"


def _evaluations(scored: Records, labels: Mapping[Path, str]) -> Section:
    section = Section("Evaluations")
    names = score_names(scored)
    if not names:
        return section
    for place, group in enumerate(by_rows(scored)):
        if len(group) > 1:
            section.plots.append(_score_plot(group, labels, f"scores-{place + 1}" if place else "scores"))
    rows = [_score_row(labels[folder], record, names) for folder, record in scored.items()]
    columns = ["scored", "split", "rows", *map(score_label, names)]
    section.tables.append(Table(columns, rows, INTERVALS, words=2))
    section.notes += [*_mutants(scored, labels)]
    return section


def _score_row(label: str, record: dict[str, Any], names: Sequence[str]) -> list[Cell]:
    scores, found = scores_of(record), estimates_of(record)
    return [
        label,
        scores.get("split", ""),
        str(scores.get("n", "")),
        *[found.get(name, "") for name in names],
    ]


def _mutants(records: Records, labels: Mapping[Path, str]) -> Iterator[str]:
    """How far equal results can be trusted to mean equal queries: one sentence for the same gold queries."""
    said: dict[str, list[str]] = {}
    for folder, record in records.items():
        mutants = scores_of(record).get("mutants")
        if isinstance(mutants, dict) and has_interval(mutants.get("told_apart")):
            share = in_percent(as_estimate(mutants["told_apart"]))
            sentence = (
                f"execution tells {share} % of {mutants['mutants']:,} queries that differ in one place from "
                f"the {mutants['queries']} gold queries they were made of."
            )
            said.setdefault(sentence, []).append(labels[folder])
    return (f"{', '.join(names)}: {sentence}" for sentence, names in said.items())


def _score_plot(group: Records, labels: Mapping[Path, str], name: str) -> Plot:
    shown, rest = _first(group, MOST_LINES)
    names = score_names(shown)
    found = {labels[folder]: estimates_of(record) for folder, record in shown.items()}
    series = {label: [estimates.get(name) for name in names] for label, estimates in found.items()}
    record = next(iter(shown.values()))
    what = f"{scores_of(record).get('n')} {scores_of(record).get('split')} rows"
    figure = plots.dot_rows([score_label(name) for name in names], series, "score, %")
    return Plot(name, figure, f"Scores on the same {what}, with 95 % intervals.{_left_out(rest)}")


def _differences(comparisons: Sequence[Comparison], labels: Mapping[Path, str]) -> Section:
    section = Section("Differences")
    for first, others in comparisons:
        rows: list[list[Cell]] = [
            [labels[other], score_label(name), in_points(difference), p_value(difference.p)]
            for other, found in others.items()
            for name, difference in found.items()
        ]
        columns = (f"difference from {labels[first]}", "score", "points", "p")
        section.tables.append(Table(columns, rows, words=2))
    if section.tables:
        section.texts += [
            "Row by row on the same rows, in percentage points, with 95 % intervals: Newcombe's of "
            "differences of shares, the paired bootstrap's of means.",
            f"{METHODS}.",
        ]
    return section


def _runs(runs: Records, labels: Mapping[Path, str]) -> Section:
    section = Section("Runs")
    if not runs:
        return section
    names = score_names(runs)
    groups = [group for group in by_rows(runs) if len(group) > 1]
    for place, group in enumerate(groups):
        ending = f"-{place + 1}" if place else ""
        section.plots += [_configurations(group, labels, f"configurations{ending}")]
        section.plots += _trade_off(group, labels, f"trade-off{ending}")
    columns = ["run", "state", "objective", "val/loss", *[f"test {score_label(name)}" for name in names]]
    rows = [_run_row(folder, labels[folder], record, names) for folder, record in runs.items()]
    section.tables.append(
        Table(
            [*columns, "trained weights", "minutes"],
            rows,
            "Best first, by the objective, which is a validation score. Minutes are those of training alone, "
            f"and missing where a run was resumed. {INTERVALS if names else ''}",
            words=2,
        )
    )
    section.tables += _settings_that_differ(runs, labels)
    section.notes += [*_mutants(runs, labels)]
    return section


def _run_row(folder: Path, label: str, record: dict[str, Any], names: Sequence[str]) -> list[Cell]:
    found = estimates_of(record)
    trainable, minutes = record.get("parameters", {}).get("trainable"), training_minutes(record)
    return [
        label,
        state_of(folder, record),
        _number(record.get("objective")),
        _number(record.get("validation", {}).get("val/loss")),
        *[found.get(name, "") for name in names],
        "" if trainable is None else f"{trainable:,}",
        "" if minutes is None else f"{minutes:.1f}",
    ]


def _settings_that_differ(runs: Records, labels: Mapping[Path, str]) -> list[Table]:
    differing = differing_settings(runs)
    if not differing:
        return []
    values = [[_text(found[folder]) for folder in runs] for found in differing.values()]
    names = [labels[folder] for folder in runs]
    if len(differing) > len(names):  # a page has more room below than beside
        rows = [[key, *of_key] for key, of_key in zip(differing, values)]
        return [Table(["settings that differ", *names], rows)]
    rows = [[name, *of_run] for name, of_run in zip(names, zip(*values))]
    return [Table(["settings that differ", *differing], rows)]


def _configurations(group: Records, labels: Mapping[Path, str], name: str) -> Plot:
    shown, rest = _first(group, MOST_ROWS)
    found = {labels[folder]: estimates_of(record) for folder, record in shown.items()}
    names = [name for name in score_names(shown) if name not in OF_F1]
    panels = {score_label(name): [scores.get(name) for scores in found.values()] for name in names}
    record = next(iter(shown.values()))
    caption = (
        f"Test scores on the same {scores_of(record).get('n')} rows, with 95 % intervals, best run first."
    )
    return Plot(name, plots.configurations(list(found), panels), caption + _left_out(rest))


def _trade_off(group: Records, labels: Mapping[Path, str], name: str) -> list[Plot]:
    """What scores cost in weights and time, where there is anything to choose from."""
    shown, rest = _first(group, MOST_LINES)
    score = score_names(shown)[0]
    costs: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "trained weights (log scale)": lambda record: record.get("parameters", {}).get("trainable"),
        "minutes of training": training_minutes,
    }
    panels = {}
    for unit, cost in costs.items():
        points = [
            Point(labels[folder], value, estimates_of(record)[score])
            for folder, record in shown.items()
            if (value := cost(record)) and score in estimates_of(record)
        ]
        if len({point.cost for point in points}) > 1:
            panels[unit] = points
    if not panels:
        return []
    figure = plots.trade_off(panels, f"test {score_label(score)}", logarithmic=[*costs][:1])
    caption = f"What test {score_label(score)} costs, with 95 % intervals."
    if len({str(record.get("hardware")) for record in shown.values()}) > 1:
        caption += " Not all of these runs had the same hardware: their minutes are not comparable."
    return [Plot(name, figure, caption + _left_out(rest))]


def _training(runs: Records, labels: Mapping[Path, str]) -> Section:
    section = Section("Training")
    curves = {folder: read_curves(folder / "metrics.csv") for folder in runs}
    curves = {folder: found for folder, found in curves.items() if found}
    if not curves:
        return section
    shown, rest = _first(curves, MOST_LINES)
    train, validation = (_column(shown, labels, name) for name in ("train/loss", "val/loss"))
    if train and validation:
        caption = (
            "Loss as logged (faint), its running mean over a twentieth of the steps, and validation loss."
        )
        figure = plots.loss_curves(train, validation)
        section.plots.append(Plot("loss", figure, f"{caption}{_left_out(rest)}"))
    names = dict.fromkeys(name for found in shown.values() for name in found if name.startswith("val/"))
    panels = {
        score_label(name): _column(shown, labels, name)
        for name in names
        if name != "val/loss" and name.removeprefix("val/") not in OF_F1
    }
    if panels:
        caption = (
            "Scores of the SQL generated in validation. They may be of the first validation rows only "
            f"(validation.generate_rows): a guide, no result.{_left_out(rest)}"
        )
        section.plots.append(Plot("validation", plots.score_curves(panels), caption))
    _beside_table_1(section, {folder: runs[folder] for folder in curves}, curves, labels)
    return section


def _column(curves: Mapping[Path, Any], labels: Mapping[Path, str], name: str) -> list[Curve]:
    return [Curve(labels[folder], *found[name]) for folder, found in curves.items() if name in found]


def _beside_table_1(section: Section, runs: Records, curves: Mapping[Path, Any], labels: Any) -> None:
    """The published losses beside those of the same scale, or a line that says why not."""
    alike = {folder: curves[folder] for folder, record in runs.items() if published.same_scale(record)}
    shown, rest = _first(alike, MOST_LINES - 2)
    ours = _column(shown, labels, "val/loss")
    if ours:
        caption = (
            "The published report's Table 1 beside runs of the same checkpoint and label smoothing. A "
            "published step was of 8 rows, by its own row counts, and other data make other losses."
        )
        section.plots.append(Plot("published-loss", plots.published_losses(ours), caption + _left_out(rest)))
    else:
        section.notes.append(
            "The published report's losses (its Table 1) are not drawn beside these: only "
            f"{published.CHECKPOINT} with optim.label_smoothing={published.LABEL_SMOOTHING} has losses of "
            "their scale, and no run here is of both."
        )


def _errors(records: Records, labels: Mapping[Path, str]) -> Section:
    section = Section("Errors")
    found = {
        folder: errors
        for folder, record in records.items()
        if isinstance(errors := scores_of(record).get("errors"), dict) and errors.get("wrong")
    }
    if not found:
        return section
    shown, rest = _first(found, MOST_LINES)
    patterns = _most_frequent(shown)
    if len(shown) > 1:
        series = {
            labels[folder]: [_share(errors, "patterns", pattern) for pattern in patterns]
            for folder, errors in shown.items()
        }
        figure = plots.dot_rows(patterns, series, "share of the wrong predictions, %")
        caption = (
            "Patterns among each one's wrong predictions, of which one may show several; 95 % intervals."
        )
        section.plots.append(Plot("errors", figure, caption + _left_out(rest)))
    headers = [f"{labels[folder]}, of {errors['wrong']} wrong" for folder, errors in found.items()]
    section.tables.append(
        Table(
            ["pattern", *headers],
            [_share_row(pattern, found, "patterns", pattern) for pattern in patterns],
            "Shares of the wrong predictions in percent, with Wilson's 95 % interval. A prediction may show "
            "several patterns.",
        )
    )
    section.tables += _report_classes(found, headers)
    for folder in found:
        section.examples += _examples(folder, labels[folder], scores_of(records[folder]).get("split"))
    return section


def _most_frequent(found: Mapping[Path, Any]) -> list[str]:
    """All patterns that occur, those first that occur most often over all."""
    counts: dict[str, int] = {}
    for errors in found.values():
        for pattern, share in errors.get("patterns", {}).items():
            counts[pattern] = counts.get(pattern, 0) + share["count"]
    return sorted((pattern for pattern in counts if counts[pattern]), key=lambda pattern: -counts[pattern])


def _share(errors: dict[str, Any], kind: str, name: str) -> Estimate | None:
    share = errors.get(kind, {}).get(name)
    return as_estimate(share) if has_interval(share) else None


def _share_row(first: str, found: Mapping[Path, Any], kind: str, name: str) -> list[Cell]:
    return [first, *[_share(errors, kind, name) or "" for errors in found.values()]]


def _report_classes(found: Mapping[Path, Any], headers: Sequence[str]) -> list[Table]:
    claimed = {
        name: share.get("claimed")
        for errors in found.values()
        for name, share in errors.get("report_classes", {}).items()
    }
    if not claimed:
        return []
    rows = []
    for name, share in claimed.items():
        first, *ours = _share_row(name, found, "report_classes", name)
        rows.append([first, "" if share is None else f"{100 * share:.0f}", *ours])
    method = (
        "The classes of the published report: its own claim, of another model, data set and sample, beside "
        "shares of the wrong predictions here, in percent. Context, no comparison."
    )
    return [Table(["class of the published report", "claimed there", *headers], rows, method)]


def _examples(folder: Path, label: str, split: str | None) -> Iterator[Examples]:
    """The first wrong predictions of each pattern."""
    try:
        rows = read_rows(folder / ERRORS)
    except UserError as error:
        log.warning("%s, no examples are shown", error)
        return
    patterns: dict[str, list[Row]] = {}
    for row in rows:
        for pattern in row.get("patterns", []):
            patterns.setdefault(pattern, []).append(row)
    warning = (
        " (test rows: what is chosen after reading them, they no longer test)" if split == "test" else ""
    )
    for pattern, shown in patterns.items():
        yield Examples(f"{label}: {pattern}{warning}", shown[:EXAMPLES])


def _what_was_compared(records: Records, labels: Mapping[Path, str]) -> Section:
    facts: list[list[Cell]] = []
    for folder, record in records.items():
        settings, scores = record.get("settings", {}), scores_of(record)
        data = settings.get("data", {})
        beams = scores.get("decode", settings.get("decode", {})).get("num_beams")
        facts.append(
            [
                labels[folder],
                short(folder),
                str(record.get("kind", "")),
                str(record.get("model", {}).get("checkpoint", "")),
                " ".join(filter(None, (data.get("source"), f"(split {data['split']})" if data else ""))),
                f"{scores['n']} {scores.get('split', '')}" if "n" in scores else "",
                "" if beams is None else "greedy" if beams == 1 else f"{beams} beams",
                commit(record)[:10] + "-dirty" * commit(record).endswith("-dirty"),
                _machine(record),
            ]
        )
    columns = ("name", "folder", "kind", "model", "data", "rows scored", "decoding", "commit", "machine")
    return Section("What was compared", tables=[Table(columns, facts, words=len(columns))])


def _machine(record: dict[str, Any]) -> str:
    hardware, cpus = record.get("hardware", {}), record.get("environment", {}).get("cpus")
    threads = hardware.get("threads")
    parts = (hardware.get("device"), cpus and f"{cpus} CPUs", threads and f"{threads} threads")
    return ", ".join(str(part) for part in parts if part)


def _published(records: Records) -> Section:
    section = Section("Published marks, as context")
    sources = {record.get("settings", {}).get("data", {}).get("source") for record in records.values()}
    if sources & set(published.SOURCES):
        section.texts.append(
            "Not comparable with anything above: these systems had 8,000 training pairs and, unless it says "
            "otherwise, the official test split of MIMICSQL's natural questions."
        )
        columns = ("system", "logical form, %", "execution, %")
        section.tables.append(Table(columns, published.MARKS))
    return section


def _doubts(records: Records, labels: Mapping[Path, str]) -> Iterator[str]:
    """What the records themselves give reason to doubt."""
    for folder, record in records.items():
        label, state = labels[folder], state_of(folder, record)
        if state != "finished":
            yield f"{label} is {state}, not finished"
        if commit(record).endswith("-dirty"):
            yield f"{label} ran on changes that are in no commit ({commit(record)[:10]}-dirty)"
        if record.get("model", {}).get("failures"):
            yield f"{label} fell back to {record['model']['checkpoint']}: the model asked for did not load"
        if record.get("rows_changed_since_training"):
            yield f"{label} may have been scored on rows it was trained on: the data changed in between"
    tested = {folder: record for folder, record in records.items() if record.get("kind") != "evaluate"}
    if len(_objectives(tested)) > 1:
        yield "the runs have different objectives: their order says nothing"
    if len(by_rows(tested)) > 1:
        yield "the runs were tested on different rows: their test scores cannot be compared"


def _first(folders: Mapping[Path, Any], most: int) -> tuple[dict[Path, Any], int]:
    """The first ones, and how many others there are."""
    shown = dict(list(folders.items())[:most])
    return shown, len(folders) - len(shown)


def _left_out(count: int) -> str:
    return f" {count} more are left out here; the tables have all." if count else ""


# --- numbers ----------------------------------------------------------------------------------------


def _run_numbers(folder: Path, record: dict[str, Any]) -> Row:
    scores = {
        f"test_{name}{end}": part
        for name, estimate in estimates_of(record).items()
        for end, part in zip(("", "_low", "_high"), estimate)
    }
    return {
        "folder": short(folder),
        "state": state_of(folder, record),
        "objective": record.get("objective"),
        "objective_metric": record.get("settings", {}).get("objective"),
        **record.get("validation", {}),
        "test_rows": record.get("test", {}).get("n"),
        **scores,
        **{f"{name}_weights": count for name, count in record.get("parameters", {}).items()},
        "steps": record.get("steps"),
        "training_minutes": training_minutes(record),
        "git_commit": commit(record),
        **flatten(record.get("identity", {})),
    }


def _score_numbers(records: Records) -> Iterator[Row]:
    for folder, record in records.items():
        scores = scores_of(record)
        for name, estimate in estimates_of(record).items():
            yield {
                "folder": short(folder),
                "scored": record.get("scored", ""),
                "split": scores.get("split"),
                "rows": scores.get("n"),
                "num_beams": scores.get("decode", {}).get("num_beams"),
                "score": name,
                **estimate._asdict(),
            }


def _difference_numbers(comparisons: Sequence[Comparison]) -> Iterator[Row]:
    for first, others in comparisons:
        for other, found in others.items():
            for name, difference in found.items():
                yield {
                    "folder": short(other),
                    "against": short(first),
                    "score": name,
                    **difference._asdict(),
                }


def _error_numbers(records: Records) -> Iterator[Row]:
    for folder, record in records.items():
        errors = scores_of(record).get("errors") or {}
        for kind in ("patterns", "report_classes"):
            for name, share in errors.get(kind, {}).items():
                yield {
                    "folder": short(folder),
                    "kind": kind,
                    "name": name,
                    "wrong": errors.get("wrong"),
                    **share,
                }


# --- text -------------------------------------------------------------------------------------------


def in_percent(cell: Estimate) -> str:
    """`33.0 (25.0–43.0)`."""
    value, low, high = (100 * part for part in cell)
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
