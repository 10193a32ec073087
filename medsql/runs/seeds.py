"""Runs that differ in nothing but their seed: what a configuration scores, whatever luck a run has had.

Two configurations are compared twice, on the same seeds. Over rows: would other questions show the
difference, with these seeds? Over seeds: would other seeds, on these questions? Neither covers the other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from medsql.errors import UserError
from medsql.metrics.estimate import Estimate
from medsql.runs.differences import in_points, p_value
from medsql.runs.labels import score_label
from medsql.runs.predictions import read_predictions
from medsql.runs.recorded import Recorded, lower_is_better, metric_of, ranked, score_names, unlike
from medsql.runs.table import columns, show
from medsql.wording import counted

if TYPE_CHECKING:
    from medsql.metrics.significance import Difference

log = logging.getLogger(__name__)

MOST_IN_PAIRS = 4
"""Configurations that are all compared with one another; of more, each is compared with the best alone."""

MOST_PRINTED = 6
"""Comparisons that a terminal has room for: those of `MOST_IN_PAIRS` configurations."""

MEANS = (
    "Means over the seeds of finished runs, with Student's t interval of 95 %, which covers the choice of "
    "seeds and not that of rows; scores in percent."
)
METHODS = (
    "Over rows: each row's score is its mean over the seeds; paired permutation test and paired bootstrap "
    "over rows, which cover the choice of rows with these seeds. Over seeds: paired t test and interval over "
    "the differences seed by seed, which cover the choice of seeds on these rows. Differences that are all "
    "the same have no spread, and so no interval. Neither covers both, and p is not corrected for the number "
    "of comparisons."
)


@dataclass(frozen=True, eq=False)
class Configuration:
    """Finished runs of one configuration by their seeds, in the seeds' order."""

    label: str
    runs: Mapping[int, Recorded]

    @property
    def seeds(self) -> str:
        """`42, 43, 44`."""
        return ", ".join(map(str, self.runs))

    def objective(self) -> Spread:
        """Of the objective, in its own unit."""
        return spread_of([run.objective or 0.0 for run in self.runs.values()])

    def score(self, name: str) -> Spread | None:
        """Of a test score, as a fraction; None where a run lacks it, or was tested on other rows."""
        found = [run.scores.get(name) for run in self.runs.values()]
        rows = {run.rows for run in self.runs.values()}
        values = [score.value for score in found if score is not None]
        return spread_of(values) if len(values) == len(found) and len(rows) == 1 else None


class Spread(NamedTuple):
    """A mean over seeds: with its interval, unless one seed alone, or equal values, leave no spread."""

    mean: float
    interval: Estimate | None

    def percent(self) -> str:
        """`33.0 (25.0–43.0)`, which ends where shares do."""
        return f"{100 * self.mean:.1f}" if self.interval is None else str(within_shares(self.interval))

    def plain(self) -> str:
        """`0.780 (0.772–0.788)`."""
        ends = "" if self.interval is None else f" ({self.interval.low:.3f}–{self.interval.high:.3f})"
        return f"{self.mean:.3f}{ends}"


class SeedComparison(NamedTuple):
    """How the second configuration's test scores differ from the first's, on the seeds both have."""

    first: Configuration
    second: Configuration
    seeds: Sequence[int]
    over_rows: Mapping[str, Difference]
    over_seeds: Mapping[str, Difference]


def spread_of(values: Sequence[float]) -> Spread:
    """The mean of at least one value, and where there are several that differ its interval."""
    from medsql.metrics.intervals import mean_over_seeds  # imports scipy

    return Spread(fmean(values), mean_over_seeds(values) if len(set(values)) > 1 else None)


