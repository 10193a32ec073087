"""What metrics.json says of a set of predictions."""

import json

import pytest

from medsql.config import SCORES
from medsql.data.pairs import Pair
from medsql.metrics import scores as scoring
from medsql.metrics.execution import Execution, verdict
from medsql.metrics.scores import row_scores, score_rows

PAIRS = [Pair("?", "a b"), Pair("?", "c d"), Pair("?", "e f g"), Pair("?", "h")]


def score(pairs, predictions):
    return scoring.score(score_rows(pairs, predictions, Execution()))


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
    row = row_scores("SELECT FLAG FROM LAB", "SELECT LAB.FLAG FROM LAB", Execution())
    assert row == {
        "exact_match": False,
        "logical_form": True,
        "execution": True,
        "valid": True,
        "token_f1": pytest.approx(0.75),
        "token_precision": pytest.approx(0.75),
        "token_recall": pytest.approx(0.75),
    }
    assert tuple(row) == SCORES


def test_rows_whose_gold_query_does_not_run_count_for_the_text_scores_alone() -> None:
    gold = ["SELECT LAB.FLAG FROM LAB", "SELECT B FROM WARD", "SELECT LAB.FLUID FROM LAB"]
    scores = score([Pair("?", sql) for sql in gold], ["SELECT FLAG FROM LAB", "SELECT B FROM WARD", "SELECT"])
    assert scores["n"] == scores["exact_match"]["n"] == scores["logical_form"]["n"] == 3
    assert scores["execution"]["n"] == scores["valid"]["n"] == 2
    assert scores["execution"]["value"] == scores["valid"]["value"] == 0.5
    assert not {"execution", "valid"} & score(PAIRS, ["a"] * 4).keys()


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
        gold.replace("LAB WHERE", "WHERE"),
        "DROP TABLE LAB",
    ]
    unknown = ["unknown column LAB.ITEM_ID", "unknown table LABS"]
    verdicts = ["ok", *unknown, "syntax error", "forbidden: DROP"]
    assert [row_scores(sql, gold, Execution())["valid"] for sql in written] == [v == "ok" for v in verdicts]
    assert [verdict(sql) for sql in written] == verdicts
    assert row_scores(gold.replace("50980", "1"), gold, Execution())["valid"]
