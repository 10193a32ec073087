"""Paired tests and intervals against published figures, and where there is little to compare."""

import warnings
from math import isnan

import numpy as np
import pytest

from medsql.metrics.significance import difference, mean_difference, seed_difference, share_difference


def verdicts(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Rows that both systems have right, then those of just one, then those that both have wrong."""
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("table", "p"),
    [
        # Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 2013, 13:91: airway hyper-responsiveness.
        ((1, 1, 7, 12), 0.0703),
        # Armitage and Berry, Statistical Methods in Medical Research 1994, p. 127: two culture media.
        ((20, 12, 2, 16), 0.0129),
    ],
)
def test_mcnemars_exact_test_gives_the_published_p(table: tuple[int, int, int, int], p: float) -> None:
    assert share_difference(*verdicts(*table)).p == pytest.approx(p, abs=5e-5)


@pytest.mark.parametrize(
    ("table", "value", "low", "high"),
    [
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8; as
        # first minus second there.
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
        # Newcombe, Statistics in Medicine 1998, 17:2635, method 10.
        ((36, 12, 2, 0), 0.2, 0.0569, 0.3404),
    ],
)
def test_the_interval_of_paired_shares_is_the_published_one(
    table: tuple[int, int, int, int], value: float, low: float, high: float
) -> None:
    found = share_difference(*verdicts(*table))
    assert (-found.value, -found.high, -found.low) == pytest.approx((value, low, high), abs=5e-5)


def test_a_difference_is_the_second_less_the_first_and_turns_with_them() -> None:
    first, second = verdicts(40, 5, 20, 35)
    found, turned = difference(first, second), difference(second, first)
    assert found.value == pytest.approx(0.15) and found.n == 100
    assert (turned.value, turned.low, turned.high) == pytest.approx((-0.15, -found.high, -found.low))
    assert turned.p == found.p
    assert 0 < found.low < 0.15 < found.high


def test_pairing_shows_what_two_separate_intervals_hide() -> None:
    # 50 and 57 of 100, of which 50 are the same rows: each Wilson interval holds the other's share.
    found = share_difference(*verdicts(50, 0, 7, 43))
    assert found.low > 0 and found.p < 0.05


@pytest.mark.parametrize("n", [1, 2, 100])
@pytest.mark.parametrize("scores", [[True], [False], [0.25], [0.0], [1.0]])
def test_equal_scores_do_not_differ(n: int, scores: list[bool | float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(scores * n, scores * n)
    assert (found.value, found.p, found.n) == (0, 1, n)
    assert -1 <= found.low <= 0 <= found.high <= 1


def test_equal_verdicts_on_a_sample_leave_a_difference_possible_and_more_rows_less_of_it() -> None:
    few, many = (difference(*verdicts(n, 0, 0, n)) for n in (5, 500))
    assert few.low < many.low < 0 < many.high < few.high


@pytest.mark.parametrize(("first", "second"), [([False], [True]), ([0.0], [1.0]), ([0.2], [0.9])])
def test_a_single_row_proves_nothing(first: list[bool | float], second: list[bool | float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(first, second)
    assert found.value == pytest.approx(second[0] - first[0])
    assert found.p == 1
    assert -1 <= found.low < 0 < found.high <= 1


@pytest.mark.parametrize("table", [(0, 10, 0, 0), (0, 0, 10, 0), (10, 0, 0, 0), (0, 0, 1, 9)])
def test_intervals_of_extreme_shares_stay_between_minus_one_and_one(table: tuple[int, int, int, int]) -> None:
    found = share_difference(*verdicts(*table))
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_few_rows_are_permuted_exactly() -> None:
    # All five differences point one way: 2 of the 2^5 assignments of signs are as extreme.
    assert mean_difference([0.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]).p == pytest.approx(2 / 32)


def test_rows_without_a_difference_do_not_change_p() -> None:
    alone = mean_difference([0.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    diluted = mean_difference([0.0] * 5 + [0.7] * 95, [0.1, 0.2, 0.3, 0.4, 0.5] + [0.7] * 95)
    assert diluted.p == alone.p
    assert diluted.value == pytest.approx(alone.value / 20)


def test_the_means_of_many_rows_are_compared_as_a_paired_t_test_would() -> None:
    draw = np.random.default_rng(3)
    first = draw.uniform(0, 0.7, 400)
    gains = draw.normal(0.02, 0.15, 400)
    found = mean_difference(first.tolist(), (first + gains).tolist())
    half = 1.96 * gains.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((gains.mean() - half, gains.mean() + half), abs=0.002)
    from scipy import stats

    assert found.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, abs=0.02)
    # Unpaired, the rows' own spread would drown the difference.
    assert found.high - found.low < 0.6 * 2 * 1.96 * first.std() * (2 / 400) ** 0.5


def test_under_the_null_hypothesis_p_is_below_a_twentieth_in_a_twentieth_of_the_samples() -> None:
    draw = np.random.default_rng(11)
    samples = draw.normal(0, 0.1, (300, 10))  # ten rows: all 1024 assignments of signs, so p is exact
    small = sum(mean_difference([0.0] * 10, sample.tolist()).p <= 0.05 for sample in samples)
    assert 5 <= small <= 27  # 15 expected; the binomial's central 99.7 %


def test_the_same_seed_gives_the_same_result() -> None:
    draw = np.random.default_rng(5)
    first, second = draw.random(60).tolist(), draw.random(60).tolist()
    assert mean_difference(first, second) == mean_difference(first, second)
    one, other = (mean_difference(first, second, seed) for seed in (1, 2))
    assert one.p != other.p and one.low != other.low
    assert one.p == pytest.approx(other.p, abs=0.03) and one.low == pytest.approx(other.low, abs=0.01)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False]), ([0.1], [])])
def test_only_the_same_rows_are_compared(first: list[bool | float], second: list[bool | float]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        difference(first, second)


def test_seeds_are_compared_by_the_paired_t_test() -> None:
    found = seed_difference([1, 2, 3], [2, 4, 6])
    assert found.value == 2 and found.n == 3
    assert (found.low, found.high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert found.p == pytest.approx(0.0742, abs=1e-4)


def test_seeds_that_all_differ_alike_leave_no_spread_to_judge_by() -> None:
    alike = seed_difference([0.1, 0.2], [0.3, 0.4])
    assert isnan(alike.p) and alike.low == alike.high == pytest.approx(0.2)
    assert seed_difference([0.1, 0.2], [0.1, 0.2]).p == 1


@pytest.mark.parametrize(("first", "second"), [([1], [2]), ([1, 2], [1, 2, 3])])
def test_fewer_than_two_common_seeds_are_no_comparison(first: list[int], second: list[int]) -> None:
    with pytest.raises(ValueError):
        seed_difference(first, second)
