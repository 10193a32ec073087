"""Runs, evaluations and sweeps side by side: `python -m medsql.compare [FOLDER …]`."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from medsql.composition import folder_name
from medsql.config import CompareSettings, SettingsError
from medsql.door import door
from medsql.runs.collect import ROOTS, newest, run_folders
from medsql.runs.differences import compare_by_rows, print_differences
from medsql.runs.folder import read_record
from medsql.runs.table import print_folders, short

log = logging.getLogger("medsql.compare")  # this module runs as `__main__`

SAME_ROWS = ("data_sha256", "split", "decode")
"""What two evaluations must share for their scores to be comparable."""


@door("compare")
def main(settings: CompareSettings, folder: Path) -> None:
    """Print what the folders recorded: a leaderboard of runs, the scores of evaluations, and how far
    evaluations of the same rows differ; and write a report of it, with plots."""
    from medsql.runs.pages import check_place, write_report  # imports matplotlib
    from medsql.runs.report import Warnings, make_report

    with Warnings() as warnings:
        folders = _named(settings.runs) if settings.runs else _newest_pair()
        place = Path(ROOTS[0], settings.name or folder_name(f"compare-{_label(settings.runs or folders)}"))
        if settings.report:
            check_place(place)
        records = {folder: read_record(folder) or {} for folder in folders}
        scored = [folder for folder in folders if records[folder].get("kind") == "evaluate"]
        runs = _best_first([folder for folder in folders if folder not in scored], records)
        print_folders([*runs, *scored])
        _warn_unlike([records[folder] for folder in scored])
        comparisons = compare_by_rows(scored)
        print_differences(comparisons)
        if settings.report:
            ordered = {folder: records[folder] for folder in (*runs, *scored)}
            command = shlex.join(["python", "-m", "medsql.compare", *settings.runs])
            write_report(place, make_report(ordered, comparisons, command, warnings))
            print(f"\nreport in {short(place / 'report.html')}")


def _named(names: list[str]) -> list[Path]:
    """The run folders that are, or lie below, the named ones. Raises `SettingsError`."""
    folders: dict[Path, None] = {}
    for name in names:
        found = run_folders(Path(name).expanduser())
        if not found:
            raise SettingsError(f"{name}: no run, evaluation or sweep lies there")
        folders |= dict.fromkeys(found)
    return list(folders)


def _label(named: list[str] | list[Path]) -> str:
    """What is compared, in one line: folders below `ROOTS` by their paths there, others by their names."""
    paths = [Path(name).expanduser().absolute() for name in named]
    roots = [Path(root).absolute() for root in ROOTS]
    below = [[path.relative_to(root) for root in roots if path.is_relative_to(root)] for path in paths]
    return ",".join(str(found[0] if found else path.name) for path, found in zip(paths, below))


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
        sign = 1 if record["settings"].get("objective") == "val/loss" else -1
        return (value is None, sign * (value or 0.0))

    return sorted(folders, key=rank)


def _warn_unlike(records: list[dict[str, Any]]) -> None:
    for key in SAME_ROWS:
        if len({str(record.get(key)) for record in records}) > 1:
            log.warning("these scores are not of the same %s and cannot be compared", key)


if __name__ == "__main__":
    main()
