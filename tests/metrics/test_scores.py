"""What metrics.json says of a set of predictions."""

import json

import pytest

from medsql.data.pairs import Pair
from medsql.metrics import scores as scoring
from medsql.metrics.scores import row_scores, score_rows

PAIRS = [Pair("?", "a b"), Pair("?", "c d"), Pair("?", "e f g"), Pair("?", "h")]


def score(pairs, predictions):
    return scoring.score(score_rows(pairs, predictions))


def test_scores_are_fractions_with_their_intervals() -> None:
    scores = score(PAIRS, ["A B", "c", "e x", "y"])
    assert scores["n"] == 4
    assert scores["exact_match"]["value"] == 0.25
    assert scores["token_precision"]["value"] == pytest.approx((1 + 1 + 1 / 2 + 0) / 4)
    assert scores["token_recall"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert scores["token_f1"]["value"] == pytest.approx((1 + 2 / 3 + 2 / 5 + 0) / 4)
    for name in ("exact_match", "token_f1", "token_precision", "token_recall"):
        assert 0 <= scores[name]["low"] < scores[name]["value"] < scores[name]["high"] <= 1


def test_logical_form_is_a_share_of_its_own() -> None:
    pairs = [Pair("?", "SELECT LAB.A FROM LAB WHERE LAB.B = 1 AND LAB.C = 2")] * 3
    scores = score(pairs, ["select A from LAB where LAB.C = 2 and LAB.B = 1", pairs[0].sql, "SELECT LAB.A"])
    assert scores["exact_match"]["value"] == pytest.approx(1 / 3)
    assert scores["logical_form"]["value"] == pytest.approx(1 / 3)  # LAB has no column A to resolve
    scores = score(
        [Pair("?", "SELECT LAB.FLAG FROM LAB")] * 2, ["select FLAG from LAB;", "SELECT FLUID FROM LAB"]
    )
    assert (scores["exact_match"]["value"], scores["logical_form"]["value"]) == (0, 0.5)
    assert (scores["logical_form"]["low"], scores["logical_form"]["high"]) == pytest.approx(
        (0.0945, 0.9055), abs=1e-4
    )


def test_a_rows_verdicts_and_degrees_are_those_that_the_scores_sum_up() -> None:
    row = row_scores("SELECT FLAG FROM LAB", "SELECT LAB.FLAG FROM LAB")
    assert row == {
        "exact_match": False,
        "logical_form": True,
        "valid": True,
        "token_f1": pytest.approx(0.75),
        "token_precision": pytest.approx(0.75),
        "token_recall": pytest.approx(0.75),
    }
    assert row.keys() == score(PAIRS, ["a"] * 4).keys() - {"n"}


def test_scores_survive_json() -> None:
    scores = score(PAIRS, ["a b"] * 4)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_predictions_must_match_the_pairs() -> None:
    with pytest.raises(ValueError, match="3 predictions for 4 pairs"):
        score(PAIRS, ["a"] * 3)
    with pytest.raises(ValueError, match="0 predictions for 0 pairs"):
        score([], [])


def test_valid_is_what_runs_on_the_schema_right_or_wrong() -> None:
    gold = 'SELECT LAB."FLAG" FROM LAB WHERE LAB."ITEMID" = "50980"'
    written = [
        gold,
        gold.replace("ITEMID", "ITEM_ID"),
        gold.replace("LAB", "LABS"),
        gold[:-30],
        "DROP TABLE LAB",
    ]
    assert [row_scores(sql, gold)["valid"] for sql in written] == [True, False, False, False, False]
    assert row_scores(gold.replace("50980", "1"), gold)["valid"]
