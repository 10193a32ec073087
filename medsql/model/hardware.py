"""Where a model computes, and in which precision; without Lightning, which predicting need not wait for."""

from __future__ import annotations

from typing import Literal

import torch

from medsql.config import SettingsError, TrainerSettings


def prepare_device(hardware: TrainerSettings) -> torch.device:
    """Set PyTorch's threads and TF32 for the whole process; returns where models belong.

    Raises `SettingsError` where the accelerator asked for is not there.
    """
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is not None:
        torch.set_float32_matmul_precision("high")  # TF32; a CPU keeps to float32
    if hardware.accelerator == "gpu" and found is None:
        raise SettingsError("trainer.accelerator=gpu: no GPU is found; trainer=auto takes what there is")
    return torch.device("cpu") if hardware.accelerator == "cpu" or found is None else found


def autocast(hardware: TrainerSettings, device: torch.device) -> torch.autocast:
    """The precision of training, for generation outside of it on the device of `prepare_device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(hardware) == "bf16-mixed")


def precision(hardware: TrainerSettings) -> Literal["bf16-mixed", "32-true"]:
    """Lightning's name for the precision; T5 overflows in float16, so that is never chosen."""
    on_gpu = hardware.accelerator != "cpu" and torch.cuda.is_available()
    has_bfloat16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = hardware.precision == "bfloat16" or (hardware.precision == "auto" and has_bfloat16)
    return "bf16-mixed" if wanted else "32-true"
