"""Runs are browsed from what they left behind, and no test row is shown that nobody asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sweep_folder import job

from medsql.data.pairs import Pair, Prediction
from medsql.errors import UserError
from medsql.page import browsing
from medsql.runs.folder import Run
from medsql.runs.predictions import read_rows, write_predictions

GOLD = [f'SELECT LAB."FLUID" FROM LAB WHERE LAB."ITEMID" = "{number}"' for number in range(12)]
WRONG = [sql.replace("FLUID", "FLAG") for sql in GOLD]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(name: str, predictions: list[str], split: str = "validation") -> str:
    """An evaluation in `outputs/`, and its folder as the page calls it."""
    folder = Path("outputs", name)
    pairs = [Pair(f"question {number}?", sql) for number, sql in enumerate(GOLD)]
    with Run(folder, "evaluate", {}, {}) as run:
        facts: dict[str, Any] = {"split": split}
        scores = write_predictions(folder, pairs, [Prediction(sql) for sql in predictions], facts, mutated=0)
        run.finish(scores=scores, scored="mini")
    return str(folder)


def test_validation_rows_come_before_test_rows() -> None:
    evaluate("a", GOLD, "test")
    evaluate("b", GOLD)
    evaluate("c", GOLD, "test")
    assert [folder for _, folder in browsing.scored()] == ["outputs/b", "outputs/c", "outputs/a"]
    assert "12 validation rows" in browsing.scored()[0][0]


def test_patterns_are_counted_and_narrow_what_is_shown() -> None:
    folder = evaluate("a", [*WRONG[:7], "SELECT", *GOLD[8:]])
    assert browsing.patterns(folder) == [
        ("any error: 8", "any error"),
        ("wrong column: 7", "wrong column"),
        ("unparsable: 1", "unparsable"),
        ("truncated: 1", "truncated"),
        ("right: 4", "right"),
    ]
    assert browsing.pages(folder, "wrong column") == 2
    first, second = (browsing.page(folder, "wrong column", number, False) for number in (1, 2))
    assert "1 to 5 of 7" in first and "question 0?" in first and "question 5?" not in first
    assert "6 to 7 of 7" in second and "question 5?" in second
    assert "<mark>&#34;FLAG&#34;</mark>" in first and "<mark>&#34;FLUID&#34;</mark>" in first
    assert "question 7?" in browsing.page(folder, "unparsable", 1, False)
    assert "question 9?" in browsing.page(folder, "right", 1, False)
    assert "no such prediction" in browsing.page(folder, "wrong column", 3, False)


def test_test_rows_are_counted_and_shown_only_on_demand() -> None:
    folder = evaluate("a", WRONG, "test")
    assert ("wrong column: 12", "wrong column") in browsing.patterns(folder)
    hidden = browsing.page(folder, browsing.ANY, 1, False)
    assert "held out" in hidden and "question 0?" not in hidden and "FLUID" not in hidden
    assert "question 0?" in browsing.page(folder, browsing.ANY, 1, True)


def test_where_only_the_wrong_rows_are_left_they_are_browsed() -> None:
    folder = evaluate("a", [*WRONG[:2], *GOLD[2:]])
    Path(folder, "predictions.jsonl").unlink()
    assert ("any error: 2", "any error") in browsing.patterns(folder)
    assert ("right: 0", "right") in browsing.patterns(folder)


def test_a_folder_that_is_not_offered_is_not_read(tmp_path: Path) -> None:
    evaluate("a", GOLD)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "predictions.jsonl").write_text("{}")
    for ask in (lambda: browsing.patterns(str(outside)), lambda: browsing.standings(str(outside))):
        with pytest.raises(UserError, match="choose another"):
            ask()


def test_rows_are_read_once_until_they_are_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def reading(path: Path) -> list[dict[str, Any]]:
        read.append(path)
        return read_rows(path)

    monkeypatch.setattr(browsing, "read_rows", reading)
    folder = evaluate("a", [*WRONG[:2], *GOLD[2:]])
    browsing.patterns(folder)
    browsing.pages(folder, browsing.ANY)
    browsing.page(folder, browsing.ANY, 1, False)
    assert len(read) == 1
    evaluate("b", WRONG)
    shutil.copy("outputs/b/predictions.jsonl", Path(folder, "predictions.jsonl"))
    assert ("any error: 12", "any error") in browsing.patterns(folder)


def test_damaged_rows_and_those_of_before_are_answered_in_a_line() -> None:
    folder = evaluate("a", GOLD)
    Path(folder, "predictions.jsonl").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        browsing.patterns(folder)
    Path(folder, "predictions.jsonl").write_text(json.dumps({"question": "?", "sql": "SELECT"}) + "\n")
    with pytest.raises(UserError, match="older version"):
        browsing.patterns(folder)


def test_sweeps_are_listed_the_newest_first_with_their_runs_the_best_first() -> None:
    for rank, objective in ((8, 0.25), (16, 0.75)):
        job(Path("multirun/ranks", f"lora.r={rank}"), {"lora.r": rank}, objective)
    assert browsing.sweeps() == ["multirun/ranks"]
    page = browsing.standings("multirun/ranks")
    assert page.index("0.750") < page.index("0.250") and "2 runs" in page and "lora.r=16" in page


def test_without_anything_to_browse_there_is_nothing() -> None:
    assert browsing.scored() == [] == browsing.sweeps()
