"""The optimisers a training may ask for, and how each tensor's learning rate comes about."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from transformers.optimization import Adafactor

from medsql.config import OptimSettings
from medsql.model.muon import StackedMuon


def build_optimizer(model: nn.Module, optim: OptimSettings) -> Optimizer:
    """The optimiser of all weights of `model` that are trained.

    Weight decay acts on matrices; norms and biases, which are vectors, are left alone. With
    `optim.scale_by_size` every tensor's learning rate is that of its first weights' size.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if optim.name == "muon":
        hidden = [p for name, p in trained.items() if p.ndim == 2 and not _is_table(name)]
        rest = [p for name, p in trained.items() if p.ndim != 2 or _is_table(name)]
        # LoRA leaves nothing to AdamW, which then is not there: it refuses to have no weights.
        return Together(*([_adamw(rest, optim)] if rest else []), _muon(hidden, optim))
    if optim.name == "adafactor":
        rate = optim.lr * optim.lr_scale
        # An external learning rate and schedule, as for T5's fine-tuning (Raffel et al. 2020).
        groups = _groups(list(trained.values()), optim)
        return Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False)
    return _adamw(list(trained.values()), optim)


class Together(Optimizer):
    """Several optimisers as one, each with weights of its own.

    `param_groups` holds the parts' own groups, so that what a schedule writes there reaches them.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> Any:
        """One step of every part; `closure` computes the loss, and is called once."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hand each part its state. Raises `ValueError` where one is of other weights."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _adamw(parameters: list[nn.Parameter], optim: OptimSettings) -> AdamW:
    return AdamW(
        _groups(parameters, optim), lr=optim.lr * optim.lr_scale, betas=(0.9, optim.beta2), fused=True
    )


def _muon(matrices: list[nn.Parameter], optim: OptimSettings) -> StackedMuon:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), its steps made as large as
    AdamW's (Liu et al. 2025, https://arxiv.org/abs/2502.16982), so that one rate serves both.
    """
    return StackedMuon(_groups(matrices, optim), lr=optim.lr * optim.lr_scale, adjust_lr_fn="match_rms_adamw")


def _groups(parameters: list[nn.Parameter], optim: OptimSettings) -> list[dict[str, Any]]:
    rate = optim.lr * optim.lr_scale
    if optim.scale_by_size:
        return [_group([p], optim, rate * _size(p)) for p in parameters]
    kinds = ([p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2])
    return [_group(kind, optim, rate) for kind in kinds]


def _group(parameters: list[nn.Parameter], optim: OptimSettings, rate: float) -> dict[str, Any]:
    decay = optim.weight_decay if parameters and parameters[0].ndim >= 2 else 0.0
    return {"params": parameters, "lr": rate, "weight_decay": decay}


def _size(parameter: nn.Parameter) -> float:
    """The root mean square of the weights, 0.001 where they are smaller, as in Adafactor.

    A resumed run computes it from later weights; the optimiser's state then brings back the first.
    """
    return max(1e-3, parameter.detach().square().mean().sqrt().item())


def _is_table(name: str) -> bool:
    """Whether rows of the matrix stand for tokens or distances, to which Muon's reasons do not apply."""
    return any(part in name for part in ("shared", "embed", "lm_head", "relative_attention_bias"))
