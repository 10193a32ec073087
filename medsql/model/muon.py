"""PyTorch's Muon, several times as fast on many small matrices, which is what LoRA trains."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon

MOST_AT_ONCE = 2**24
"""Numbers that are stacked at a time, so that the copies of a large model's matrices stay small."""

SHARED = ("momentum", "nesterov", "ns_coefficients", "ns_steps", "eps")
"""What matrices that are stacked have in common besides their shape; rate and decay may differ."""


class StackedMuon(Muon):
    """`torch.optim.Muon` that orthogonalises matrices of one shape together.

    The same steps but for rounding, and the same state in checkpoints. In bfloat16, as PyTorch's, only where
    the hardware multiplies in it (`ortho_precision`), otherwise in float32: a CPU without takes several times
    as long to emulate it. `benchmarks/muon.py` measures the two together. Raises `ValueError` for another
    `adjust_lr_fn` than `match_rms_adamw`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if any(group["adjust_lr_fn"] != "match_rms_adamw" for group in self.param_groups):
            raise ValueError("StackedMuon takes adjust_lr_fn='match_rms_adamw' alone")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; `closure` computes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        alike: defaultdict[tuple[Any, ...], list[tuple[Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape, *(group[name] for name in SHARED)].append((matrix, group))
        for (shape, *shared), matrices in alike.items():
            at_once = max(1, MOST_AT_ONCE // shape.numel())
            for first in range(0, len(matrices), at_once):
                self._step(matrices[first : first + at_once], *shared)
        return loss

    def _step(
        self,
        matrices_and_groups: list[tuple[Tensor, dict[str, Any]]],
        momentum: float,
        nesterov: bool,
        coefficients: tuple[float, float, float],
        steps: int,
        eps: float,
    ) -> None:
        matrices, groups = map(list, zip(*matrices_and_groups, strict=True))
        gradients = [matrix.grad for matrix in matrices]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum) if nesterov else momenta
        updates = list(orthogonal(torch.stack(list(ahead)), coefficients, steps, eps).unbind())
        # Steps of AdamW's size, whatever the shape: adjust_lr_fn="match_rms_adamw".
        size = 0.2 * max(matrices[0].shape) ** 0.5
        torch._foreach_mul_(updates, [-group["lr"] * size for group in groups])
        torch._foreach_mul_(matrices, [1 - group["lr"] * group["weight_decay"] for group in groups])
        torch._foreach_add_(matrices, updates)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The nearest semi-orthogonal matrices, nearly: Newton and Schulz's iteration (Jordan et al. 2024).

    `matrices` is (n, rows, columns), as is what returns, in its own precision.
    """
    a, b, c = coefficients
    upright = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if upright else matrices).to(ortho_precision(matrices.device.type))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if upright else x).to(matrices.dtype)


@cache
def ortho_precision(device: str) -> torch.dtype:
    """bfloat16 on a `cpu` or `cuda` device that multiplies in it, else float32."""
    if device == "cpu":
        found = torch.cpu.get_capabilities()
        has_bfloat16 = any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    else:
        has_bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32
