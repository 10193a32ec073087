"""What a run predicted, and how it scored, is in its folder."""

import subprocess
import sys

from medsql.config import SCORES
from medsql.data.pairs import Pair, Prediction
from medsql.runs.predictions import ERRORS, read_predictions, read_rows, values_of, write_predictions

PAIRS = [Pair("which fluid?", "SELECT LAB.FLUID FROM LAB"), Pair("which flag?", "SELECT LAB.FLAG FROM LAB")]


RIGHT = [Prediction(pair.sql) for pair in PAIRS]


def write(folder, predictions, pairs=PAIRS, mutated=0):
    return write_predictions(folder, pairs, predictions, {"split": "test"}, mutated=mutated)


def test_each_row_says_what_it_scored_and_how_it_ended(tmp_path):
    metrics = write(tmp_path, [Prediction("select FLUID from LAB"), Prediction("SELECT", truncated=True)])
    rows = read_predictions(tmp_path)
    assert [row["question"] for row in rows] == ["which fluid?", "which flag?"]
    assert [row["prediction"] for row in rows] == ["select FLUID from LAB", "SELECT"]
    assert [row["logical_form"] for row in rows] == [row["execution"] for row in rows] == [True, False]
    assert [row["exact_match"] for row in rows] == [False, False]
    assert [row["verdict"] for row in rows] == ["ok", "syntax error"]
    assert [row["truncated"] for row in rows] == [False, True]
    assert metrics["logical_form"]["value"] == 0.5 and metrics["truncated"] == 1


def test_wrong_rows_have_their_patterns_and_a_file_of_their_own(tmp_path):
    metrics = write(tmp_path, [RIGHT[0], Prediction("SELECT LAB.ITEMID FROM LAB")])
    (wrong,) = read_rows(tmp_path / ERRORS)
    assert (wrong["index"], wrong["patterns"]) == (1, ["wrong column"])
    assert [row["patterns"] for row in read_predictions(tmp_path)] == [[], ["wrong column"]]
    assert metrics["errors"]["wrong"] == metrics["errors"]["patterns"]["wrong column"]["count"] == 1
    assert metrics["errors"]["report_classes"]["column names"]["claimed"] == 0.35


def test_the_record_says_how_sharp_execution_is_and_which_gold_queries_cannot_judge(tmp_path, caplog):
    pairs = [*PAIRS, Pair("beds?", "SELECT B FROM WARD")]
    metrics = write(tmp_path, [*RIGHT, Prediction("SELECT B FROM WARD", truncated=True)], pairs, mutated=2)
    assert metrics["gold"] == {"unknown table WARD": 1}
    assert metrics["mutants"]["queries"] == 2 and metrics["mutants"]["told_apart"]["value"] > 0.9
    assert "1 of 3 gold queries cannot judge execution: unknown table WARD" in caplog.text
    assert "1 of 3 outputs were cut" in caplog.text


def test_loggers_get_every_score(tmp_path):
    assert values_of(write(tmp_path, RIGHT)) == {f"test/{name}": 1.0 for name in SCORES}


def test_a_door_answers_before_scipy_and_sqlglot_are_imported():
    code = """
import sys
import medsql.train, medsql.evaluate, medsql.compare, medsql.pretrain
print(*sorted({"scipy", "sqlglot", "torch"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
