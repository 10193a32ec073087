"""Runs, evaluations and sweeps side by side: `python -m medsql.compare [FOLDER …]`."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from medsql.again import best_again
from medsql.composition import folder_name
from medsql.config import CompareSettings, SettingsError
from medsql.door import door
from medsql.runs.collect import ROOTS, read_all
from medsql.runs.differences import Comparison, compare_by_rows, print_differences
from medsql.runs.labels import labelled, short
from medsql.runs.overrides import not_begun
from medsql.runs.pages import PAGE, Report, check_place, write_report
from medsql.runs.recorded import Again, Recorded, best_first, by_rows, ranked, unlike
from medsql.runs.seeds import Configuration, SeedComparison, compare_seeds, configurations, print_seeds
from medsql.runs.table import print_records
from medsql.wording import counted

log = logging.getLogger("medsql.compare")  # this module runs as `__main__`

SAME: dict[str, Callable[[Recorded], Any]] = {
    "rows": lambda record: record.rows,
    "split": lambda record: record.split,
    "decoding": lambda record: record.decoding,
    "database": lambda record: record.database,
}
"""What two evaluations must share for their scores to be comparable."""


@door("compare")
def main(settings: CompareSettings, folder: Path) -> None:
    """Print what the folders recorded: a leaderboard of runs, the scores of evaluations, and how far
    evaluations of the same rows differ; and write a report of it, with plots."""
    with Warnings() as warnings:
        found = findings_of(_named(settings.runs) if settings.runs else _newest_pair())
        named = settings.runs or [str(record.folder) for record in found.records]
        place = Path(ROOTS[0], settings.name or folder_name(f"compare-{_label(named)}"))
        if settings.report:
            check_place(place)
        print_findings(found)
        if settings.report:
            command = shlex.join(["python", "-m", "medsql.compare", *settings.runs])
            write_report(place, report_on(found, command, warnings.texts))
            print(f"\nreport in {short(place / PAGE)}")


class Findings(NamedTuple):
    """Labelled records, the best first, and what comparing them gave."""

    records: Sequence[Recorded]
    comparisons: Sequence[Comparison]
    seeds: Sequence[Configuration]
    over_seeds: Sequence[SeedComparison]
    again: Again | None


def findings_of(found: Sequence[Recorded]) -> Findings:
    """Compare runs and evaluations: what is to be known before scores are read is logged."""
    runs = best_first([record for record in found if record.kind != "evaluate"])
    records = labelled([*runs, *(record for record in found if record.kind == "evaluate")])
    _warn(records)
    runs = [record for record in records if record.kind != "evaluate"]
    seeds = configurations(runs)
    return Findings(records, compare_by_rows(records), seeds, compare_seeds(seeds), best_again(runs, seeds))


def print_findings(found: Findings) -> None:
    """All of it on the terminal, in short."""
    print_records(found.records)
    print_differences(found.comparisons)
    print_seeds(found.seeds, found.over_seeds)
    if found.again is not None:
        why_not = f"there is no command: {found.again.why_not}"
        print(f"\nto train {found.again.label} again{_tied(found)}:\n{found.again.command or why_not}")


def _tied(found: Findings) -> str:
    """Whether other runs have as good an objective as the one that is called the best."""
    done = ranked(found.records)
    alike = sum(run.objective == done[0].objective for run in done) if done and not found.seeds else 1
    return "" if alike == 1 else f", one of {alike} with the best objective"


def report_on(found: Findings, command: str, warnings: Iterable[str]) -> Report:
    """All of it as a report."""
    from medsql.runs.report import make_report  # imports matplotlib

    records, comparisons, seeds, over_seeds, again = found
    return make_report(
        records, comparisons, command, warnings, seeds=seeds, over_seeds=over_seeds, again=again
    )


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


def _named(names: Sequence[str]) -> list[Recorded]:
    """The runs that are, or lie below, the named folders, each once. Raises `SettingsError`."""
    records: dict[Path, Recorded] = {}
    for name in names:
        found = read_all(Path(name).expanduser())
        if not found:
            raise SettingsError(f"{name}: no run, evaluation or sweep lies there")
        for record in found:
            records.setdefault(record.folder.resolve(), record)
    return list(records.values())


def _label(names: Sequence[str]) -> str:
    """What is compared, in one line: folders below `ROOTS` by their paths there, others by their names."""
    paths = [Path(name).expanduser().absolute() for name in names]
    roots = [Path(root).absolute() for root in ROOTS]
    below = [[path.relative_to(root) for root in roots if path.is_relative_to(root)] for path in paths]
    return ",".join(str(found[0] if found else path.name) for path, found in zip(paths, below))


def _newest_pair() -> list[Recorded]:
    """The newest fine-tuned evaluation, after the newest zero-shot one of the same rows."""
    scored = [each for each in read_all() if (each.kind, each.state) == ("evaluate", "finished")]
    tuned = [each for each in scored if each.tuned]
    if not tuned:
        raise SettingsError(
            "no fine-tuned model has been scored yet: make finetuned, or name folders to compare"
        )
    pairs = [[base, each] for each in tuned if (base := _zero_shot_beside(each, scored))]
    if pairs and pairs[-1][1] is tuned[-1]:
        return pairs[-1]
    older = [short(each.folder) for each in pairs[-1]] if pairs else []
    command = shlex.join(["python", "-m", "medsql.compare", *older])
    also = f"; the newest that match: {command}" if older else ""
    raise SettingsError(
        f"no zero-shot scores of the rows, model, decoding and database of {tuned[-1].folder}: make "
        f"baseline with the same data=, decode=, rows= and eval.database=, or name folders to compare{also}"
    )


def _zero_shot_beside(tuned: Recorded, scored: Sequence[Recorded]) -> Recorded | None:
    """The newest zero-shot scores of the same rows and model, decoded and judged alike."""
    wanted = [same(tuned) for same in SAME.values()]
    alike = [each for each in scored if not each.tuned and each.base == tuned.base]
    return next((each for each in reversed(alike) if [same(each) for same in SAME.values()] == wanted), None)


def _warn(records: Sequence[Recorded]) -> None:
    """Say what forbids to compare them, and what is still missing."""
    runs = [record for record in records if record.kind != "evaluate"]
    scored = [record for record in records if record.kind == "evaluate" and record.scores]
    differing = [
        what for what, same in SAME.items() if any(same(record) != same(scored[0]) for record in scored)
    ]
    if differing == ["decoding"]:
        log.warning("evaluations here differ in decoding: other scores may come of that alone")
    elif differing:
        what = " and ".join(differing)
        log.warning("evaluations here differ in %s: scores of those that do cannot be compared", what)
    if different := unlike(ranked(runs)):
        log.warning("the runs do not all have the same %s: none is called the best", different)
    elif different := unlike(runs):
        what = "objectives of those that are not finished"
        log.warning("the runs do not all have the same %s: %s cannot be compared", different, what)
    if len(by_rows(runs)) > 1:
        log.warning("the runs were tested on different rows: their test scores cannot be compared")
    for sweep in dict.fromkeys(run.folder.parent for run in runs):
        if waiting := not_begun(sweep):
            log.warning("%s: %s not begun yet", short(sweep), counted(len(waiting), "job"))


if __name__ == "__main__":
    main()
