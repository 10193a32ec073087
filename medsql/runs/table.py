"""Runs as a table on the terminal, read from their records alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medsql.runs.folder import RECORD
from medsql.runs.labels import SHOWN, common_parent, labelled, score_label, short, state_label
from medsql.runs.recorded import Recorded, metric_of, on_losses, recorded, remarks
from medsql.runs.swept import swept
from medsql.wording import counted

PLAIN_WIDTH = 160
"""Columns where the output is no terminal: wide enough that no score is cut."""


def print_folders(folders: Sequence[Path]) -> None:
    """What lies in the folders; those without a record are runs not started. Raises `UserError`."""
    print_records(
        labelled([recorded(each) if (each / RECORD).exists() else Recorded(each) for each in folders])
    )


def print_records(records: Sequence[Recorded]) -> None:
    """Runs as one table, evaluations as another, each in the order given and called by its label."""
    scored = [record for record in records if record.kind == "evaluate"]
    runs = [record for record in records if record not in scored]
    if runs:
        _print_runs(runs)
    if scored:
        _print_scored(scored)


def _print_runs(runs: Sequence[Recorded]) -> None:
    """One line a run: what came out and what it cost; below, where they lie."""
    objective, scores = metric_of(runs), ("exact_match", "logical_form", "execution", "token_f1")
    losses = ["val/loss"] if objective != "val/loss" else []
    of_scores = [f"test\n{score_label(name)} %" for name in scores]  # two lines, for values are narrower
    table = columns("run", "state", numbers=[objective, *losses, *of_scores, "trained\nweights", "minutes"])
    for run in runs:
        table.add_row(
            run.label,
            state_label(run).removesuffix(" steps"),
            decimals(run.standing),
            *[decimals(run.validation.get(name)) for name in losses],
            *[str(run.scores.get(name, "")) for name in scores],
            f"{run.parameters['trainable']:,}" if "trainable" in run.parameters else "",
            decimals(run.minutes, 1),
        )
    show(table)
    if trials := [run for run in runs if run.trial is not None]:
        _print_searched(trials)
    _print_remarks(runs)
    if on_loss := on_losses(run for run in runs if "val/loss" in run.validation):
        print(on_loss)
    for run in runs:
        if run.error:
            print(f"{run.label}: failed, {run.error}")
    print(f"{counted(len(runs), 'run')} in {short(common_parent([run.folder for run in runs]))}")


def _print_searched(trials: Sequence[Recorded]) -> None:
    """What a search tried, which the names of its trials do not say."""
    if parameters := swept(trials):
        table = columns("run", numbers=[parameter.key for parameter in parameters])
        for place, run in enumerate(trials):
            values = [parameter.values[place] for parameter in parameters]
            table.add_row(run.label, *[f"{v:.4g}" if isinstance(v, float) else str(v) for v in values])
        print()
        show(table)


def _print_scored(scored: Sequence[Recorded]) -> None:
    """One line an evaluation: its scores in percent with their 95 % intervals, and what was scored."""
    table = columns(
        "scored", numbers=["split", "rows", "beams", *[f"{score_label(name)} %" for name in SHOWN]]
    )
    for record in scored:
        table.add_row(
            record.label,
            record.split or record.state,
            "" if record.n is None else str(record.n),
            str(record.settings.get("decode.num_beams", "")),
            *[str(record.scores.get(name, "")) for name in SHOWN],
        )
    show(table)
    _print_remarks(scored)
    for record in scored:
        print(f"predictions in {short(record.folder)}")


def _print_remarks(records: Sequence[Recorded]) -> None:
    for remark in remarks(records):
        print(remark)


def columns(*words: str, numbers: Sequence[str]) -> Table:
    """A table without rows; columns of numbers stand at the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(words):
        table.add_column(column, overflow="ellipsis" if place else "fold")
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def show(table: Table) -> None:
    """Print a table, at the terminal's width or, into a file or pipe, at a fixed one."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, markup=False, highlight=False).print(table)


def decimals(value: float | None, digits: int = 3) -> str:
    """A number of so many decimals; nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"
