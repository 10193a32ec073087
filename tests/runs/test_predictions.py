"""What a run predicted, and how it scored, is in its folder."""

import subprocess
import sys

from medsql.data.pairs import Pair
from medsql.runs.predictions import read_predictions, values_of, write_predictions

PAIRS = [Pair("which fluid?", "SELECT LAB.FLUID FROM LAB"), Pair("which flag?", "SELECT LAB.FLAG FROM LAB")]


def test_each_row_says_what_it_scored(tmp_path):
    metrics = write_predictions(tmp_path, PAIRS, ["select FLUID from LAB", "SELECT"], {"split": "test"})
    rows = read_predictions(tmp_path)
    assert [row["logical_form"] for row in rows] == [True, False]
    assert [row["exact_match"] for row in rows] == [False, False]
    assert [row["prediction"] for row in rows] == ["select FLUID from LAB", "SELECT"]
    assert [row["question"] for row in rows] == ["which fluid?", "which flag?"]
    assert metrics["logical_form"]["value"] == 0.5


def test_loggers_get_every_score(tmp_path):
    metrics = write_predictions(tmp_path, PAIRS, [pair.sql for pair in PAIRS], {"split": "test"})
    assert values_of(metrics) == {
        "test/exact_match": 1.0,
        "test/logical_form": 1.0,
        "test/valid": 1.0,
        "test/token_f1": 1.0,
        "test/token_precision": 1.0,
        "test/token_recall": 1.0,
    }


def test_a_door_answers_before_scipy_and_sqlglot_are_imported():
    code = """
import sys
import medsql.train, medsql.evaluate, medsql.compare, medsql.pretrain
print(*sorted({"scipy", "sqlglot", "torch"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
