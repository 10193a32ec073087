"""Evaluations of the same rows against each other: the difference of every score, and its test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from medsql.errors import UserError
from medsql.runs.labels import score_label
from medsql.runs.predictions import read_predictions
from medsql.runs.recorded import Recorded, by_rows
from medsql.runs.table import columns, show
from medsql.wording import counted

if TYPE_CHECKING:
    from medsql.metrics.significance import Difference

log = logging.getLogger(__name__)

METHODS = (
    "p: McNemar's exact test of exact match, logical form, execution and validity, a paired permutation test "
    "of the means; not corrected for their number"
)


class Comparison(NamedTuple):
    """An evaluation, and how each other one of the same rows differs from it, score by score."""

    first: Recorded
    others: dict[Recorded, dict[str, Difference]]

    def rows(self) -> list[tuple[str, ...]]:
        """Whose difference of which score, in points, of how many rows, and p; a name stands there once."""
        return [
            (
                "" if place else other.label,
                score_label(name),
                in_points(found),
                str(found.n),
                p_value(found.p),
            )
            for other, differences in self.others.items()
            for place, (name, found) in enumerate(differences.items())
        ]


def compare_by_rows(records: Sequence[Recorded]) -> list[Comparison]:
    """Of the finished evaluations that scored the same rows, each later one against the first."""
    finished = [record for record in records if record.kind == "evaluate" and record.state == "finished"]
    compared = [
        Comparison(first, {other: found for other in others if (found := differences(first, other))})
        for first, *others in by_rows(finished)
    ]
    return [comparison for comparison in compared if comparison.others]


def print_differences(comparisons: Sequence[Comparison]) -> None:
    """A table for each comparison: the differences in points, with intervals and p-values."""
    for comparison in comparisons:
        table = columns("scored", "score", numbers=["points", "rows", "p"])
        for row in comparison.rows():
            table.add_row(*row)
        first = comparison.first
        print(f"\nDifference from {first.label} on the same {counted(first.n or 0, 'row')}:")
        show(table)
    if comparisons:
        print(METHODS)


def differences(first: Recorded, second: Recorded) -> dict[str, Difference]:
    """The second evaluation's scores minus the first's, by name, for every score that both have.

    None, which is logged, where a folder's predictions are lost, damaged or of other rows.
    """
    from medsql.metrics.significance import difference  # imports scipy

    try:
        before, after = read_predictions(first.folder), read_predictions(second.folder)
    except UserError as error:
        log.warning("%s, nothing is tested", error)
        return {}
    if not before or [row["sql"] for row in before] != [row["sql"] for row in after]:
        folders = f"{first.folder}, {second.folder}"
        log.warning("%s: predictions.jsonl is missing or of other rows, nothing is tested", folders)
        return {}
    found = {}
    for name in first.scores:
        scored = [(one.get(name), other.get(name)) for one, other in zip(before, after, strict=True)]
        # A gold query may be of no use for a score, whoever is scored.
        judged = [(one, other) for one, other in scored if one is not None and other is not None]
        if judged and (name != "execution" or first.database == second.database):
            found[name] = difference([one for one, _ in judged], [other for _, other in judged])
    return found


def in_points(difference: Difference) -> str:
    """`+3.0 (−1.2 to +7.1)`, in percentage points; `+3.0 (no spread)` of differences all the same."""
    value, low, high = (f"{100 * part:+.1f}".replace("-", "−") for part in difference[:3])
    return f"{value} (no spread)" if difference.low == difference.high else f"{value} ({low} to {high})"


def p_value(p: float) -> str:
    """`<0.001`, or three decimals; nothing where there is no p."""
    return "" if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"
