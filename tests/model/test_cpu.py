"""Dropout and attention on a CPU: what they compute is what PyTorch's and transformers' own do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners import lora
from tiny import LORA, tiny_t5
from torch import nn
from transformers import PreTrainedModel, T5ForConditionalGeneration

from medsql.model import cpu
from medsql.model.lora import add_lora


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_dropout_drops_a_share_and_scales_the_rest(p: float) -> None:
    torch.manual_seed(0)
    ones = torch.ones(499, 2003, requires_grad=True)  # not a multiple of the four elements of a draw
    dropped = cpu.dropout(ones, p)
    share = (dropped == 0).float()
    deviation = (p * (1 - p) / share.numel()) ** 0.5
    assert share.mean().item() == pytest.approx(p, abs=5 * deviation)
    assert share[:, ::4].mean().item() == pytest.approx(p, abs=10 * deviation)
    neighbours = (share[:, 1:] * share[:, :-1]).mean().item()
    assert neighbours == pytest.approx(p * p, abs=5 * deviation), "elements of a draw are independent"
    assert dropped.max().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    dropped.sum().backward()
    torch.testing.assert_close(ones.grad, dropped)


def test_dropout_follows_the_seed_and_rests_outside_of_training() -> None:
    module, values = cpu.Dropout(0.3), torch.randn(7, 5)
    torch.manual_seed(1)
    first = module(values)
    torch.manual_seed(1)
    assert torch.equal(module(values), first)
    assert not torch.equal(module(values), first)
    assert not cpu.Dropout(1.0)(values).any()
    assert module.eval()(values) is values


def batch() -> dict[str, torch.Tensor]:
    """Three rows of different lengths, in input and target."""
    torch.manual_seed(3)
    lengths = torch.tensor([[11], [7], [3]])
    labels = torch.randint(2, 260, (3, 9)).masked_fill(torch.arange(9) >= lengths - 2, -100)
    mask = (torch.arange(11) < lengths).long()
    return {"input_ids": torch.randint(2, 260, (3, 11)), "attention_mask": mask, "labels": labels}


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch()).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lora", [True, False])
def test_the_fused_attention_has_transformers_gradients(lora: bool) -> None:
    """With all weights trained, those of the position bias among them."""

    def model() -> PreTrainedModel | PeftModel:
        base = tiny_t5(dropout_rate=0.0, num_layers=2)
        if not lora:
            return base.train()
        torch.manual_seed(1)
        return add_lora(base, LORA).eval().requires_grad_(True)

    expected = gradients(model())
    ours = model()
    cpu.prepare(ours)
    if lora:  # whose dropout is not the subject
        for module in ours.modules():
            module.training = not isinstance(module, nn.Dropout)
    got = gradients(ours)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def adapted(p: float, use_dora: bool = False) -> tuple[PeftModel, torch.Tensor]:
    """A model whose adapters do something, and rows for one of its layers."""
    torch.manual_seed(2)
    model = add_lora(tiny_t5(), replace(LORA, dropout=p, use_dora=use_dora))
    assert isinstance(model, PeftModel)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model.train(), torch.randn(3, 7, model.config.d_model, requires_grad=True)


def first_layer(model: PeftModel) -> lora.Linear:
    return next(module for module in model.modules() if isinstance(module, lora.Linear))


@pytest.mark.parametrize("use_dora", [False, True])
def test_an_adapted_layer_computes_what_peft_does(use_dora: bool) -> None:
    found = []
    for prepared in (False, True):
        model, rows = adapted(0.0, use_dora)
        if prepared:
            cpu.prepare(model)
        layer = first_layer(model)
        assert isinstance(layer, cpu.LoraLinear) == prepared
        output = layer(rows)
        output.square().sum().backward()
        trained = [p.grad for p in layer.parameters() if p.requires_grad]
        assert len(trained) == 2 + use_dora
        found.append([output, rows.grad, *trained])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_an_adapted_layer_drops_inputs_of_the_adapter_alone() -> None:
    model, rows = adapted(0.5)
    layer = first_layer(model)
    whole = layer.eval()(rows) - layer.base_layer(rows)
    cpu.prepare(model.train())
    drawn = torch.stack([layer(rows) - layer.base_layer(rows) for _ in range(4000)])
    assert not torch.equal(drawn[0], drawn[1])
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - whole).abs() < 5 * error).all(), "its mean is what it adds without dropout"


@pytest.mark.parametrize(
    "case", ["disabled", "merged", "another type", "two adapters", "none here", "a bias"]
)
def test_what_is_more_than_a_plain_adapter_is_left_to_peft(case: str) -> None:
    model, rows = adapted(0.0)
    layer: Any = first_layer(model)
    if case == "disabled":
        layer.enable_adapters(False)
    elif case == "merged":
        layer.merge()
    elif case == "another type":
        layer.base_layer.bfloat16()
        rows = rows.bfloat16()
    elif case == "two adapters":
        model.add_adapter("other", model.peft_config["default"])
        tuner: Any = model.base_model
        tuner.set_adapter(["default", "other"])
    elif case == "none here":
        layer.set_adapter("other")
    else:
        layer.lora_B["default"].bias = nn.Parameter(torch.ones(layer.base_layer.out_features))
    expected = layer(rows)
    cpu.prepare(model)
    assert torch.equal(layer(rows), expected)


def test_an_adapted_layer_under_autocast_is_that_of_peft() -> None:
    model, rows = adapted(0.0)
    layer = first_layer(model)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(rows)
        cpu.prepare(model)
        assert torch.equal(layer(rows), expected)


def test_outside_of_training_outputs_are_those_of_eager_attention_bit_by_bit() -> None:
    plain, ours = tiny_t5().eval(), tiny_t5().eval()
    plain.set_attn_implementation("eager")
    cpu.prepare(ours)
    with torch.no_grad():
        assert torch.equal(ours(**batch()).logits, plain(**batch()).logits)
    inputs = {name: tensor for name, tensor in batch().items() if name != "labels"}
    assert torch.equal(ours.generate(**inputs, num_beams=2), plain.generate(**inputs, num_beams=2))


def test_attention_weights_are_dropped_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_t5(dropout_rate=0.4).train()
    cpu.prepare(model)
    seen: list[int] = []

    def dropout(weights: torch.Tensor, p: float) -> torch.Tensor:
        seen.append(weights.ndim)
        return cpu.dropout(weights, p)

    monkeypatch.setattr(cpu, "_dropout", dropout)
    gradients(model)
    assert seen == [4] * 3, "encoder, decoder, and between them"


def test_a_saved_model_knows_nothing_of_it(tmp_path: object) -> None:
    model = tiny_t5()
    cpu.prepare(model)
    model.save_pretrained(str(tmp_path))
    assert T5ForConditionalGeneration.from_pretrained(str(tmp_path)).config._attn_implementation == "sdpa"
