"""Which weights an optimiser moves, and how."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_t5
from torch.optim import SGD, AdamW, Muon

from medsql.config import OptimSettings
from medsql.model.muon import StackedMuon, ortho_precision
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
    assert isinstance(matrices, StackedMuon) and isinstance(rest, AdamW)
    by_muon = {name for name, p in model.named_parameters() if id(p) in weights_of(matrices)}
    assert "encoder.block.0.layer.0.SelfAttention.q.weight" in by_muon
    assert not [name for name in by_muon if "layer_norm" in name or "relative" in name or "shared" in name]
    assert weights_of(optimizer) == {id(p) for p in model.parameters()}


def test_where_every_weight_is_muons_there_is_no_adamw():
    model = torch.nn.Linear(2, 2, bias=False)
    for scaled in (False, True):
        optimizer = build_optimizer(model, OptimSettings(name="muon", scale_by_size=scaled, **OPTIM))
        assert [type(part) for part in optimizer.parts] == [StackedMuon]


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


def test_stacked_matrices_take_the_steps_of_pytorchs_muon_and_go_on_from_its_state():
    """PyTorch's multiplies in bfloat16, hence the tolerance; tall, flat, several and single ones, each with a
    rate and a decay of its own."""
    shapes = [(24, 4), (24, 4), (4, 24), (6, 6)]
    torch.manual_seed(0)
    start = [torch.randn(*shape) for shape in shapes]
    gradients = [[torch.randn(*shape) for shape in shapes] for _ in range(6)]

    def moved(kinds):
        weights = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        state = None
        for kind, of_step in zip(kinds, gradients, strict=True):
            groups = [
                {"params": [weight], "lr": 0.1 * (1 + n), "weight_decay": 0.2 * n}
                for n, weight in enumerate(weights)
            ]
            optimizer = kind(groups, adjust_lr_fn="match_rms_adamw")
            if state is not None:
                optimizer.load_state_dict(state)
            for weight, gradient in zip(weights, of_step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
            state = optimizer.state_dict()
        return [weight.detach() for weight in weights]

    theirs = moved([Muon] * 6)
    for kinds in ([StackedMuon] * 6, [Muon] * 3 + [StackedMuon] * 3):
        for ours, reference, first in zip(moved(kinds), theirs, start, strict=True):
            assert (ours - reference).norm() < 0.05 * (reference - first).norm()


def test_a_matrix_without_a_gradient_stays():
    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    optimizer = StackedMuon(weights, lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    weights[0].grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weights[1], torch.ones(2, 2)) and not torch.equal(weights[0], torch.ones(2, 2))


def test_many_matrices_are_taken_in_several_goes(monkeypatch):
    def stepped():
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(5)]
        for weight in weights:
            weight.grad = torch.randn(4, 3)
        StackedMuon(weights, lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
        return torch.stack([weight.detach() for weight in weights])

    together = stepped()
    monkeypatch.setattr("medsql.model.muon.MOST_AT_ONCE", 24)
    assert torch.allclose(stepped(), together, atol=1e-6)


def test_other_sizes_of_steps_are_refused():
    with pytest.raises(ValueError, match="match_rms_adamw"):
        StackedMuon([torch.nn.Parameter(torch.ones(2, 2))], lr=0.1)


@pytest.mark.parametrize(("found", "precision"), [({"amx_bf16": True}, "bfloat16"), ({}, "float32")])
def test_bfloat16_is_for_cpus_that_multiply_in_it(monkeypatch, found, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert ortho_precision.__wrapped__("cpu") is getattr(torch, precision)
