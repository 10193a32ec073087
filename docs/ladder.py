"""Prints the ladder of docs/results.md: `python docs/ladder.py [--unseen] RUNG RUNG …`, from the lowest on.

A rung is the folder of an evaluation, or of a training with the test that it ends with; or of a sweep of
either, as over the folds of a cross-validation, whose rows then count together. Each is tested against the
one before it, on the same rows; with `--unseen`, on those whose query no rung was trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from medsql.config import SCORES
from medsql.errors import UserError
from medsql.metrics.estimate import Estimate
from medsql.metrics.scores import score
from medsql.metrics.significance import Difference, difference
from medsql.runs.differences import in_points, p_value
from medsql.runs.folder import RECORD, read_record
from medsql.runs.labels import SHOWN
from medsql.runs.predictions import read_predictions

TESTED = ("exact_match", "execution")
GENERATION = {"train": ("seconds_since_last_start", "test"), "evaluate": ("seconds", "generation")}
"""Where the records of each kind say how long generating took."""


class Rung(NamedTuple):
    """A name, the rows that were scored, and the milliseconds that each took to generate.

    Those of a training include loading the weights that validated best, and saving them.
    """

    name: str
    rows: list[dict[str, Any]]
    milliseconds: float


def main(folders: Sequence[str]) -> None:
    """Print a table of scores, and one of the steps from each rung to the next."""
    rungs = [read_rung(Path(folder)) for folder in folders if folder != "--unseen"]
    if "--unseen" in folders:
        rungs = unseen(rungs)
    print_table(["", *SHOWN, "ms a query"], [scores(rung) for rung in rungs])
    steps = [step(lower, upper) for lower, upper in pairwise(rungs)]
    print_table(["", *(heading for name in TESTED for heading in (f"{name}, points", "p"))], steps)


def read_rung(folder: Path) -> Rung:
    """Raises `UserError` where a folder holds nothing that was scored."""
    folders = [file.parent for file in sorted([*folder.glob(RECORD), *folder.glob(f"*/{RECORD}")])]
    rows: list[dict[str, Any]] = []
    kinds: set[str] = set()
    seconds = 0.0
    for each in folders:
        record = read_record(each) or {}
        if record.get("kind") not in GENERATION or record["state"] != "finished":
            raise UserError(f"{each} is no finished training or evaluation")
        kinds.add(record["kind"])
        rows += read_predictions(each)
        times, generation = GENERATION[record["kind"]]
        seconds += record[times][generation]
    if not rows:
        raise UserError(f"{folder} holds nothing that was scored")
    if len(kinds) > 1:  # as beside trainings the evaluation of their baseline
        raise UserError(f"{folder} holds trainings and evaluations: which are the rung?")
    return Rung(folder.name, rows, 1000 * seconds / len(rows))


def unseen(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs without the rows whose query one of them was trained on.

    Raises `UserError` for a rung that does not know which these are.
    """
    for rung in rungs:
        if any(row.get("trained_on") is None for row in rung.rows):
            raise UserError(
                f"{rung.name} does not say which queries its model was trained on: score it again"
            )
    seen = {row["sql"] for rung in rungs for row in rung.rows if row["trained_on"]}
    left = [rung._replace(rows=[row for row in rung.rows if row["sql"] not in seen]) for rung in rungs]
    if not all(rung.rows for rung in left):
        raise UserError("--unseen: no row is left whose query none was trained on")
    return left


def scores(rung: Rung) -> list[str]:
    """A line of the first table."""
    found = score([{name: row.get(name) for name in SCORES} for row in rung.rows])
    cells = [str(Estimate(**found[name])) if name in found else "" for name in SHOWN]
    return [f"{rung.name}, n = {len(rung.rows)}", *cells, f"{rung.milliseconds:.0f}"]


def step(lower: Rung, upper: Rung) -> list[str]:
    """A line of the second table. Raises `UserError` where the two were scored on other rows."""
    if [row["sql"] for row in lower.rows] != [row["sql"] for row in upper.rows]:
        raise UserError(f"{lower.name} and {upper.name} were scored on other rows")
    found = [tested(lower, upper, name) for name in TESTED]
    return [upper.name, *(cell for each in found for cell in (in_points(each), p_value(each.p)))]


def tested(lower: Rung, upper: Rung, name: str) -> Difference:
    """The difference of one score, over the rows whose gold query can judge it."""
    both = [(one.get(name), other.get(name)) for one, other in zip(lower.rows, upper.rows, strict=True)]
    judged = [(one, other) for one, other in both if one is not None and other is not None]
    return difference([one for one, _ in judged], [other for _, other in judged])


def print_table(headings: list[str], lines: list[list[str]]) -> None:
    """In Markdown."""
    for line in (headings, ["---", *["--:"] * (len(headings) - 1)], *lines):
        print(f"| {' | '.join(line)} |")
    print()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"ladder: {error}")
