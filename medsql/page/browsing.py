"""What runs left behind, to be browsed: their predictions by error pattern, and the sweeps' leaderboards."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from medsql.errors import UserError
from medsql.metrics.errors import PATTERNS
from medsql.page import shown
from medsql.page.marks import marked
from medsql.runs.collect import ROOTS, read_all
from medsql.runs.labels import labelled, short
from medsql.runs.pages import Table
from medsql.runs.predictions import ERRORS, PREDICTIONS, read_rows
from medsql.runs.recorded import Recorded, best_first, on_losses, remarks, score_names
from medsql.runs.score_sections import leaderboard, settings_that_differ
from medsql.wording import counted

log = logging.getLogger(__name__)

ON_A_PAGE = 5
"""Predictions shown at once."""

ANY, RIGHT = "any error", "right"
"""What can be browsed besides the patterns themselves."""

HELD_OUT = (
    "These are test rows, and what is read is no longer held out: their patterns are counted here, and the "
    "rows are shown only where you say so above. An evaluation of validation rows has none of this: "
    "python -m medsql.evaluate run=… split=validation"
)

NOTHING_SCORED = "No predictions lie here yet: make train, then make finetuned, and choose this tab again."
NO_SWEEP = "There is no sweep in multirun/ yet: make sweep makes one."


def scored() -> list[tuple[str, str]]:
    """Runs and evaluations that have predictions, as labels and folders, validation rows before test rows."""
    found = [
        each
        for each in reversed(read_all())
        if (each.folder / PREDICTIONS).exists() or (each.folder / ERRORS).exists()
    ]
    found.sort(key=_held_out)  # else newest first
    return [
        (f"{_name(each)} ({counted(each.n or 0, f'{each.split} row')})", str(each.folder)) for each in found
    ]


def _held_out(record: Recorded) -> bool:
    """Whether the rows are those of a test split, or of nobody knows which."""
    return record.split not in ("train", "validation")


def _name(record: Recorded) -> str:
    scored = f": {short(Path(record.scored))}" if record.scored else ""
    return f"{short(record.folder)}{scored if record.kind == 'evaluate' else ''}"


def patterns(folder: str) -> list[tuple[str, str]]:
    """What can be browsed there, as labels with counts and names, the most frequent pattern first.

    Raises `UserError` where the rows cannot be read.
    """
    rows = rows_of(Path(folder))
    counts = Counter(pattern for row in rows for pattern in row["patterns"])
    wrong = sum(bool(row["patterns"]) for row in rows)
    often = sorted(filter(counts.get, PATTERNS), key=lambda pattern: -counts[pattern])
    named = [(ANY, wrong), *((pattern, counts[pattern]) for pattern in often), (RIGHT, len(rows) - wrong)]
    return [(f"{name}: {count}", name) for name, count in named]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All that was predicted, or where only the wrong ones are left those.

    Raises `UserError` where they cannot be read, or lie in no folder that can be chosen.
    """
    if str(folder) not in [name for _, name in scored()]:
        raise UserError(f"{folder} has no predictions: choose another.")
    path = next(
        (folder / name for name in (PREDICTIONS, ERRORS) if (folder / name).exists()), folder / PREDICTIONS
    )
    rows = _read(path.absolute(), path.stat().st_mtime_ns if path.exists() else None)
    if not all({"index", "prediction", "patterns", "verdict"} <= row.keys() for row in rows):
        raise UserError(f"{short(path)} is of an older version and has no patterns: evaluate the run again.")
    return rows


@lru_cache(maxsize=4)
def _read(path: Path, written: int | None) -> list[dict[str, Any]]:
    """The rows of a file as it was `written`: one click asks for them several times, and changes none."""
    return read_rows(path)


def pages(folder: str, pattern: str) -> int:
    """How many pages the rows of a pattern fill, at least one. Raises `UserError`."""
    return max(1, -(-len(_chosen(rows_of(Path(folder)), pattern)) // ON_A_PAGE))


def page(folder: str, pattern: str, number: int, show_test: bool) -> str:
    """One page, from 1, of the predictions with a pattern. Raises `UserError` where they cannot be read.

    Those of test rows are shown only with `show_test`.
    """
    held_out = any(str(each.folder) == folder and _held_out(each) for each in read_all(folder))
    rows = _chosen(rows_of(Path(folder)), pattern)
    if held_out and not show_test:
        return shown.message(HELD_OUT)
    first = ON_A_PAGE * (number - 1)
    on_it = rows[first : first + ON_A_PAGE]
    if not on_it:
        return shown.message("There is no such prediction.")
    said = f"{pattern}: {first + 1} to {first + len(on_it)} of {counted(len(rows), 'prediction')}"
    return shown.wrong([_with_marks(row) for row in on_it], said)


def _chosen(rows: Sequence[dict[str, Any]], pattern: str) -> list[dict[str, Any]]:
    if pattern == RIGHT:
        return [row for row in rows if not row["patterns"]]
    return [row for row in rows if (row["patterns"] if pattern == ANY else pattern in row["patterns"])]


def _with_marks(row: Mapping[str, Any]) -> dict[str, Any]:
    prediction, sql = row["prediction"], row["sql"]
    return {**row, "prediction": marked(prediction, sql), "sql": marked(sql, prediction)}


def sweeps() -> list[str]:
    """The sweeps' folders, the one begun last first."""
    root = Path(ROOTS[1])
    begun = {root / run.folder.relative_to(root).parts[0]: run.started for run in _runs_in(root)}
    return [str(folder) for folder in sorted(begun, key=lambda folder: begun[folder], reverse=True)]


def _runs_in(folder: Path) -> list[Recorded]:
    return [each for each in read_all(folder) if each.kind != "evaluate"]


def standings(sweep: str) -> str:
    """A sweep's leaderboard, as reports have it, and the settings in which its runs differ.

    Raises `UserError` where it is no sweep.
    """
    if sweep not in sweeps():
        raise UserError(f"{sweep} is no sweep: choose another.")
    runs = labelled(best_first(_runs_in(Path(sweep))))
    found: list[Table] = [*leaderboard(runs), *settings_that_differ(runs)]
    notes = [f"{remark}." for remark in remarks(runs)] if score_names(runs) else []
    on_loss = on_losses(run for run in runs if "val/loss" in run.validation)
    whole = f"With plots and tests: python -m medsql.compare '{sweep}'"
    return shown.tables(
        f"{sweep}, {counted(len(runs), 'run')}", found, [*notes, *filter(None, [on_loss]), whole]
    )
