"""Two systems on the same rows: how far their scores differ, and whether chance explains it.

Both questions are answered row by row. Rows that are hard for one system tend to be hard for the
other, so that the intervals of two scores may well overlap where the difference is beyond doubt.
Where each system was trained with several seeds, they are asked seed by seed as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy import stats

from medsql.metrics.estimate import Estimate
from medsql.metrics.intervals import (
    CONFIDENCE,
    RESAMPLES,
    FloatArray,
    bootstrap_interval,
    resamples_at_once,
    share,
)


class Difference(NamedTuple):
    """The second system's score minus the first's, a fraction from -1 to 1, with its 95 % interval.

    `p` is the two-sided p-value of no difference, `n` the number of rows, or of seeds.
    """

    value: float
    low: float
    high: float
    p: float
    n: int


def difference(first: Sequence[bool | float], second: Sequence[bool | float], seed: int = 0) -> Difference:
    """The difference of two scores from what each row scored: of shares for verdicts, else of means.

    Raises `ValueError` where the two differ in length or are empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(second)} rows beside {len(first)}: the same rows are compared, at least one")
    if isinstance(first[0], bool):
        return share_difference(first, second)
    return mean_difference(first, second, seed)


def share_difference(first: Sequence[bool | float], second: Sequence[bool | float]) -> Difference:
    """Difference of two shares: McNemar's exact test and Newcombe's square-and-add interval.

    Under the null hypothesis either system is as likely as the other to be the one that is right
    where just one is (Q. McNemar, Psychometrika 1947); where they never disagree, p is 1. The exact test is
    the more cautious of the two: p may pass 0.05 where the interval still leaves 0 out.
    """
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    p = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Difference(*_newcombe(both, lost, won, neither), p, len(pairs))


def _newcombe(both: int, lost: int, won: int, neither: int) -> tuple[float, float, float]:
    """The difference and its interval: Wilson's intervals of both shares, joined by their correlation.

    Method 10 of R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 1998; it stays inside -1 to 1.
    """
    n = both + lost + won + neither
    one, two = share(both + lost, n), share(both + won, n)
    phi = _correlation(both, lost, won, neither)
    value = (won - lost) / n
    return value, value - _distance(two, one, phi), value + _distance(one, two, phi)


def _distance(falling: Estimate, rising: Estimate, phi: float) -> float:
    """How far the difference moves as one share falls and the other rises to the end of its interval."""
    down, up = falling.value - falling.low, rising.high - rising.value
    return sqrt(down**2 - 2 * phi * down * up + up**2)


def _correlation(both: int, lost: int, won: int, neither: int) -> float:
    """Phi of the two verdicts, with Newcombe's continuity correction where it is positive."""
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    if not margins:  # a system is always, or never, right
        return 0.0
    excess: float = both * neither - lost * won
    if excess > 0:
        excess = max(excess - (both + lost + won + neither) / 2, 0)
    return excess / sqrt(margins)


def mean_difference(
    first: Sequence[bool | float], second: Sequence[bool | float], seed: int = 0
) -> Difference:
    """Difference of two means: a paired permutation test, and the paired bootstrap's interval.

    Rows are resampled with both their scores (percentile interval, as for a single mean). The test is
    approximate randomisation (E. W. Noreen, "Computer-Intensive Methods for Testing Hypotheses", 1989):
    under the null hypothesis the two scores of a row may be swapped; over all swaps where these are
    few, else over random ones. One row says nothing about spread and gets the whole range. The same
    scores and seed give the same result.
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    n, p = len(differences), _permutation_p(differences, seed)
    low, high = (-1.0, 1.0) if n == 1 else bootstrap_interval(differences, seed)
    return Difference(float(differences.mean()), low, high, p, n)


def seed_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Difference of two means over the same seeds, `first[i]` and `second[i]` of one seed: the paired t test.

    It asks whether other seeds would show the difference too, on these rows. Differences that are all the
    same leave no spread to judge by: their interval has a width of 0, and p is NaN unless all are 0.
    Raises `ValueError` where the two differ in length or have fewer than two values.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"{len(second)} seeds beside {len(first)}: the same seeds are compared, at least two"
        )
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    value, n = float(differences.mean()), len(differences)
    if np.ptp(differences) < 1e-12:  # equal but for rounding
        return Difference(value, value, value, float("nan") if abs(value) > 1e-12 else 1.0, n)
    test = stats.ttest_1samp(differences, 0)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(value, float(interval.low), float(interval.high), float(test.pvalue), n)


def _permutation_p(differences: FloatArray, seed: int) -> float:
    """Swapping the scores of a row changes the sign of their difference."""
    unequal = differences[differences != 0]  # a swap of equal scores changes nothing
    if len(unequal) < 2:  # nothing, or one difference that is as likely to be its opposite
        return 1.0
    test = stats.permutation_test(
        (unequal,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=resamples_at_once(len(unequal)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
