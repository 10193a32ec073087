"""On a GPU: training and scoring at FLAN-T5-base's shape, and how near the GPU's own rate that comes."""

from __future__ import annotations

import json
import shutil
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from benchmarks import scoring, training
from benchmarks.materials import Materials, load, train
from benchmarks.profiles import by_kind, shares
from benchmarks.timing import Comparison, alternate, say
from medsql.assets import checkpoint_folder
from medsql.config import DecodeSettings
from medsql.data.module import collate

STEPS = {"question": 43, "report": 23}
TIMES = 3
WARM_UP = 12
"""Steps that are not timed: they hold the capturing of CUDA graphs, which a run of use does once."""

ONE_BY_ONE = 4
"""Rows that the loop of one at a time is timed on; the batches get `ROWS`, and queries a second compare."""

ROWS = 128
BATCHES = (16, 32)
"""Rows in a batch, tried for the share of the GPU's own rate."""

KINDS = {
    "attention": "fmha|flash|attention|cudnn",
    "matrix products": "gemm|cutlass|nvjet|xmma",
    "dropout": "dropout|bernoulli|philox",
    "sums and softmax": "reduce|softmax|norm",
    "elementwise": "elementwise|Copy|copy|cat",
}
"""What is found in the names of CUDA kernels."""

LESSON = ("lora=none", "optim=adamw", "optim.lr=1e-3", "optim.batch_size=32", "optim.max_steps=300")


def measure() -> list[Comparison]:
    """Nothing where there is no NVIDIA GPU."""
    if not torch.cuda.is_available():
        say("gpu: no NVIDIA GPU is found, nothing is measured")
        return []
    with TemporaryDirectory() as folder:
        base = f"model.checkpoint={_flan_t5_base(Path(folder))}"
        trained = [_training(prompt, base) for prompt in STEPS]
        rate = matrix_rate()
        return [*trained, *_scoring(base), *(_share_of_rate(base, rate, size) for size in BATCHES)]


def _flan_t5_base(folder: Path) -> Path:
    """FLAN-T5-base's shape (Chung et al. 2022), random weights, with the bundled tokenizer."""
    shutil.copytree(checkpoint_folder("bundled:mini"), folder, dirs_exist_ok=True)
    bundled = json.loads((folder / "config.json").read_text())
    special: dict[str, Any] = {
        name: bundled[name] for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    }
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=12,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        **special,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


# --- training ----------------------------------------------------------------------------------------


def _training(prompt: str, base: str) -> Comparison:
    what = f"training on a GPU, {prompt} prompt"
    materials = _materials(prompt, STEPS[prompt], base, "data.validation_rows=1")
    remark = training.same_loss(
        lambda *overrides: _materials(prompt, training.CHECKED_STEPS, base, *overrides),
        training.reported,
        tolerance=2e-3,
    )
    say(f"{what}: {remark}")
    sides = (lambda: training.timed(materials, WARM_UP)[0], lambda: training.reported(materials, WARM_UP)[0])
    figures = alternate(what, *sides, times=TIMES)
    return Comparison(what, "Seq2SeqTrainer", "examples/s", figures, remark)


def _materials(prompt: str, steps: int, *overrides: str) -> Materials:
    length = (f"optim.max_steps={steps}", f"validation.every_steps={steps}")
    return load("experiment=optimized", f"data.prompt={prompt}", *length, *overrides, trainer="gpu")


def _share_of_rate(base: str, rate: float, size: int) -> Comparison:
    """Beside training that is nothing but its matrix products, at `rate` operations a second."""
    what = f"training on a GPU, report prompt, batches of {size}"
    one = ("optim.accumulate=1", f"optim.batch_size={size}", "data.validation_rows=1", "data.pairs=8000")
    materials = _materials("report", STEPS["report"], base, *one)
    operations, kinds = measured_step(materials, size)
    possible = rate * size / operations
    figures = alternate(what, lambda: training.timed(materials, WARM_UP)[0], lambda: possible, times=2)
    remark = (
        f"{operations / size / 1e12:.2f} TFLOP a row; products of 8192³ in bfloat16 run at {rate / 1e12:.0f} "
        f"TFLOP/s; a step's time on the GPU: {kinds}"
    )
    return Comparison(what, "its matrix products alone", "examples/s", figures, remark)


def matrix_rate(size: int = 8192, times: int = 20) -> float:
    """Operations a second of square matrix products in bfloat16."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize()
    return times * 2 * size**3 / (time.perf_counter() - started)


def measured_step(materials: Materials, rows: int) -> tuple[float, str]:
    """The operations of the matrix products in one step, and how its kernels' time divides by kind."""
    batch = collate(
        [materials.tokenized.train[row] | {"index": row} for row in range(rows)],
        materials.tokenizer.pad_token_id,
    )
    del batch["index"]
    on_gpu = {name: tensor.cuda() for name, tensor in batch.items()}
    model = materials.model()
    model.to("cuda")  # type: ignore[arg-type]  # its decorator hides the signature

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            model(**on_gpu).loss.backward()

    with FlopCounterMode(display=False) as counter:
        step()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    kernels = {event.key: event.self_device_time_total for event in profiled.key_averages()}
    return float(counter.get_total_flops()), shares(by_kind(kernels, KINDS, "other"))


# --- scoring -----------------------------------------------------------------------------------------


@cache
def _taught(base: str) -> tuple[PreTrainedModel | PeftModel, Materials]:
    say("training the model that is scored")
    length = ("optim.epochs=4", "validation.every_steps=300", "data.validation_rows=16")
    materials = load(*LESSON, *length, base, trainer="gpu")
    model = materials.model()
    with TemporaryDirectory() as folder:
        train(materials, model, Path(folder))
    model.to("cuda")  # type: ignore[arg-type]  # its decorator hides the signature
    return model.eval(), materials


def _scoring(base: str) -> list[Comparison]:
    model, materials = _taught(base)
    found = []
    for decode in (DecodeSettings(num_beams=1, batch_size=128), DecodeSettings(num_beams=4, batch_size=64)):
        contest = scoring.Contest(
            model, materials.tokenizer, materials.tokenized, decode, rows=ROWS, one_by_one_rows=ONE_BY_ONE
        )
        with torch.autocast("cuda", torch.bfloat16):
            found.append(contest.hold("on a GPU"))
    return found
