"""The stand-in for the bundled model: built once, always the same, and able to spell any SQL."""

from __future__ import annotations

import logging
import string
from pathlib import Path

import pytest
import torch

from medsql.config import ModelSettings
from medsql.data.pairs import Pair
from medsql.model import standin
from medsql.model.backbone import Backbone, load_backbone

MINI = ModelSettings("mini", standin.STANDIN)


def load(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    monkeypatch.setenv("MEDSQL_CACHE", str(cache))
    return load_backbone(MINI)


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The synthetic hospital is not what is tested here, and takes seconds."""
    pairs = [
        Pair(f"how many beds has ward {i}?", f"SELECT COUNT ( * ) FROM BED WHERE W = {i}") for i in range(50)
    ]
    monkeypatch.setattr(standin, "synthetic_splits", lambda **settings: {"train": pairs})


def test_it_says_that_it_is_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        backbone = load(tmp_path, monkeypatch)
    assert "stand-in" in caplog.text
    assert backbone.record() == {"checkpoint": "standin", "failures": {}, "standin": True}


@pytest.mark.parametrize(
    "text",
    [
        string.printable.strip(),
        'SELECT COUNT ( DISTINCT A."B" ) FROM A WHERE A."C" < "1" AND A."D" = "x  y ,z .w"',
        " two  leading spaces and é, ß, µ",
    ],
)
def test_text_survives_encoding_and_decoding(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load(tmp_path, monkeypatch).tokenizer
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


def test_it_is_the_same_wherever_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    first = load(tmp_path / "first", monkeypatch)
    torch.manual_seed(2)
    second = load(tmp_path / "second", monkeypatch)
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    torch.testing.assert_close(first.model.state_dict(), second.model.state_dict(), rtol=0, atol=0)


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, monkeypatch)
    monkeypatch.setattr(standin, "_build", lambda *args: pytest.fail("built again"))
    load(tmp_path, monkeypatch)


def test_a_build_that_fails_leaves_nothing_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tokenizer: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setenv("MEDSQL_CACHE", str(tmp_path))
        patch.setattr(standin, "_model", fail)
        with pytest.raises(OSError):
            standin.standin_folder()
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    load(tmp_path, monkeypatch)
