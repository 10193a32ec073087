"""The ladder's rungs are compared on the same rows, those that were trained on left out where asked."""

from __future__ import annotations

from pathlib import Path

import ladder
import pytest

from medsql.config import SCORES
from medsql.errors import UserError
from medsql.files import write_json_lines
from medsql.runs.folder import Run
from medsql.runs.predictions import PREDICTIONS

Rows = list[tuple[str, bool, bool | None]]
"""Each row's query, whether it came out right, and whether it was trained on."""


def evaluated(folder: Path, rows: Rows, kind: str = "evaluate") -> str:
    lines = [
        {"question": sql, "sql": sql, "trained_on": known} | dict.fromkeys(SCORES, float(right))
        for sql, right, known in rows
    ]
    with Run(folder, kind, {}, {}) as run:
        write_json_lines(folder / PREDICTIONS, lines)
        run.finish(seconds={"generation": 1}, seconds_since_last_start={"test": 2})
    return str(folder)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line][2:]


def test_rows_that_any_rung_was_trained_on_are_left_out_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lower = evaluated(tmp_path / "lower", [("a", False, False), ("b", True, True), ("c", True, False)])
    upper = evaluated(tmp_path / "upper", [("a", True, True), ("b", True, False), ("c", True, False)])
    ladder.main([lower, upper])
    assert shown(capsys)[:2] == ["lower, n = 3", "upper, n = 3"]
    ladder.main(["--unseen", lower, upper])
    assert shown(capsys)[:2] == ["lower, n = 1", "upper, n = 1"]


def test_an_evaluation_that_does_not_know_is_refused(tmp_path: Path) -> None:
    rung = evaluated(tmp_path / "rung", [("a", True, None)])
    with pytest.raises(UserError, match="rung does not say which queries its model was trained on"):
        ladder.main(["--unseen", rung])


def test_where_all_was_trained_on_nothing_is_left(tmp_path: Path) -> None:
    rung = evaluated(tmp_path / "rung", [("a", True, True)])
    with pytest.raises(UserError, match="no row is left whose query none was trained on"):
        ladder.main(["--unseen", rung])


def test_rungs_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    rungs = [evaluated(tmp_path / name, [(name, True, False)]) for name in ("a", "b")]
    with pytest.raises(UserError, match="a and b were scored on other rows"):
        ladder.main(rungs)


def test_the_folds_of_a_training_are_one_rung(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in {"lower": [False, True], "upper": [True, True]}.items():
        for fold, right in enumerate(rows):
            evaluated(tmp_path / name / f"data.fold={fold}", [(str(fold), right, False)], "train")
    ladder.main([str(tmp_path / "lower"), str(tmp_path / "upper")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| lower, n = 2 | 50.0 (") and lines[2].endswith(" | 2000 |")
    assert lines[3].startswith("| upper, n = 2 | 100.0 (")
    assert lines[-2].startswith("| upper | +50.0 (")

    evaluated(tmp_path / "upper" / "score-test-mini", [("0", False, False)])
    with pytest.raises(UserError, match="upper holds trainings and evaluations"):
        ladder.main([str(tmp_path / "upper")])
