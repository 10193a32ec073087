"""What is trained, how much of it, and that PEFT itself can read what is saved."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny import FULL, LORA, tiny_t5, tiny_tokenizer
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from medsql.config import LoraSettings, SettingsError
from medsql.errors import UserError
from medsql.model.lora import add_lora, count_parameters, load_adapter, merge_adapter, save_model

ATTENTION = ["q", "k", "v", "o"]
INPUT = {"input_ids": torch.tensor([[5, 6, 7, 1]]), "decoder_input_ids": torch.tensor([[0, 8, 9]])}


def flan_t5_base() -> T5ForConditionalGeneration:
    """The shape of google/flan-t5-base, without weights."""
    shape: dict[str, Any] = {
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 12,
        "num_heads": 12,
        "vocab_size": 32128,
    }
    with torch.device("meta"):
        return T5ForConditionalGeneration(T5Config(feed_forward_proj="gated-gelu", **shape))


@pytest.mark.parametrize(
    ("r", "targets", "trainable"),
    [
        (8, ATTENTION, 1_769_472),
        (16, ATTENTION, 3_538_944),
        (32, ATTENTION, 7_077_888),
        # What the report states for r = 16 is what its self-attention alone would give.
        (16, [f"SelfAttention.{name}" for name in ATTENTION], 2_359_296),
    ],
)
def test_trainable_weights_of_flan_t5_base(r: int, targets: list[str], trainable: int) -> None:
    base = flan_t5_base()
    total = count_parameters(base).total
    model = add_lora(base, LoraSettings(targets=targets, r=r, alpha=2 * r, dropout=0.05))
    count = count_parameters(model)
    assert count.trainable == trainable
    assert count.total == total + trainable


def test_without_targets_all_weights_are_trained() -> None:
    model = add_lora(tiny_t5().requires_grad_(False), FULL)
    count = count_parameters(model)
    assert count.trainable == count.total > 0
    assert not isinstance(model, PeftModel)


def test_settings_reach_the_adapter() -> None:
    settings = LoraSettings(targets=["q"], r=4, alpha=6, dropout=0.2, use_dora=True, use_rslora=True)
    model = add_lora(tiny_t5(), settings)
    config: Any = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 6, 0.2)
    assert config.use_dora
    assert config.use_rslora
    assert any("lora_magnitude_vector" in name for name, _ in model.named_parameters())


def test_target_names_that_exist_nowhere_are_one_line() -> None:
    settings = LoraSettings(targets=["query", "value"], r=2, alpha=4, dropout=0.0)
    with pytest.raises(SettingsError, match=r"lora.targets=\['query', 'value'\]") as error:
        add_lora(tiny_t5(), settings)
    assert "k, lm_head, o, q, v" in str(error.value)
    assert "\n" not in str(error.value)


def test_target_names_that_match_nothing_beside_others_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        add_lora(tiny_t5(), LoraSettings(targets=["q", "wi_7"], r=2, alpha=4, dropout=0.0))
    assert "no wi_7" in caplog.text


def test_an_adapter_comes_back_through_peft(tmp_path: Path) -> None:
    model = add_lora(tiny_t5(), LORA).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        expected = model(**INPUT).logits
        save_model(model, tiny_tokenizer(), tmp_path)
        loaded = PeftModel.from_pretrained(tiny_t5(), str(tmp_path)).eval()
        torch.testing.assert_close(loaded(**INPUT).logits, expected)
        torch.testing.assert_close(load_adapter(tiny_t5(), tmp_path).eval()(**INPUT).logits, expected)
        assert not torch.allclose(tiny_t5().eval()(**INPUT).logits, expected)


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_a_merged_adapter_gives_what_it_gave_beside_its_base(kind: dict[str, Any]) -> None:
    model = add_lora(tiny_t5(), replace(LORA, **kind)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        expected = model(**INPUT).logits
        merged: Any = merge_adapter(model)
        torch.testing.assert_close(merged(**INPUT).logits, expected)
    assert not torch.allclose(tiny_t5().eval()(**INPUT).logits, expected)
    assert merged.state_dict().keys() == tiny_t5().state_dict().keys(), "nothing is left of the adapter"


def test_an_adapter_is_merged_in_float32_and_rounded_once(tmp_path: Path) -> None:
    model = add_lora(tiny_t5(), LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    save_model(model, tiny_tokenizer(), tmp_path)
    base = tiny_t5().bfloat16()
    exact = merge_adapter(load_adapter(copy.deepcopy(base).float(), tmp_path)).state_dict()
    rounded = merge_adapter(load_adapter(base, tmp_path)).state_dict()
    for name, weight in rounded.items():
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, exact[name].bfloat16()), name


def test_a_damaged_adapter_is_not_merged() -> None:
    model = add_lora(tiny_t5(), LORA)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(UserError, match="the adapter cannot be merged"):
        merge_adapter(model)  # type: ignore[arg-type]


def test_a_fully_tuned_model_comes_back_through_transformers(tmp_path: Path) -> None:
    model = add_lora(tiny_t5(), FULL).eval()
    with torch.no_grad():
        model.shared.weight.add_(0.5)
        save_model(model, tiny_tokenizer(), tmp_path)
        loaded = AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path)).eval()
        torch.testing.assert_close(loaded(**INPUT).logits, model(**INPUT).logits)


def test_unreadable_adapters_are_one_line(tmp_path: Path) -> None:
    def message(model: T5ForConditionalGeneration, folder: Path) -> str:
        with pytest.raises(UserError, match="cannot load the adapter") as error:
            load_adapter(model, folder)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "nowhere" in message(tiny_t5(), tmp_path / "nowhere")
    save_model(add_lora(tiny_t5(), LORA), tiny_tokenizer(), tmp_path)
    assert str(tmp_path) in message(tiny_t5(d_model=32), tmp_path), "made for another width"
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    message(tiny_t5(), tmp_path)
