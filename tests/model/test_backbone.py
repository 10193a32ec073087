"""Which checkpoint is loaded, what happens where none is, and in which precision."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from tiny import T5_LACKS, t5_tokenizer, tiny_t5, tiny_tokenizer
from transformers import AutoTokenizer

from medsql.config import ModelSettings, SettingsError
from medsql.data.spelling import decoded
from medsql.model.backbone import load_backbone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_t5().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_loads_in_the_precision_asked_for(checkpoint: str, dtype: str) -> None:
    backbone = load_backbone(ModelSettings("mine", checkpoint, dtype=dtype))
    assert next(backbone.model.parameters()).dtype == getattr(torch, dtype)
    assert backbone.record() == {"checkpoint": checkpoint, "failures": {}, "reused": False}
    ids = backbone.tokenizer('A < "b"')["input_ids"]
    assert ids[-1] == backbone.tokenizer.eos_token_id
    assert backbone.tokenizer.decode(ids, skip_special_tokens=True) == 'A < "b"'


def test_fallbacks_are_tried_in_order_and_failures_logged_and_recorded(
    checkpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere, empty = str(tmp_path / "nowhere"), str(tmp_path / "empty")
    Path(empty).mkdir()
    with caplog.at_level(logging.WARNING):
        backbone = load_backbone(ModelSettings("mine", nowhere, fallbacks=[empty, checkpoint, "never/tried"]))
    assert backbone.checkpoint == checkpoint
    assert list(backbone.failures) == [nowhere, empty]
    for candidate, reason in backbone.failures.items():
        assert f"{candidate} does not load: {reason}" in caplog.text
        assert reason
        assert "\n" not in reason


def test_where_none_loads_the_one_line_names_all_and_the_bundled_model(tmp_path: Path) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    with pytest.raises(SettingsError, match="model=mine: no checkpoint loads") as error:
        load_backbone(ModelSettings("mine", first, fallbacks=[second]))
    message = str(error.value)
    assert first in message
    assert second in message
    assert "model=mini" in message
    assert "\n" not in message


def test_a_damaged_checkpoint_is_a_failure_too(checkpoint: str, tmp_path: Path) -> None:
    for file in Path(checkpoint).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    backbone = load_backbone(ModelSettings("mine", str(tmp_path), fallbacks=[checkpoint]))
    assert list(backbone.failures) == [str(tmp_path)]


# A tokenizer that is made to lack characters

SQL = 'SELECT A FROM B WHERE C <= "5" AND D = "a\\b~c" AND E > "6"'
WITHOUT = 'SELECT A FROM B WHERE C = "5" AND D = "abc" AND E > "6"'


def test_what_a_tokenizer_is_made_to_lack_is_unknown_to_it_and_is_never_written(tmp_path: Path) -> None:
    whole = load_backbone(ModelSettings("mini", "bundled:mini"))
    backbone = load_backbone(ModelSettings("mini", "bundled:mini", lacks=T5_LACKS))
    backbone.tokenizer.save_pretrained(tmp_path)
    for tokenizer in (
        backbone.tokenizer,
        copy.deepcopy(backbone.tokenizer),
        AutoTokenizer.from_pretrained(tmp_path),
    ):
        ids = tokenizer(SQL)["input_ids"]
        assert ids.count(tokenizer.unk_token_id) == 3
        assert decoded(tokenizer, [ids])[0].replace("  ", " ") == WITHOUT
        assert tokenizer("a > b <extra_id_0>") == whole.tokenizer("a > b <extra_id_0>")
        written = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], skip_special_tokens=True)
        assert not {*T5_LACKS} & set().union(*written)


def test_a_tokenizer_made_to_lack_what_t5_lacks_loses_what_t5s_loses(tmp_path: Path) -> None:
    t5_tokenizer(tmp_path, lacks="")
    tiny_t5().save_pretrained(tmp_path)
    lacking = load_backbone(ModelSettings("mine", str(tmp_path), lacks=T5_LACKS)).tokenizer
    (tmp_path / "t5").mkdir()
    real = t5_tokenizer(tmp_path / "t5")
    for tokenizer in (lacking, real):
        assert tokenizer.unk_token_id in tokenizer("<")["input_ids"]
        ids = tokenizer(SQL)["input_ids"]
        assert decoded(tokenizer, [ids])[0].replace("  ", " ") == WITHOUT


def test_a_tokenizer_that_writes_bytes_cannot_be_made_to_lack_a_character(checkpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"model\.lacks=<: this .* can write any character"):
        load_backbone(ModelSettings("mine", checkpoint, lacks="<"))
