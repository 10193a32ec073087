"""Runs, evaluations and sweeps side by side: `python -m medsql.compare [FOLDER …]`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from medsql.config import CompareSettings, SettingsError
from medsql.door import door
from medsql.runs.collect import newest, run_folders
from medsql.runs.differences import print_differences
from medsql.runs.folder import read_record
from medsql.runs.table import print_folders

log = logging.getLogger(__name__)

SAME_ROWS = ("data_sha256", "split", "decode")
"""What two evaluations must share for their scores to be comparable."""


@door("compare")
def main(settings: CompareSettings, folder: Path) -> None:
    """Print what the folders recorded: a leaderboard of runs, the scores of evaluations, and how far
    evaluations of the same rows differ."""
    folders = _named(settings.runs) if settings.runs else _newest_pair()
    records = {folder: read_record(folder) or {} for folder in folders}
    scored = [folder for folder in folders if records[folder].get("kind") == "evaluate"]
    runs = [folder for folder in folders if folder not in scored]
    print_folders([*_best_first(runs, records), *scored])
    _warn_unlike([records[folder] for folder in scored])
    print_differences(scored)


def _named(names: list[str]) -> list[Path]:
    """The run folders that are, or lie below, the named ones. Raises `SettingsError`."""
    folders: dict[Path, None] = {}
    for name in names:
        found = run_folders(Path(name).expanduser())
        if not found:
            raise SettingsError(f"{name}: no run, evaluation or sweep lies there")
        folders |= dict.fromkeys(found)
    return list(folders)


def _newest_pair() -> list[Path]:
    """The newest fine-tuned evaluation, after the newest zero-shot one of the same rows."""
    tuned = newest("evaluate", tuned=True)
    if tuned is None:
        raise SettingsError(
            "no fine-tuned model has been scored yet: make finetuned, or name folders to compare"
        )
    record = read_record(tuned) or {}
    base = newest("evaluate", tuned=False, **{key: record.get(key) for key in (*SAME_ROWS, "base")})
    if base is None:
        raise SettingsError(
            f"no zero-shot scores of the rows, model and decoding of {tuned}: make baseline with the "
            "same data=, decode= and rows=, or name folders to compare"
        )
    return [base, tuned]


def _best_first(folders: list[Path], records: dict[Path, dict[str, Any]]) -> list[Path]:
    """Runs by their objective; a loss is better when lower, and unfinished runs come last."""

    def rank(folder: Path) -> tuple[bool, float]:
        record = records[folder]
        value = record.get("objective")
        sign = 1 if record["settings"]["objective"] == "val/loss" else -1
        return (value is None, sign * (value or 0.0))

    return sorted(folders, key=rank)


def _warn_unlike(records: list[dict[str, Any]]) -> None:
    for key in SAME_ROWS:
        if len({str(record.get(key)) for record in records}) > 1:
            log.warning("these scores are not of the same %s and cannot be compared", key)


if __name__ == "__main__":
    main()
