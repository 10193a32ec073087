"""A run keeps the queries that it was trained on, and knows them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsql.data.pairs import Pair
from medsql.errors import UserError
from medsql.runs.trained_on import TRAINED_ON, trained_on, write_trained_on

TRAINED = [Pair("a?", "SELECT a"), Pair("also a?", "SELECT a"), Pair("b?", "SELECT b")]


@pytest.mark.parametrize(
    ("sql", "known"), [("SELECT a", True), ("SELECT b", True), ("select a", False), ("SELECT c", False)]
)
def test_a_query_is_known_again_whatever_the_question(tmp_path: Path, sql: str, known: bool) -> None:
    write_trained_on(tmp_path, TRAINED)
    assert trained_on(tmp_path, [Pair("b?", sql), Pair("?", "SELECT b")]) == [known, True]


def test_a_run_without_training_rows_knows_none(tmp_path: Path) -> None:
    write_trained_on(tmp_path, [])
    assert trained_on(tmp_path, TRAINED) == [False] * 3 and trained_on(tmp_path, []) == []


def test_of_a_run_that_kept_none_it_is_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert trained_on(tmp_path, TRAINED) is None
    assert f"has no {TRAINED_ON}: which rows it was trained on is not known" in caplog.text


@pytest.mark.parametrize("kept", [1, 15, 31])
def test_a_damaged_file_is_said_in_one_line(tmp_path: Path, kept: int) -> None:
    write_trained_on(tmp_path, TRAINED)
    path = tmp_path / TRAINED_ON
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"{TRAINED_ON} is damaged") as raised:
        trained_on(tmp_path, TRAINED)
    assert "\n" not in str(raised.value)
