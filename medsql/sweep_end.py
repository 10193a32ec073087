"""What a sweep ends with, whichever sweeper ran it: a report in its folder, and how to look at it again."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from medsql.config import WandbSettings
from medsql.runs.collect import read_all
from medsql.runs.folder import RECORD, read_record
from medsql.runs.labels import short
from medsql.runs.pages import PAGE, check_place, write_report
from medsql.runs.recorded import Recorded

log = logging.getLogger(__name__)

REPORT = "report"
"""The report's folder in the sweep's."""


def end_sweep(folder: Path) -> None:
    """Report on a sweep's folder: into `report/` there, to W&B where its runs log to it; say how to compare.

    A sweep without a run in its folder has nothing to report. What goes wrong here is logged and never fails
    the sweep, whose results are in its runs' folders.
    """
    command = shlex.join(["python", "-m", "medsql.compare", short(folder)])
    try:
        if not any(folder.glob(f"*/{RECORD}")):
            return
        print(f"\nto compare them again: {command}")
        runs = _report(folder, command)
        print(f"report in {short(folder / REPORT / PAGE)}")
        if (settings := _wandb(runs)) is not None:
            from medsql.loggers import log_report  # imports lightning

            log_report(settings, folder.name, folder / REPORT)
    except Exception as error:
        said = " ".join(str(error).split())
        log.warning("%s: the sweep's report is not complete: %s", short(folder), said)
        log.debug("the sweep's report failed", exc_info=True)


def _report(folder: Path, command: str) -> list[Recorded]:
    """Write the report of what lies in the folder, baselines included; returns that."""
    from medsql.compare import Warnings, findings_of, report_on

    place = folder / REPORT
    check_place(place)
    with Warnings() as warnings:  # what is passed over is said on the page
        records = read_all(folder)
        found = findings_of(records)
    write_report(place, report_on(found, command, warnings.texts))
    return records


def _wandb(runs: list[Recorded]) -> WandbSettings | None:
    """How the runs log to W&B, by the first that does; None where none does."""
    for run in runs:
        record = read_record(run.folder) or {}
        settings = record.get("settings", {}).get("logger", {}).get("wandb")
        if settings is not None:
            return WandbSettings(**settings)
    return None