def within_shares(estimate: Estimate) -> Estimate:
    """A t interval knows no bounds; a share cannot pass 0 and 1."""
    return estimate._replace(low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def configurations(runs: Sequence[Recorded]) -> list[Configuration]:
    """Finished runs by what they share besides the seed, the best mean objective first.

    In the order given where objectives cannot be ranked. None unless some configuration has several seeds. Of
    two runs of one configuration and seed the first counts, which is logged.
    """
    found: dict[str, dict[int, Recorded]] = {}
    twice: list[tuple[Recorded, Recorded]] = []
    done = ranked(runs)
    no_order = bool(unlike(done))
    for run in [run for run in runs if run in done] if no_order else done:
        rest = dict(run.identity)
        seed = rest.pop("seed", None)
        if seed is None:
            continue
        same = found.setdefault(str(sorted(rest.items())), {})
        if seed in same:
            twice.append((same[seed], run))
        same.setdefault(seed, run)
    if not any(len(same) > 1 for same in found.values()):
        return []
    for first, again in twice:
        log.warning(
            "%s and %s are the same run twice: means over seeds count the first", first.label, again.label
        )
    labels = [_label(same) for same in found.values()]
    named = [
        # Where a label tells too little, that of a run does.
        Configuration(
            label if labels.count(label) == 1 else next(iter(same.values())).label,
            dict(sorted(same.items())),
        )
        for label, same in zip(labels, found.values(), strict=True)
    ]
    if no_order:
        return named
    falls = 1 if lower_is_better(done[0]) else -1
    return sorted(named, key=lambda each: falls * each.objective().mean)


def _label(same: Mapping[int, Recorded]) -> str:
    """What the labels of its runs say besides the seed; where they say nothing of it, the first one's."""
    first, *others = (re.sub(r"(, )?(?<![\w.])seed=\d+", "", run.label).strip(", ") for run in same.values())
    return first or "all" if all(other == first for other in others) else next(iter(same.values())).label


def compare_seeds(found: Sequence[Configuration]) -> list[SeedComparison]:
    """Every pair of configurations, or with more than `MOST_IN_PAIRS` the first and each other one.

    A difference is the better one's score, by the mean objective, minus the other's.
    Pairs that do not have two seeds in common, or were tested on other rows, are left out; predictions that
    cannot be read are logged.
    """
    read = _Predictions()
    several = [each for each in found if len(each.runs) > 1]
    pairs = [*combinations(several, 2)]
    if len(several) > MOST_IN_PAIRS:
        pairs = [(several[0], other) for other in several[1:]]
    compared = [_compare(worse, better, read) for better, worse in pairs]
    return [each for each in compared if each is not None]


class _Predictions:
    """The rows of each folder, read once."""

    def __init__(self) -> None:
        self.rows: dict[Recorded, list[dict[str, Any]]] = {}

    def of(self, run: Recorded) -> list[dict[str, Any]]:
        if run not in self.rows:
            try:
                self.rows[run] = read_predictions(run.folder)
            except UserError as error:
                log.warning("%s, nothing is tested", error)
                self.rows[run] = []
        return self.rows[run]


def _compare(first: Configuration, second: Configuration, read: _Predictions) -> SeedComparison | None:
    from medsql.metrics.significance import mean_difference, seed_difference  # imports scipy

    seeds = [seed for seed in first.runs if seed in second.runs]
    runs = [each.runs[seed] for each in (first, second) for seed in seeds]
    if len(seeds) < 2 or len({run.rows for run in runs}) > 1 or not all(run.scores for run in runs):
        return None
    if not _same_rows([read.of(run) for run in runs]):
        log.warning(
            "%s, %s: predictions.jsonl is missing or of other rows, nothing is tested",
            first.label,
            second.label,
        )
        return None
    over_rows, over_seeds = {}, {}
    for name in score_names(runs):
        scored = [[row.get(name) for row in read.of(run)] for run in runs]
        # A gold query may be of no use for a score, whoever is scored.
        judged = [row for row in zip(*scored, strict=True) if None not in row]
        if judged:
            by_run = [[float(value) for value in of_run] for of_run in zip(*judged, strict=True)]
            before, after = by_run[: len(seeds)], by_run[len(seeds) :]
            over_rows[name] = mean_difference(_means(before), _means(after))
            over_seeds[name] = seed_difference(
                [fmean(each) for each in before], [fmean(each) for each in after]
            )
    return SeedComparison(first, second, seeds, over_rows, over_seeds)


def _same_rows(predictions: Sequence[list[dict[str, Any]]]) -> bool:
    asked = [[row["sql"] for row in rows] for rows in predictions]
    return bool(asked[0]) and all(each == asked[0] for each in asked)


def _means(runs: Sequence[Sequence[float]]) -> list[float]:
    """Each row's mean over the runs."""
    return [fmean(row) for row in zip(*runs, strict=True)]


# --- what is said of them ---------------------------------------------------------------------------

DIFFERENCE_COLUMNS = ("rows", "points, over rows", "p, over rows", "points, over seeds", "p, over seeds")
"""Of `difference_rows`, behind the score's name."""


def mean_rows(found: Sequence[Configuration], names: Sequence[str]) -> list[list[str]]:
    """A line for each configuration: label, number of seeds, the objective's mean, those of the scores."""
    return [
        [
            each.label,
            str(len(each.runs)),
            each.objective().plain(),
            *["" if (score := each.score(name)) is None else score.percent() for name in names],
        ]
        for each in found
    ]


def difference_rows(comparison: SeedComparison, names: Sequence[str]) -> list[list[str]]:
    """A line for each score: of how many rows, and the differences over rows and over seeds, with their p."""
    return [
        [score_label(name), str(rows.n), in_points(rows), p_value(rows.p), in_points(seeds), p_value(seeds.p)]
        for name in names
        if (rows := comparison.over_rows.get(name)) and (seeds := comparison.over_seeds.get(name))
    ]


def title_of(comparison: SeedComparison) -> str:
    """Which is compared with which, on how many seeds."""
    first, second, seeds, *_ = comparison
    return f"{second.label} minus {first.label}, {len(seeds)} seeds"


def metric_of_all(found: Sequence[Configuration]) -> str:
    """What the objective of all their runs is."""
    return metric_of(run for each in found for run in each.runs.values())


def print_seeds(found: Sequence[Configuration], comparisons: Sequence[SeedComparison]) -> None:
    """Both tables on the terminal, of the scores that most ask for and of `MOST_PRINTED` comparisons."""
    if not found:
        return
    names = ["exact_match", "logical_form", "execution", "token_f1"]
    names = [name for name in names if any(each.score(name) for each in found)]
    of_scores = [f"test {score_label(name)} %" for name in names]
    table = columns("configuration", numbers=["seeds", f"{metric_of_all(found)}, mean", *of_scores])
    for row in mean_rows(found, names):
        table.add_row(*row)
    print()
    show(table)
    print(MEANS)
    for comparison in comparisons[:MOST_PRINTED]:
        table = columns("score", numbers=DIFFERENCE_COLUMNS)
        for row in difference_rows(comparison, names):
            table.add_row(*row)
        print(f"\n{title_of(comparison)}:")
        show(table)
    if more := comparisons[MOST_PRINTED:]:
        print(f"\n{counted(len(more), 'more comparison')} of configurations: in the report")
    if comparisons:
        print(METHODS.replace(". ", ".\n"))
