"""Which weights an optimiser moves, and how."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_t5
from torch.optim import SGD, AdamW, Muon

from medsql.config import OptimSettings
from medsql.model.optimizers import Together, build_optimizer

OPTIM = {
    "schedule": "linear",
    "warmup_ratio": 0.0,
    "max_grad_norm": None,
    "label_smoothing": 0.0,
    "epochs": 1,
    "batch_size": 2,
    "accumulate": 1,
    "weight_decay": 0.01,
    "lr": 1e-2,
}


def weights_of(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def test_muon_moves_hidden_matrices_and_adamw_all_else():
    model = tiny_t5()
    optimizer = build_optimizer(model, OptimSettings(name="muon", **OPTIM))
    rest, matrices = optimizer.parts
    assert isinstance(matrices, Muon) and isinstance(rest, AdamW)
    by_muon = {name for name, p in model.named_parameters() if id(p) in weights_of(matrices)}
    assert "encoder.block.0.layer.0.SelfAttention.q.weight" in by_muon
    assert not [name for name in by_muon if "layer_norm" in name or "relative" in name or "shared" in name]
    assert weights_of(optimizer) == {id(p) for p in model.parameters()}


def test_where_every_weight_is_muons_there_is_no_adamw():
    model = torch.nn.Linear(2, 2, bias=False)
    for scaled in (False, True):
        optimizer = build_optimizer(model, OptimSettings(name="muon", scale_by_size=scaled, **OPTIM))
        assert [type(part) for part in optimizer.parts] == [Muon]


def test_of_several_optimisers_each_moves_its_own_weights_and_the_loss_is_computed_once():
    one, other = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    together = Together(SGD([one], lr=0.1), SGD([other], lr=0.5))
    calls = []

    def closure():
        calls.append(1)
        loss = one + other
        loss.backward()
        return loss

    assert together.step(closure).item() == 2
    assert (one.item(), other.item()) == (pytest.approx(0.9), pytest.approx(0.5))
    assert calls == [1]
    together.param_groups[0]["lr"] = 0.0  # as a schedule sets it
    together.zero_grad()
    together.step(closure)
    assert (one.item(), other.item()) == (pytest.approx(0.9), pytest.approx(0.0))


def test_a_schedule_still_reaches_what_was_restored():
    def fresh():
        weight = torch.nn.Parameter(torch.ones(1))
        return weight, Together(SGD([weight], lr=0.1, momentum=0.9))

    weight, saved = fresh()
    weight.grad = torch.ones(1)
    saved.step()
    weight, restored = fresh()
    restored.load_state_dict(saved.state_dict())
    for group in restored.param_groups:
        group["lr"] = 1.0
    weight.grad = torch.zeros(1)
    restored.step()
    assert weight.item() == pytest.approx(1 - 0.9)  # momentum of the saved step, at the new rate


def test_states_of_other_optimisers_are_refused():
    weight = torch.nn.Parameter(torch.ones(1))
    together = Together(SGD([weight], lr=0.1))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        together.load_state_dict({"parts": []})
