"""Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685) through PEFT."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medsql.config import LoraSettings, SettingsError
from medsql.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParameterCount:
    """How many weights a model has, tied ones counted once, and how many of them are trained."""

    trainable: int
    total: int


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> PreTrainedModel | PeftModel:
    """Freeze `model` and put adapters into it, in place; without targets, train all its weights.

    Raises `SettingsError` where no target names a linear layer of the model.
    """
    if settings.targets is None:
        return model.requires_grad_(True)
    _check_targets(model, settings.targets)
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        target_modules=list(settings.targets),
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only ever divides it by r
        lora_dropout=settings.dropout,
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*is_gradient_checkpointing.*"
        )  # PEFT's use of transformers' old name
        return get_peft_model(model, config)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count weights; works on the meta device too."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(trainable=sum(n for n, trained in sizes if trained), total=sum(n for n, _ in sizes))


def save_model(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the adapter as PEFT does, or all weights of a model without one as transformers does.

    The tokenizer goes with it: either folder is then all that is needed beside the base.
    """
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put the adapter saved in `folder` into `model`, ready to generate.

    Raises `UserError` of one line where the adapter is missing, damaged or made for another model.
    """
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 reading what transformers 5 renamed
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*")
            return PeftModel.from_pretrained(model, str(folder))
    except Exception as error:  # safetensors, json, PEFT and torch each raise their own
        reason = str(error).strip().splitlines()
        raise UserError(
            f"cannot load the adapter in {folder}: {reason[0] if reason else type(error).__name__}"
        ) from error


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """The base model with the adapter added to its weights: the same outputs, without the adapter's time.

    Changes the base's weights in place. The sum is made in float32, and rounded once where the base is kept
    in bfloat16.
    Raises `UserError` where a merged weight is not finite.
    """
    dtype = model.get_base_model().dtype
    try:
        merged: PreTrainedModel = model.float().merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(f"the adapter cannot be merged: {error}") from error
    return merged.to(dtype)  # type: ignore[arg-type]  # its decorator hides the signature


def _check_targets(model: nn.Module, targets: list[str]) -> None:
    """PEFT skips target names that match nothing as long as one matches; that must not go unseen."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    missing = [target for target in targets if not any(_matches(name, target) for name in linear)]
    if len(missing) == len(targets):
        existing = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise SettingsError(f"lora.targets={targets}: this model's linear layers are {existing}")
    if missing:
        log.info("lora.targets: this model has no %s, which changes nothing", ", ".join(missing))


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
