"""What a run predicted, and how it scored, is in its folder."""

import subprocess
import sys

from medsql.config import SCORES
from medsql.data.pairs import Pair, Prediction
from medsql.runs.predictions import ERRORS, read_predictions, read_rows, values_of, write_predictions
from medsql.sql.choice import Choice
from medsql.sql.repair import Repair

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


def test_how_beams_were_chosen_and_what_was_repaired_stands_with_the_row_and_is_summed_up(tmp_path, caplog):
    wrong, sql = "SELECT LAB.LAB_TEST_FLUID FROM LAB", PAIRS[0].sql
    repair = Repair("report's column", "LAB.FLUID", "LAB_TEST_FLUID", "FLUID")
    predictions = [
        Prediction(sql, choice=Choice(1, True, ("syntax error", "ok")), written=wrong, repairs=(repair,)),
        Prediction("SELECT", choice=Choice(0, False, ("syntax error", "timed out")), written="SELECT"),
    ]
    metrics = write(tmp_path, predictions)
    first, second = read_predictions(tmp_path)
    assert (first["beam"], first["beams_tried"], first["beam_verdicts"]) == (1, 2, ["syntax error", "ok"])
    assert (first["prediction"], first["written"]) == (sql, wrong) and first["exact_match"]
    assert first["repairs"] == [repair._asdict()] and second["repairs"] == []
    assert metrics["guided"] == {
        "other_beam": 1,
        "none_runs": 1,
        "beams_tried": 4,
        "timed_out": 1,
        "taken_though": {},
    }
    assert metrics["repaired"] == {"rows": 1, "repairs": {"report's column": 1}}
    assert "1 of 2 rows have no beam that runs on the schema" in caplog.text
    assert "1 of 4 beams timed out on the database" in caplog.text


def test_beams_that_were_taken_for_want_of_better_ones_are_counted(tmp_path):
    choices = [Choice(0, True, ("ungrounded", "repeats itself")), Choice(1, True, ("ungrounded", "ok"))]
    metrics = write(tmp_path, [Prediction(PAIRS[0].sql, choice=choice) for choice in choices])
    assert metrics["guided"]["taken_though"] == {"ungrounded": 1}


def test_without_guidance_nothing_is_said_of_it(tmp_path):
    metrics = write(tmp_path, RIGHT)
    assert not {"guided", "repaired"} & metrics.keys()
    assert not {"beams_tried", "written", "repairs"} & read_predictions(tmp_path)[0].keys()


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
