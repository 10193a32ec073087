"""Runs as a table on the terminal, read from their records alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medsql.runs.folder import is_locked, read_record

PLAIN_WIDTH = 160
"""Columns where the output is no terminal: wide enough that no path is cut."""

Row = tuple[str, ...]


def print_folders(folders: Sequence[Path]) -> None:
    """Runs as one table, evaluations as another, each in the order given."""
    kinds = {folder: (read_record(folder) or {}).get("kind") for folder in folders}
    scored = [folder for folder in folders if kinds[folder] == "evaluate"]
    runs = [folder for folder in folders if folder not in scored]
    if runs:
        print_runs(runs)
    if scored:
        print_scores(scored)


def print_runs(folders: Sequence[Path]) -> None:
    """One line a run: what came out and what it cost; below, where they lie."""
    parent = common_parent(folders)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state")
    scores = ("test EM %", "test LF %", "test EX %", "test F1 %")
    for column in ("objective", "val loss", *scores, "trainable", "minutes"):
        table.add_column(column, justify="right")
    for folder in folders:
        table.add_row(*_run_row(folder, str(folder.absolute().relative_to(parent)), read_record(folder)))
    show(table)
    print(f"{len(folders)} runs in {short(parent)}")


def _run_row(folder: Path, name: str, record: dict[str, Any] | None) -> Row:
    if record is None:
        return (name, "not started", *[""] * 8)
    validation, test = record.get("validation", {}), record.get("test", {})
    return (
        name,
        state_of(folder, record),
        _number(record.get("objective")),
        _number(validation.get("val/loss")),
        with_interval(test.get("exact_match")),
        with_interval(test.get("logical_form")),
        with_interval(test.get("execution")),
        with_interval(test.get("token_f1")),
        _count(record.get("parameters", {}).get("trainable")),
        f"{minutes(record):.1f}" if "ended" in record else "",
    )


def print_scores(folders: Sequence[Path]) -> None:
    """One line an evaluation: its scores in percent with their 95 % intervals, and what was scored."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("scored", overflow="fold")
    for column in (
        "split",
        "rows",
        "beams",
        "exact match %",
        "logical form %",
        "execution %",
        "valid %",
        "token F1 %",
    ):
        table.add_column(column, justify="right")
    for folder in folders:
        table.add_row(*_score_row(folder, read_record(folder) or {}))
    show(table)
    for folder in folders:
        print(f"predictions in {short(folder)}")


def _score_row(folder: Path, record: dict[str, Any]) -> Row:
    scores = record.get("scores", {})
    names = ("exact_match", "logical_form", "execution", "valid", "token_f1")
    return (
        record.get("scored", folder.name),
        scores.get("split", state_of(folder, record)),
        str(scores.get("n", "")),
        str(scores.get("decode", {}).get("num_beams", "")),
        *[with_interval(scores.get(name)) for name in names],
    )


def common_parent(folders: Sequence[Path]) -> Path:
    """The deepest folder that all of them lie in."""
    return Path(os.path.commonpath([folder.absolute().parent for folder in folders]))


def show(table: Table) -> None:
    """Print a table, at the terminal's width or, into a file or pipe, at a fixed one."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, markup=False, highlight=False).print(table)


def state_of(folder: Path, record: dict[str, Any]) -> str:
    """The recorded state; a `running` record whose lock is free was left by a killed process."""
    state = str(record["state"])
    return "killed" if state == "running" and not is_locked(folder) else state


def with_interval(score: dict[str, float] | None) -> str:
    """`{"value": 0.33, "low": 0.25, "high": 0.43}` → `33.0 (25.0–43.0)`, in percent."""
    if score is None:
        return ""
    return f"{100 * score['value']:.1f} ({100 * score['low']:.1f}–{100 * score['high']:.1f})"


def minutes(record: dict[str, Any]) -> float:
    """Wall-clock minutes from the first start to the end, pauses included."""
    started, ended = (datetime.fromisoformat(record[key]) for key in ("started", "ended"))
    return (ended - started).total_seconds() / 60


def short(folder: Path) -> str:
    """The path as one would type it: relative to the working folder where it lies below."""
    absolute = folder.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
