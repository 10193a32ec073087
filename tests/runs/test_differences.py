"""Evaluations of the same rows are tested against the first of them."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from medsql.data.pairs import Pair, Prediction
from medsql.runs.differences import compare_by_rows, differences, print_differences
from medsql.runs.folder import Run
from medsql.runs.labels import labelled
from medsql.runs.predictions import PREDICTIONS, write_predictions
from medsql.runs.recorded import recorded

PAIRS = [Pair(f"flag of {i}?", f'SELECT LAB."FLAG" FROM LAB WHERE LAB."ITEMID" = "{i}"') for i in range(40)]


def evaluation(folder, right, digest="rows", pairs=PAIRS):
    """An evaluation that has the first `right` rows right and the others badly wrong."""
    with Run(folder, "evaluate", {}, {}) as run:
        predictions = [Prediction(pair.sql if i < right else "nothing") for i, pair in enumerate(pairs)]
        scores = write_predictions(folder, pairs, predictions, {"split": "test"}, mutated=0)
        run.finish(scored=folder.name, data_sha256=digest, scores=scores)
    return folder


def print_compared(folders):
    print_differences(compare_by_rows(labelled([recorded(folder) for folder in folders])))


def difference_of(first, second):
    return differences(recorded(first), recorded(second))


@pytest.fixture
def three(tmp_path):
    return [evaluation(tmp_path / name, right) for name, right in (("base", 10), ("tuned", 30), ("same", 10))]


def lines_of(printed, scored):
    """The lines of one evaluation in the table, by score."""
    block = re.search(rf"^{scored} .*\n(?: .*\n)*", printed, re.MULTILINE)
    assert block, printed
    return {line[:40].removeprefix(scored).strip().split("  ")[0]: line for line in block[0].splitlines()}


def test_each_later_evaluation_is_tested_against_the_first(three, capsys):
    print_compared(three)
    printed = capsys.readouterr().out
    assert "Difference from base on the same 40 rows" in printed
    tuned, same = lines_of(printed, "tuned"), lines_of(printed, "same")
    shares = {"exact match", "logical form", "execution", "valid"}
    names = shares | {"token F1", "token precision", "token recall"}
    assert set(tuned) == set(same) == names
    for name in names:
        assert "+50.0 (+" in tuned[name] and "<0.001" in tuned[name]
        assert "+0.0 (" in same[name] and same[name].endswith("1.000")


def test_the_difference_is_of_rows_and_not_of_scores(tmp_path):
    # Both have 20 of 40 right, but not the same ones.
    one = evaluation(tmp_path / "one", 20)
    other = evaluation(tmp_path / "other", 20)
    equal = difference_of(one, other)["logical_form"]
    rows = (other / PREDICTIONS).read_text().replace('"logical_form": true', '"logical_form": FLIP')
    rows = rows.replace('"logical_form": false', '"logical_form": true')
    (other / PREDICTIONS).write_text(rows.replace("FLIP", "false"))
    opposite = difference_of(one, other)["logical_form"]
    assert equal.value == opposite.value == 0
    assert opposite.high - opposite.low > 2 * (equal.high - equal.low)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_evaluations_have_no_difference(three, capsys, count):
    print_compared(three[:count])
    assert capsys.readouterr().out == ""


def test_evaluations_of_other_rows_are_kept_apart(tmp_path, capsys):
    folders = [
        evaluation(tmp_path / "a", 1),
        evaluation(tmp_path / "x", 1, digest="others", pairs=PAIRS[:7]),
        evaluation(tmp_path / "b", 2),
        evaluation(tmp_path / "y", 2, digest="others", pairs=PAIRS[:7]),
        evaluation(tmp_path / "z", 2, digest="alone", pairs=PAIRS[:3]),
    ]
    print_compared(folders)
    printed = capsys.readouterr().out
    assert re.findall(r"Difference from (\w) on the same (\d+) rows", printed) == [("a", "40"), ("x", "7")]
    assert lines_of(printed, "b") and lines_of(printed, "y")
    assert not re.search("^z ", printed, re.MULTILINE)


def test_an_evaluation_that_never_finished_has_no_difference(three, tmp_path, capsys, caplog):
    with Run(tmp_path / "halted", "evaluate", {}, {}) as run:
        run.note(data_sha256="rows", scored="halted")
    print_compared([three[0], tmp_path / "halted"])
    assert capsys.readouterr().out == "" and caplog.text == ""


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_predictions_that_are_gone_are_said_to_be(three, capsys, caplog, damage):
    file = three[1] / PREDICTIONS
    lines = file.read_text().splitlines(keepends=True)
    file.unlink() if damage == "missing" else file.write_text("".join(lines[:-1]))
    print_compared(three[:2])
    assert capsys.readouterr().out == ""
    assert "nothing is tested" in caplog.text


def test_a_score_that_one_of_them_lacks_is_left_out(three):
    file = three[0] / PREDICTIONS
    file.write_text(file.read_text().replace('"logical_form"', '"unknown"'))
    assert "logical_form" not in difference_of(*three[:2])
    assert "exact_match" in difference_of(*three[:2])


def test_rows_that_a_gold_query_cannot_judge_are_no_rows_of_that_score(tmp_path, capsys):
    pairs = [*PAIRS, Pair("beds?", "SELECT B FROM WARD")]
    one, other = (
        evaluation(tmp_path / "one", 10, pairs=pairs),
        evaluation(tmp_path / "other", 30, pairs=pairs),
    )
    found = difference_of(one, other)
    assert (found["exact_match"].n, found["execution"].n) == (41, 40)
    print_compared([one, other])
    of_score = lines_of(capsys.readouterr().out, "other")
    assert of_score["exact match"].split()[-2] == "41" and of_score["execution"].split()[-2] == "40"
    assert found["execution"].value == 0.5


def test_compare_prints_the_differences_below_its_table(three, tmp_path):
    command = [sys.executable, "-m", "medsql.compare", *(folder.name for folder in three)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    table, below = result.stdout.split("Difference from base on the same 40 rows")
    assert "exact match %" in table and "tuned" in table
    assert below.count("<0.001") == 7 and "McNemar" in below


def test_execution_on_another_database_is_not_compared(three):
    first, other = (recorded(folder) for folder in three[:2])
    assert "execution" in differences(first, other)
    elsewhere = replace(other, identity={"eval.database": "content 1"})
    assert elsewhere.database == "content 1"
    assert differences(first, elsewhere).keys() == differences(first, other).keys() - {"execution"}
