"""Evaluations of the same rows against each other: the difference of every score, and its test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from medsql.errors import UserError
from medsql.runs.folder import read_record
from medsql.runs.labels import score_label
from medsql.runs.predictions import read_predictions
from medsql.runs.table import show

if TYPE_CHECKING:
    from medsql.metrics.significance import Difference

log = logging.getLogger(__name__)

METHODS = (
    "p: McNemar's exact test of exact match, logical form, execution and validity, a paired permutation test "
    "of the means; not corrected for their number"
)


class Comparison(NamedTuple):
    """An evaluation, and how each other one of the same rows differs from it, score by score."""

    first: Path
    others: dict[Path, dict[str, Difference]]


def compare_by_rows(folders: Sequence[Path]) -> list[Comparison]:
    """Of the evaluations that scored the same rows, each later one against the first."""
    compared = [
        Comparison(first, {other: differences(first, other) for other in others})
        for first, *others in _by_rows(folders)
    ]
    return [comparison for comparison in compared if any(comparison.others.values())]


def print_differences(comparisons: Sequence[Comparison]) -> None:
    """A table for each comparison: the differences in points, with intervals and p-values."""
    for comparison in comparisons:
        _print(*comparison)


def differences(first: Path, second: Path) -> dict[str, Difference]:
    """The second evaluation's scores minus the first's, by name, for every score that both have.

    None, which is logged, where a folder's predictions are lost, damaged or of other rows.
    """
    from medsql.metrics.significance import difference  # imports scipy

    try:
        before, after = read_predictions(first), read_predictions(second)
    except UserError as error:
        log.warning("%s, nothing is tested", error)
        return {}
    if not before or [row["sql"] for row in before] != [row["sql"] for row in after]:
        log.warning("%s, %s: predictions.jsonl is missing or of other rows, nothing is tested", first, second)
        return {}
    found = {}
    for name in _scores(first):
        scored = [(one.get(name), other.get(name)) for one, other in zip(before, after, strict=True)]
        # A gold query may be of no use for a score, whoever is scored.
        judged = [(one, other) for one, other in scored if one is not None and other is not None]
        if judged:
            found[name] = difference([one for one, _ in judged], [other for _, other in judged])
    return found


def _by_rows(folders: Sequence[Path]) -> list[list[Path]]:
    """The finished evaluations, those of the same rows together, in the order given."""
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        record = _record(folder)
        if record.get("state") == "finished" and "data_sha256" in record:
            groups.setdefault(record["data_sha256"], []).append(folder)
    return list(groups.values())


def _print(first: Path, compared: dict[Path, dict[str, Difference]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("scored", overflow="fold")
    table.add_column("score")
    table.add_column("difference, points", justify="right")
    table.add_column("p", justify="right")
    for folder, found in compared.items():
        for place, (name, difference) in enumerate(found.items()):
            scored = _record(folder).get("scored", folder.name)
            table.add_row(
                "" if place else scored, score_label(name), in_points(difference), p_value(difference.p)
            )
    record = _record(first)
    print(f"\nDifference from {record.get('scored', first.name)} on the same {record['scores']['n']} rows:")
    show(table)
    print(METHODS)


def _record(folder: Path) -> dict[str, Any]:
    return read_record(folder) or {}


def _scores(folder: Path) -> list[str]:
    recorded = _record(folder).get("scores", {})
    return [name for name, score in recorded.items() if isinstance(score, dict) and "value" in score]


def in_points(difference: Difference) -> str:
    """`+3.0 (-1.2 to +7.1)`, in percentage points."""
    value, low, high = (f"{100 * part:+.1f}" for part in difference[:3])
    return f"{value} ({low} to {high})"


def p_value(p: float) -> str:
    """`<0.001`, or three decimals."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
