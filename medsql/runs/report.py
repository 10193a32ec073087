"""A report of runs and evaluations: one page, its plots and its tables, made from their records.

What is said of them is collected here, in sections; `medsql.runs.pages` writes it down.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from medsql.errors import UserError
from medsql.runs import plots, published
from medsql.runs.differences import Comparison, in_points, p_value
from medsql.runs.importances import importances
from medsql.runs.labels import decoding_words, score_label, short
from medsql.runs.numbers import most_frequent, numbers_of, share_of
from medsql.runs.pages import Examples, Plot, Report, Row, Section, Table, left_out
from medsql.runs.plots import MOST_ROWS, Curve
from medsql.runs.predictions import ERRORS, read_rows
from medsql.runs.recorded import (
    Again,
    Recorded,
    lower_is_better,
    on_losses,
    ranked,
    read_curves,
    together,
    unlike,
)
from medsql.runs.score_sections import (
    as_text,
    differences_section,
    drawn_runs,
    evaluations_section,
    groups_of,
    runs_section,
)
from medsql.runs.seeds import Configuration, SeedComparison
from medsql.runs.sweep_sections import (
    OF_F1,
    best_of_seeds,
    search_section,
    seeds_section,
    swept_section,
)
from medsql.runs.swept import swept
from medsql.wording import counted

log = logging.getLogger(__name__)

EXAMPLES = 3
"""Examples shown of each pattern of errors."""

PATTERNS = 8
"""Patterns of errors in a plot, at most."""

Curves = Mapping[str, tuple[list[int], list[float]]]


def make_report(
    records: Sequence[Recorded],
    comparisons: Sequence[Comparison],
    command: str,
    warnings: Iterable[str],
    seeds: Sequence[Configuration] = (),
    over_seeds: Sequence[SeedComparison] = (),
    again: Again | None = None,
) -> Report:
    """What labelled records say, in their order, how evaluations differ, and configurations over seeds.

    `again` is the command that trains the best again, if any is.

    Files that cannot be read are passed over; that is logged. `warnings` is read last.
    """
    scored = [record for record in records if record.kind == "evaluate"]
    runs = [record for record in records if record not in scored]
    parameters = swept(runs)
    shares = importances(runs, parameters)
    sections = [
        _in_short(runs, comparisons, seeds, again),
        evaluations_section(scored),
        differences_section(comparisons),
        runs_section(runs),
        seeds_section(seeds, over_seeds),
        swept_section(runs, parameters),
        search_section(runs, parameters, shares),
        _training(runs),
        _errors(records),
        _what_was_compared(records),
        _published(records),
    ]
    counts = [counted(len(found), what) for found, what in ((runs, "run"), (scored, "evaluation")) if found]
    return Report(
        title=f"{' and '.join(counts)} compared",
        command=command,
        warnings=[*warnings, *together(_doubts(records), len(records))],
        sections=[section for section in sections if section.texts or section.tables or section.plots],
        numbers=numbers_of(records, comparisons, seeds, over_seeds, shares),
    )


# --- sections ---------------------------------------------------------------------------------------


def _place(done: Sequence[Recorded], of: int) -> str:
    """How the best stands among those that finished, and these among all."""
    if len(done) == 1:
        return f"Of {of} runs, {done[0].label} alone has finished, and so is the best"
    alike = sum(run.objective == done[0].objective for run in done)
    place = "the best" if alike == 1 else f"one of {alike} that are best"
    return f"Of {len(done)} finished runs, {done[0].label} is {place}"


def _in_short(
    runs: Sequence[Recorded],
    comparisons: Sequence[Comparison],
    seeds: Sequence[Configuration],
    again: Again | None,
) -> Section:
    section, done = Section("In short"), ranked(runs)
    if seeds and not unlike(done):
        section.texts.append(best_of_seeds(seeds))
    elif done and len(runs) > 1 and not unlike(done):
        best, name = done[0], next(iter(done[0].scores), "")
        of_test = f"; on {best.n} test rows, {score_label(name)} is {best.scores[name]} %" if name else ""
        lower = ", lower is better" * lower_is_better(best)
        section.texts.append(
            f"{_place(done, len(runs))} by {best.metric} ({best.objective:.3f}, on validation rows{lower})"
            f"{of_test}."
        )
    for first, others in comparisons:
        name = next(name for found in others.values() for name in found)
        said = [
            f"{other.label} {in_points(found[name])} points, p\u00a0{_is(p_value(found[name].p))}"
            for other, found in others.items()
            if name in found
        ]
        rest = f"; {len(said) - 3} more below" if len(said) > 3 else ""
        section.texts.append(
            f"Against {first.label}, {score_label(name)} on the same {counted(first.n or 0, 'row')}: "
            f"{'; '.join(said[:3])}{rest}."
        )
    if again is not None:
        section.texts.append(
            f"The command that trains {again.label} again:"
            if again.command
            else f"There is no command that trains {again.label} again: {again.why_not}."
        )
        section.commands += [again.command] if again.command else []
    return section


def _is(p: str) -> str:
    return f"<\u00a0{p[1:]}" if p.startswith("<") else f"=\u00a0{p}"


def _training(runs: Sequence[Recorded]) -> Section:
    section, shown = Section("Training"), drawn_runs(runs)
    curves = {run: found for run in runs if (found := read_curves(run.folder / "metrics.csv"))}
    train, validation = (_column(curves, shown, name) for name in ("train/loss", "val/loss"))

    def grey(*names: str) -> str:
        having = [run for run, found in curves.items() if not found.keys().isdisjoint(names)]
        count = sum(run not in shown for run in having)
        return f" {count} more {'is' if count == 1 else 'are'} drawn in grey." * bool(count)

    if train and validation:
        caption = (
            "Loss as logged (faint), its running mean over a twentieth of the steps, and validation loss; "
            "lower is better. Scales are those of all but the first tenth of the steps, which may lie above."
        )
        caption += grey("val/loss", "train/loss")
        if on_loss := on_losses(run for run, found in curves.items() if "val/loss" in found):
            caption += f" {on_loss}"
        section.plots.append(Plot("loss", plots.loss_curves(train, validation), caption))
    names = dict.fromkeys(name for found in curves.values() for name in found if name.startswith("val/"))
    names = dict.fromkeys(name for name in names if name.removeprefix("val/") not in ("loss", *OF_F1))
    panels = {score_label(name): drawn for name in names if (drawn := _column(curves, shown, name))}
    if panels:
        caption = (
            "Scores of the SQL generated in validation. They may be of the first validation rows only "
            f"(validation.generate_rows): a guide, no result.{grey(*names)}"
        )
        section.plots.append(Plot("validation", plots.score_curves(panels), caption))
    _beside_table_1(section, curves, shown)
    return section


def _column(curves: Mapping[Recorded, Curves], shown: Mapping[Recorded, int], name: str) -> list[Curve]:
    """The runs' curves of this name; those that are not `shown` have no style of their own."""
    return [
        Curve(run.label, shown.get(run), *found[name], pruned=run.state == "pruned")
        for run, found in curves.items()
        if name in found
    ]


