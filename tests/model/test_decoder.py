"""What decoding is told besides the model: bounds, known values, and never a gold query that is scored on."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_tokenizer

from medsql import cache
from medsql.config import DataSettings, DecodeSettings, SettingsError
from medsql.data.pairs import Pair, Prediction
from medsql.data.spelling import Spelling
from medsql.data.splits import Splits
from medsql.materials import shared_splits
from medsql.model.decoder import Decoder, load_decoder, output_bound


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process whose first job this is."""
    monkeypatch.setattr(cache, "_kept", {})


def loaded(decode: DecodeSettings, splits: Splits) -> tuple[Decoder, dict[str, Any]]:
    return load_decoder(decode, tiny_tokenizer(), 40, Spelling(), splits.own_training)


def splits_of(tmp_path: Path, held_out: str, trained: str = "Ventricular Fluid") -> Splits:
    """Training rows that know one fluid, and other rows that know another."""
    where = 'SELECT LAB."LABEL" FROM LAB WHERE LAB."FLUID" = "{}"'
    for name, fluid in (("train", trained), ("validation", held_out), ("test", held_out)):
        row = {"question": f"which tests of {fluid}?", "sql": where.format(fluid)}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    settings = DataSettings(source="jsonl", split="source", prompt="question", path=str(tmp_path))
    return shared_splits(settings)


def repaired_fluid(decode: DecodeSettings, splits: Splits, written: str) -> str:
    guidance = loaded(decode, splits)[0].guidance
    assert guidance is not None
    sql = f'SELECT LAB."LABEL" FROM LAB WHERE LAB."FLUID" = "{written}"'
    return guidance([Prediction(sql)]).sql.rsplit('"', 2)[1]


REPAIRED = DecodeSettings(num_beams=2, batch_size=2, guided=True, repair=True)


def test_values_are_known_from_training_rows_and_lists_and_never_from_rows_that_are_scored(
    tmp_path: Path,
) -> None:
    for held_out in ("Amniotic Fluid", "Ink"):
        splits = splits_of(tmp_path, held_out)
        assert repaired_fluid(REPAIRED, splits, held_out.lower()) == held_out.lower()
        assert repaired_fluid(REPAIRED, splits, "ventricular fluid") == "Ventricular Fluid"
        assert repaired_fluid(REPAIRED, splits, "blood") == "Blood"


def test_values_invented_for_further_training_rows_are_not_known(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, "Ink")
    invented = Pair("which tests of Zorble?", 'SELECT LAB."LABEL" FROM LAB WHERE LAB."FLUID" = "Zorble"')
    augmented = replace(splits, train=[*splits.train, invented], further=1)
    assert repaired_fluid(REPAIRED, augmented, "zorble") == "zorble"
    assert repaired_fluid(REPAIRED, augmented, "ventricular fluid") == "Ventricular Fluid"


def test_the_next_job_of_a_process_does_not_know_the_training_rows_of_the_one_before(tmp_path: Path) -> None:
    """As where the rows that one fold trains on are tested in the next."""
    one, other = (splits_of(tmp_path, held_out="Ink", trained=fluid) for fluid in ("Zorble", "Quux"))
    assert repaired_fluid(REPAIRED, one, "zorble") == "Zorble"
    assert repaired_fluid(REPAIRED, other, "zorble") == "zorble"
    assert repaired_fluid(REPAIRED, other, "quux") == "Quux"


def test_which_sources_are_known_is_a_setting_and_recorded(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, "Ink")
    only_train, only_lists = (replace(REPAIRED, known_values=[name]) for name in ("train", "lists"))
    assert repaired_fluid(only_train, splits, "blood") == "blood"
    assert repaired_fluid(only_lists, splits, "ventricular fluid") == "ventricular fluid"
    record = loaded(only_train, splits)[1]["known_values"]
    assert record == {"unread_training_queries": 0, "values": {"train": 1, "all": 1}, "reused": False}
    assert loaded(only_train, splits)[1]["known_values"]["reused"], "by the next job of the process"
    decoder, record = loaded(replace(REPAIRED, guided=False, repair=False), splits)
    assert (decoder.guidance, record["known_values"]) == (None, {})


def test_a_database_of_ones_own_is_known_too_and_what_it_lacks_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("CREATE TABLE LAB (FLUID TEXT)")
        connection.execute("INSERT INTO LAB VALUES ('Ink')")
    decode = replace(REPAIRED, database=str(tmp_path / "own.db"))
    splits = splits_of(tmp_path, "Ink")
    assert repaired_fluid(decode, splits, "ink") == "Ink"
    record = loaded(decode, splits)[1]["known_values"]
    assert record["values"]["database"] == 1
    assert record["not_in_database"]["LAB.LABEL"] == "unknown column LAB.LABEL"
    assert "not in database: " in caplog.text


def test_without_training_rows_their_values_are_not_known_which_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, record = load_decoder(REPAIRED, tiny_tokenizer(), 40, Spelling(), None)
    assert record["known_values"]["values"]["train"] == 0
    assert "repair without the values of training rows" in caplog.text
    constrained = DecodeSettings(num_beams=1, batch_size=1, constrained=True, values="train")
    with pytest.raises(SettingsError, match=r"decode\.values=train: there are no training rows here"):
        load_decoder(constrained, tiny_tokenizer(), 40, Spelling(), None)


def test_the_bound_is_the_longest_training_target_and_a_margin_unless_set() -> None:
    assert output_bound(40, DecodeSettings(num_beams=1, batch_size=1, margin_tokens=5)) == 45
    assert output_bound(40, DecodeSettings(num_beams=1, batch_size=1, max_new_tokens=7)) == 7
