"""95 % confidence intervals: every score is reported with the range its sample leaves open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medsql.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9999
"""SciPy's default for the bootstrap; its error is then far below the width of any interval here."""


def share(successes: int, n: int) -> Estimate:
    """A share of `n` rows with Wilson's interval, which stays inside 0 to 1 and works at both ends.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
    Raises `ValueError` where `n` is 0 or `successes` is not between 0 and `n`.
    """
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean(scores: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of per-row scores from 0 to 1 with the percentile bootstrap's interval.

    The percentile interval, unlike BCa, is defined for every sample. Rows that all score the same
    leave nothing to resample and get a width of 0; a single row says nothing about spread and
    gets the whole range. The same scores and seed give the same interval.
    Raises `ValueError` where `scores` is empty.
    """
    if not len(scores):
        raise ValueError("no scores to average")
    values = np.asarray(scores, dtype=float)
    value, n = float(values.mean()), len(values)
    if n == 1:
        return Estimate(value, 0.0, 1.0, n)
    return Estimate(value, *bootstrap_interval(values, seed), n)


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of what runs with different seeds came to, with Student's t interval; `n` is their number.

    The interval is of the mean over all seeds there are: it says nothing of other rows. Unlike the others it
    takes values of any size, such as losses. Raises `ValueError` for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values: a spread takes two")
    sample = np.asarray(values, dtype=float)
    value, error = float(sample.mean()), float(stats.sem(sample))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Estimate(value, value - reach, value + reach, len(values))


def bootstrap_interval(values: FloatArray, seed: int) -> tuple[float, float]:
    """The percentile bootstrap's interval of the mean of at least two values (Efron 1979).

    Values that are all the same give an interval of width 0.
    """
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=resamples_at_once(len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def resamples_at_once(n: int) -> int:
    """How many samples of `n` float64 fit into 16 MB."""
    return max(1, 2_000_000 // n)