def _beside_table_1(
    section: Section, curves: Mapping[Recorded, Curves], shown: Mapping[Recorded, int]
) -> None:
    """The published losses beside those of the same scale; a line where only the checkpoint is the same."""
    same = {run: found for run, found in curves.items() if run.checkpoint == published.CHECKPOINT}
    alike = {run: found for run, found in same.items() if published.same_scale(run)}
    if ours := [curve for curve in _column(alike, shown, "val/loss") if curve.style is not None]:
        caption = (
            "The published report's Table 1 beside runs of the same checkpoint and label smoothing. A "
            "published step was of 8 rows, by its own row counts, and other data make other losses."
        ) + left_out(len(alike.keys() - shown.keys()))
        section.plots.append(Plot("published-loss", plots.published_losses(ours), caption))
    if others := [run.label for run in same if run not in alike]:
        section.notes.append(
            f"{', '.join(others)}: losses of another label smoothing than the published report's "
            f"({published.LABEL_SMOOTHING}) are not drawn beside its Table 1."
        )


def _errors(records: Sequence[Recorded]) -> Section:
    section, found = Section("Errors"), [record for record in records if record.patterns]
    if not found:
        return section
    for name, group in groups_of("errors", found):
        section.plots.append(_error_plot(group, name))
    headers = [f"{record.label}, of {record.wrong} wrong" for record in found]
    section.tables.append(
        Table(
            ["pattern", *headers],
            [
                [pattern, *[str(share_of(record, pattern)) for record in found]]
                for pattern in most_frequent(found)
            ],
            "Shares of the wrong predictions in percent, with Wilson's 95 % interval. A prediction may show "
            "several patterns.",
        )
    )
    claimed = {name: share for record in found for name, share in record.claimed.items()}
    if claimed:
        rows = [
            [name, f"{100 * share:.0f}", *[str(record.classes.get(name, "")) for record in found]]
            for name, share in claimed.items()
        ]
        method = (
            "The classes of the published report: its own claim, of another model, data set and sample, "
            "beside shares of the wrong predictions here, in percent. Context, no comparison."
        )
        section.tables.append(
            Table(["class of the published report", "claimed there", *headers], rows, method)
        )
    if any(record.split == "test" for record in found):
        section.notes.append(
            f"Wrong predictions of test rows are in {ERRORS} of each folder and are not shown here: what is "
            "read is no longer held out."
        )
    for record in found:
        if record.split in ("train", "validation"):
            section.examples += _examples(record)
    return section


