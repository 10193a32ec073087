"""One step of Muon on the LoRA weights of the bundled model, beside PyTorch's own Muon."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.optim import Muon

from benchmarks.materials import load
from benchmarks.timing import Comparison, alternate
from medsql.model.muon import StackedMuon

STEPS = 10
PAIRS = 5


def measure() -> list[Comparison]:
    what = "a step of Muon"
    matrices = [weights for weights in load("lora=attention").model().parameters() if weights.requires_grad]
    figures = alternate(what, lambda: _rate(StackedMuon, matrices), lambda: _rate(Muon, matrices), PAIRS)
    return [Comparison(what, "torch.optim.Muon", "steps/s", figures, _remark(matrices))]


def _rate(kind: type[Muon], matrices: list[nn.Parameter]) -> float:
    """Steps a second, on copies of the same weights with the same gradients."""
    optimizer = _optimizer(kind, matrices)
    optimizer.step()  # which makes its state
    started = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    return STEPS / (time.perf_counter() - started)


def _optimizer(kind: type[Muon], matrices: list[nn.Parameter]) -> Muon:
    torch.manual_seed(0)
    copies = [nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    for copy in copies:
        copy.grad = torch.randn_like(copy)
    return kind(copies, lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")


def _remark(matrices: list[nn.Parameter]) -> str:
    """How far apart the two end after one step, as a share of its length."""
    moved: list[list[Tensor]] = []
    for kind in (StackedMuon, Muon):
        optimizer = _optimizer(kind, matrices)
        optimizer.step()
        moved.append(
            [
                a.detach() - b.detach()
                for a, b in zip(optimizer.param_groups[0]["params"], matrices, strict=True)
            ]
        )
    apart = sum(float((a - b).square().sum()) for a, b in zip(*moved, strict=True))
    length = sum(float(b.square().sum()) for b in moved[1])
    return f"{len(matrices)} matrices; steps {(apart / length) ** 0.5:.1%} of their length apart, by rounding"
