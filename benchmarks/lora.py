"""Training speed of LoRA beside full fine-tuning of the same model; the report claims three times as much."""

from __future__ import annotations

from benchmarks.materials import Materials, load
from benchmarks.timing import Comparison, alternate
from benchmarks.training import timed

STEPS = 31
PAIRS = 5


def measure() -> list[Comparison]:
    lora, full = _materials("attention"), _materials("none")
    what = "training, LoRA r = 16"
    figures = alternate(what, lambda: timed(lora)[0], lambda: timed(full)[0], PAIRS)
    return [Comparison(what, "all weights", "examples/s", figures, _remark(lora, full))]


def _materials(option: str) -> Materials:
    length = (f"optim.max_steps={STEPS}", f"validation.every_steps={STEPS}", "data.validation_rows=1")
    return load(f"lora={option}", "optim=adamw", *length)


def _remark(lora: Materials, full: Materials) -> str:
    trained, all_weights = (
        sum(weights.numel() for weights in materials.model().parameters() if weights.requires_grad)
        for materials in (lora, full)
    )
    return f"{trained:,} trained weights beside {all_weights:,}, AdamW, batches of 8"
