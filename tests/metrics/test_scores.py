"""What metrics.json says of a set of predictions."""

import json

import pytest

from medsql.data.pairs import Pair
from medsql.metrics.scores import score

PAIRS = [Pair("?", "a b"), Pair("?", "c d"), Pair("?", "e f g"), Pair("?", "h")]


def test_scores_are_fractions_with_their_intervals() -> None:
    scores = score(PAIRS, ["A B", "c", "e x", "y"])
    assert scores["n"] == 4
    assert scores["exact_match"]["value"] == 0.25
    assert scores["token_precision"]["value"] == pytest.approx((1 + 1 + 1 / 2 + 0) / 4)
    assert scores["token_recall"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert scores["token_f1"]["value"] == pytest.approx((1 + 2 / 3 + 2 / 5 + 0) / 4)
    for name in ("exact_match", "token_f1", "token_precision", "token_recall"):
        assert 0 <= scores[name]["low"] < scores[name]["value"] < scores[name]["high"] <= 1


def test_scores_survive_json() -> None:
    scores = score(PAIRS, ["a b"] * 4)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_predictions_must_match_the_pairs() -> None:
    with pytest.raises(ValueError, match="3 predictions for 4 pairs"):
        score(PAIRS, ["a"] * 3)
    with pytest.raises(ValueError, match="0 predictions for 0 pairs"):
        score([], [])