def _error_plot(group: Sequence[Recorded], name: str) -> Plot:
    shown, patterns = group[:MOST_ROWS], most_frequent(group)
    drawn = patterns[: min(PATTERNS, plots.most_panels(len(shown)))]
    panels = {pattern: [share_of(record, pattern) for record in shown] for pattern in drawn}
    caption = (
        f"The {len(drawn)} most frequent of {len(patterns)} patterns"
        if len(drawn) < len(patterns)
        else "Patterns"
    )
    caption += " among each one's wrong predictions, in percent, with 95 % intervals."
    figure = plots.dots([record.label for record in shown], panels)
    return Plot(name, figure, caption + left_out(len(group) - len(shown), "the table has all"))


def _examples(record: Recorded) -> list[Examples]:
    """The first wrong predictions of each pattern, those first that occur most often."""
    patterns: dict[str, list[Row]] = {}
    try:
        for row in read_rows(record.folder / ERRORS):
            shown = {key: row[key] for key in ("question", "sql", "prediction")}
            for pattern in row["patterns"]:
                patterns.setdefault(pattern, []).append(shown)
    except (UserError, KeyError, TypeError) as error:
        damaged = error if isinstance(error, UserError) else f"{record.folder / ERRORS} is damaged ({error})"
        log.warning("%s, no examples are shown", damaged)
    often = sorted(patterns.items(), key=lambda found: -len(found[1]))
    first = {pattern: rows[:EXAMPLES] for pattern, rows in often}
    return [Examples(f"Wrong predictions of {record.label}", first)] if first else []


def _what_was_compared(records: Sequence[Recorded]) -> Section:
    facts = [
        {
            "name": record.label,
            "folder": short(record.folder),
            "kind": record.kind,
            "model": record.checkpoint,
            "data": _data(record),
            "rows scored": "" if record.n is None else f"{record.n} {record.split}",
            "decoding": ", ".join(decoding_words(record)),
            "database": record.settings.get("eval.database") or "",
            "commit": record.commit,
            "machine": record.machine,
        }
        for record in records
    ]
    values = {column: {fact[column] for fact in facts} for column in facts[0]}
    varying = [
        column
        for column in values
        if len(values[column]) > 1 or column in ("name", "folder") or len(facts) == 1
    ]
    same = [f"{column} {next(iter(values[column]))}" for column in values if column not in varying]
    same = [fact for fact in same if not fact.endswith(" ")]
    rows = [[fact[column] for column in varying] for fact in facts]
    texts = [f"The same for all: {'; '.join(same)}."] if same else []
    return Section("What was compared", texts, tables=[Table(varying, rows, words=len(varying))])


def _data(record: Recorded) -> str:
    source, split = (as_text(record.settings.get(f"data.{key}")) for key in ("source", "split"))
    return f"{source} (split {split})" if split else source


def _published(records: Iterable[Recorded]) -> Section:
    section = Section("Published marks, as context")
    if {record.settings.get("data.source") for record in records} & set(published.SOURCES):
        section.texts.append(
            "Not comparable with anything above: these systems had 8,000 training pairs and, unless it says "
            "otherwise, the official test split of MIMICSQL's natural questions."
        )
        columns = ("system", "logical form, %", "execution, %")
        section.tables.append(Table(columns, published.MARKS))
    return section


def _doubts(records: Iterable[Recorded]) -> Iterator[tuple[Recorded, str]]:
    """What the records themselves give reason to doubt."""
    for record in records:
        if record.state not in ("finished", "pruned"):
            yield record, f"{record.state}, not finished"
        if record.commit.endswith("-dirty"):
            yield record, f"ran on changes that are in no commit ({record.commit})"
        if record.fell_back:
            yield record, f"the model asked for did not load, {record.checkpoint} took its place"
        if record.kind == "train" and record.settings.get("data.refit"):
            yield record, "was validated on rows that it was trained on, too: data.refit"
        # What a run's own splits have in common is no doubt about the run: its source is like that.
        if record.kind == "evaluate" and record.trained_on:
            yield record, f"was trained on {record.trained_on} of the {record.n} queries that it is scored on"
