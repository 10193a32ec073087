"""What makes training faster on a CPU, and leaves what it computes as it is.

PyTorch's dropout may draw one number an element, from one thread, and then takes as long as the matrix
product behind it. Here one draw serves four elements. Attention of T5 goes through PyTorch's fused kernel;
its bias and mask are added once a pass through the model, where transformers does it in every layer. What
LoRA adds to a layer is scaled and added by the product of matrices that makes it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners import lora
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, T5PreTrainedModel
from transformers.masking_utils import eager_mask

ATTENTION = "medsql_cpu"
"""The name that transformers knows `attention` by."""

LEVELS = 1 << 16
"""An element is dropped with a probability of this many steps: 0.05 is 3277 of them, 0.050003."""


def prepare(model: PreTrainedModel | PeftModel) -> None:
    """Give `model`, in place, this module's dropout and, if it is a T5, its attention."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
        elif type(module) is lora.Linear:
            module.__class__ = LoraLinear
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(base, T5PreTrainedModel):
        base.set_attn_implementation(ATTENTION)


def dropout(values: Tensor, p: float) -> Tensor:
    """`values` with each element zero with probability `p`, in steps of 1 / 65536, and scaled up to match."""
    thinned, scale = thin(values, p)
    return thinned.mul_(scale)


def thin(values: Tensor, p: float) -> tuple[Tensor, float]:
    """Dropout in two parts: `values`, each zero with probability `p`, and what they are to be scaled by."""
    dropped = round(p * LEVELS)
    if dropped == LEVELS:
        return values * 0, 1.0
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = draws.view(torch.int16)[: values.numel()].view(values.shape) >= dropped - LEVELS // 2
    return values.where(kept, 0.0), LEVELS / (LEVELS - dropped)


class Dropout(nn.Dropout):
    """`nn.Dropout` with this module's draws."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, some of its elements zero while training."""
        return dropout(input, self.p) if self.training and self.p else input


class LoraLinear(lora.Linear):
    """PEFT's adapted layer, with the update scaled and added within the product of its two matrices.

    PEFT goes through all outputs once for either, forward and backward, and dropout through all inputs to
    scale them up.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output; as PEFT computes it outside of training, and for more than a plain adapter."""
        adapter = self._plain_adapter(x)
        if adapter is None or args or kwargs or not self.training:
            return super().forward(x, *args, **kwargs)
        scaling, dropout = self.scaling[adapter], self.lora_dropout[adapter]
        output = self.base_layer(x)
        if isinstance(dropout, Dropout) and dropout.training:
            x, scale = thin(x, dropout.p)
            scaling *= scale
        else:
            x = dropout(x)
        low_rank: Tensor = self.lora_A[adapter](x)
        up: Any = self.lora_B[adapter].weight
        output.flatten(0, -2).addmm_(low_rank.flatten(0, -2), up.t(), alpha=scaling)
        return output

    def _plain_adapter(self, x: Tensor) -> str | None:
        """The one adapter to add, if it is two matrices and no more, and all is of one type."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if len(active) != 1 or self.lora_variant or self.merged or self.disable_adapters:
            return None
        (name,) = active
        types = {x.dtype, self.base_layer.weight.dtype, self.lora_A[name].weight.dtype}
        plain = self.lora_B[name].bias is None and len(types) == 1 and not torch.is_autocast_enabled("cpu")
        return name if plain else None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as transformers' interface has it; outside of training by its "eager" formula.

    `query`, `key` and `value` are rows × heads × tokens × width, the mask and the bias are added to the
    scores. Returns rows × tokens × heads × width, and the weights where they are computed.
    """
    biases = [bias for bias in (position_bias, attention_mask) if bias is not None]
    if module.training and len(biases) == 2:
        biases = [_masked(*biases)]
    if module.training and not dropout:
        bias = biases[0] if biases else None
        fused = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
        return fused.transpose(1, 2).contiguous(), None
    scores = query @ key.transpose(2, 3)
    if scaling != 1:
        scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    for bias in biases:
        scores = scores + bias
    weights = scores.softmax(dim=-1)
    if module.training:
        weights = _dropout(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _masked(position_bias: Tensor, attention_mask: Tensor) -> Tensor:
    """Their sum, made once: T5 hands the same two to every layer, and the sum goes along with the bias."""
    mask, masked = getattr(position_bias, "masked", (None, None))
    if mask is not attention_mask or masked is None:
        # T5 looks its bias up with the heads last; the kernel would copy it in every layer, there and back.
        masked = position_bias.contiguous() + attention_mask
        position_bias.masked = (attention_mask, masked)  # type: ignore[attr-defined]
    return masked


_dropout = dropout  # which a parameter of `attention` hides

AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
