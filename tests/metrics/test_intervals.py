"""Intervals against published figures, and at the ends where formulas break."""

import numpy as np
import pytest

from medsql.metrics.intervals import mean, mean_over_seeds, share


def test_wilson_interval_of_the_reports_exact_match() -> None:
    # 33 of 100: 24.6 % to 42.7 % in any table of Wilson intervals.
    estimate = share(33, 100)
    assert estimate.value == 0.33
    assert estimate.n == 100
    assert (estimate.low, estimate.high) == pytest.approx((0.2456, 0.4269), abs=1e-4)


def test_a_share_of_nothing_or_all_is_still_uncertain() -> None:
    assert share(0, 100)[:2] == (0.0, 0.0)
    assert share(0, 100).high == pytest.approx(0.0370, abs=1e-4)
    assert share(5, 5).low == pytest.approx(0.5655, abs=1e-4)
    assert share(5, 5).high == 1.0


def test_the_bootstrap_interval_of_a_large_sample_is_the_normal_one() -> None:
    scores = np.random.default_rng(7).beta(8, 2, size=1000)
    estimate = mean(scores.tolist())
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate.low == pytest.approx(scores.mean() - half, abs=0.001)
    assert estimate.high == pytest.approx(scores.mean() + half, abs=0.001)


def test_the_bootstrap_repeats() -> None:
    scores = np.random.default_rng(7).random(50).tolist()
    assert mean(scores) == mean(scores)
    assert mean(scores, seed=1) != mean(scores, seed=2)


@pytest.mark.parametrize("scores", [[0.0, 1.0], [1.0] * 99 + [0.0], [0.0] * 999 + [0.5]])
def test_skewed_samples_have_finite_intervals_around_the_mean(scores: list[float]) -> None:
    estimate = mean(scores)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_samples_without_spread() -> None:
    assert mean([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25, 3)
    assert mean([0.25]) == (0.25, 0.0, 1.0, 1)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        mean([])
    with pytest.raises(ValueError):
        share(0, 0)


def test_a_mean_over_seeds_has_students_interval() -> None:
    found = mean_over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.value == 3 and found.n == 5
    assert (found.low, found.high) == pytest.approx((3 - 1.963, 3 + 1.963), abs=1e-3)
    with pytest.raises(ValueError):
        mean_over_seeds([1.0])
