"""Which evaluations are compared where no folder is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsql import compare
from medsql.config import SettingsError
from medsql.runs.recorded import Recorded


def scored(name: str, rows: str, tuned: bool = False) -> Recorded:
    return Recorded(Path(name), "evaluate", "finished", tuned=tuned, rows=rows)


def test_the_newest_fine_tuned_scores_stand_beside_the_newest_zero_shot_ones_of_the_same_rows(monkeypatch):
    records = [scored("old", "x"), scored("new", "x"), scored("other", "y"), scored("tuned", "x", tuned=True)]
    monkeypatch.setattr(compare, "read_all", lambda: records)
    assert [record.folder.name for record in compare._newest_pair()] == ["new", "tuned"]


def test_where_they_have_none_the_newest_pair_that_matches_is_named(monkeypatch):
    lonely = scored("lonely", "y", tuned=True)
    records = [scored("zero", "x"), scored("tuned a", "x", tuned=True), lonely]
    monkeypatch.setattr(compare, "read_all", lambda: records)
    with pytest.raises(SettingsError, match=r"of lonely: .*match: python -m medsql\.compare zero 'tuned a'$"):
        compare._newest_pair()
    monkeypatch.setattr(compare, "read_all", lambda: [lonely])
    with pytest.raises(SettingsError, match=r"or name folders to compare$"):
        compare._newest_pair()
