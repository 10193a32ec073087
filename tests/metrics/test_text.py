"""The report's two measures, checked against figures worked out by hand."""

import pytest

from medsql.metrics.text import exact_match, token_overlap


@pytest.mark.parametrize(
    ("prediction", "same"),
    [
        ("SELECT A FROM B", True),
        ("  select a from b\n", True),
        ("SELECT  A FROM B", False),
        ("SELECT A FROM C", False),
        ("", False),
    ],
)
def test_exact_match_ignores_case_and_outer_space_only(prediction: str, same: bool) -> None:
    assert exact_match(prediction, "SELECT A FROM B") is same


def test_nothing_equals_nothing() -> None:
    assert exact_match("", "  ")


def test_token_overlap_counts_distinct_tokens_whatever_their_case_and_order() -> None:
    # Predicted {a, b, c}, gold {a, b, d, e}: two shared.
    precision, recall, f1 = token_overlap("A b b B c", "d e a\tb")
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(2 / 4)
    assert f1 == pytest.approx(4 / 7)


def test_equal_token_sets_score_one_though_the_text_differs() -> None:
    assert token_overlap("b a", "a b a") == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [("", "", 0.0), ("", " ", 0.0), ("a", "", 0.0), (" ", "\n", 1.0), (" ", "a", 0.0), ("a", "b", 0.0)],
)
def test_empty_text_scores_as_in_the_report(prediction: str, reference: str, score: float) -> None:
    assert token_overlap(prediction, reference) == (score, score, score)
