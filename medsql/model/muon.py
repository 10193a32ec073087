"""PyTorch's Muon, several times as fast on many small matrices, which is what LoRA trains."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon


class StackedMuon(Muon):
    """`torch.optim.Muon` that orthogonalises all matrices of one shape at once.

    The same steps, and the same state in checkpoints. In bfloat16, as PyTorch's, only where the hardware
    multiplies in it, otherwise in float32: a CPU without takes several times as long to emulate it.
    `benchmarks/muon.py` measures both.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; `closure` computes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            of_one_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    of_one_shape[matrix.shape].append(matrix)
            for matrices in of_one_shape.values():
                self._step(matrices, group)
        return loss

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        updates = orthogonal(torch.stack(list(ahead)), group["ns_coefficients"], group["ns_steps"])
        # Steps of AdamW's size, whatever the shape: adjust_lr_fn="match_rms_adamw".
        size = 0.2 * max(matrices[0].shape) ** 0.5
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, updates.unbind(), alpha=-group["lr"] * size)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """The nearest semi-orthogonal matrices, nearly: Newton and Schulz's iteration (Jordan et al. 2024).

    `matrices` is (n, rows, columns), as is what returns, in its own precision.
    """
    a, b, c = coefficients
    upright = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if upright else matrices).to(_precision(matrices.device.type))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if upright else x).to(matrices.dtype)


@cache
def _precision(device: str) -> torch.dtype:
    found = torch.cpu.get_capabilities()
    has_bfloat16 = device != "cpu" or any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if has_bfloat16 else torch.float32
