"""Training speed: medsql's loop beside `transformers.Seq2SeqTrainer`, set up as the report does."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
from peft import PeftModel
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_callback import PrinterCallback

from benchmarks.growth import highest_memory
from benchmarks.materials import Materials, load, train
from benchmarks.timing import Comparison, alternate, say
from medsql.data.module import IGNORED, collate
from medsql.data.order import TrainingOrder

STEPS = {"question": 21, "report": 9}
PAIRS = 5  # short runs, and several: where a machine is shared, neighbours in time compare best
WARM_UP = 3
"""First steps that are not timed: memory is still being allocated."""

CHECKED_STEPS = 12
TOLERANCE = 1e-4
"""Of the relative difference between the losses at the end; both sum in float32, in another order."""

Side = Callable[..., tuple[float, PreTrainedModel | PeftModel]]
"""Trains a fresh model on materials: examples a second, and the model."""


def measure() -> list[Comparison]:
    return [
        _compare("question", "question", reported),
        _compare("report", "report", reported),
        _compare("report", "report", published),
        _compare("question", "report", published),
        *map(_memory, STEPS),
    ]


def _compare(prompt: str, other_prompt: str, other: Side) -> Comparison:
    what = f"training, {prompt} prompt"
    materials, others = (
        prepared(each, STEPS[each], "data.validation_rows=1")  # one is always validated
        for each in (prompt, other_prompt)
    )
    name = "Seq2SeqTrainer" + (", padded as published" if other is published else "")
    remark = ""
    if prompt == other_prompt:
        remark = same_loss(lambda *overrides: prepared(prompt, CHECKED_STEPS, *overrides), other)
        say(f"{what}: {remark}")
    else:
        name += f", {other_prompt} prompt"
    figures = alternate(what, lambda: timed(materials)[0], lambda: other(others)[0], PAIRS)
    return Comparison(what, name, "examples/s", figures, remark)


def _memory(prompt: str) -> Comparison:
    what = f"memory of training, {prompt} prompt"
    figures = alternate(what, lambda: _highest(timed, prompt), lambda: _highest(reported, prompt), times=2)
    return Comparison(what, "Seq2SeqTrainer", "MiB", figures)


def _highest(side: Side, prompt: str) -> float:
    """The most memory that a process held which trained with one side alone, in MiB."""
    command = [sys.executable, "-m", "benchmarks.training", side.__name__, prompt]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)
    resident, _ = highest_memory(process)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return resident


def prepared(prompt: str, steps: int, *overrides: str) -> Materials:
    length = (f"optim.max_steps={steps}", f"validation.every_steps={steps}")
    return load("experiment=optimized", f"data.prompt={prompt}", *length, *overrides)


def same_loss(load: Callable[..., Materials], other: Side, tolerance: float = TOLERANCE) -> str:
    """Train with both, without dropout, which they draw in their own ways; compare where they end."""
    materials = _without_dropout(load("lora.dropout=0", "data.validation_rows=32"))
    before = _loss(materials.model(), materials)
    medsql, report = (_loss(side(materials)[1], materials) for side in (timed, other))
    difference = abs(medsql - report) / report
    losses = f"loss {before:.4f} → {medsql:.5f} and {report:.5f}"
    agree = "agree" if difference <= tolerance else "DIFFER"
    return f"after {materials.settings.optim.max_steps} steps without dropout {agree}: {losses}"


def _without_dropout(materials: Materials) -> Materials:
    config = type(materials.base.config)(**materials.base.config.to_dict() | {"dropout_rate": 0.0})
    base = type(materials.base)(config)
    base.load_state_dict(materials.base.state_dict())
    return replace(materials, base=base)


@torch.no_grad()
def _loss(model: PreTrainedModel | PeftModel, materials: Materials) -> float:
    """The model's own loss on the validation rows, a mean over target tokens."""
    rows = [{**row, "index": index} for index, row in enumerate(materials.tokenized.validation)]
    batch = collate(rows, materials.tokenizer.pad_token_id)
    del batch["index"]
    return float(model.eval()(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss)


# --- both sides: train a fresh model; return examples a second, and the model ------------------------


@dataclass
class Stopwatch:
    """When each optimisation step was done."""

    done: dict[int, float] = field(default_factory=dict)

    def lap(self, step: int) -> None:
        self.done.setdefault(step, time.perf_counter())

    def examples_per_second(self, materials: Materials, warm_up: int) -> float:
        """From the end of the warm-up to that of the last step: neither set-up nor validation."""
        optim, last = materials.settings.optim, max(self.done)
        examples = (last - warm_up) * optim.batch_size * optim.accumulate
        return examples / (self.done[last] - self.done[warm_up])


class _LightningLaps(pl.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.watch.lap(trainer.global_step)


class _TransformersLaps(TrainerCallback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.watch.lap(state.global_step)


def timed(materials: Materials, warm_up: int = WARM_UP) -> tuple[float, PreTrainedModel | PeftModel]:
    """Train with medsql's loop: examples a second, and the model."""
    watch, model = Stopwatch(), materials.model()
    with TemporaryDirectory() as folder:
        train(materials, model, Path(folder), _LightningLaps(watch))
    return watch.examples_per_second(materials, warm_up), model


def published(materials: Materials, warm_up: int = WARM_UP) -> tuple[float, PreTrainedModel | PeftModel]:
    """As `reported`, with rows padded when they are tokenised, as the published script seems to do.

    It masks the pad tokens of its labels before any collator has added one: they were there, of the batches
    that `datasets` maps at once at the least.
    """
    pad = partial(_pad, pad_id=materials.tokenizer.pad_token_id)
    with redirect_stderr(StringIO()):  # its progress bar
        padded = materials.tokenized.train.map(pad, batched=True)
    return reported(replace(materials, tokenized=replace(materials.tokenized, train=padded)), warm_up)


def _pad(rows: dict[str, list[list[int]]], pad_id: int) -> dict[str, list[list[int]]]:
    inputs, labels = (max(map(len, rows[name])) for name in ("input_ids", "labels"))
    return {
        "input_ids": [ids + [pad_id] * (inputs - len(ids)) for ids in rows["input_ids"]],
        "attention_mask": [[1] * len(ids) + [0] * (inputs - len(ids)) for ids in rows["input_ids"]],
        "labels": [ids + [IGNORED] * (labels - len(ids)) for ids in rows["labels"]],
    }


def reported(materials: Materials, warm_up: int = WARM_UP) -> tuple[float, PreTrainedModel | PeftModel]:
    """Train with the published script's: examples a second, and the model."""
    watch, model, optim = Stopwatch(), materials.model(), materials.settings.optim
    model.set_attn_implementation("sdpa")  # what transformers takes for T5 where nothing is said
    rows, batches = len(materials.tokenized.train), materials.data().total_batches
    order = TrainingOrder(rows, optim.batch_size, batches, materials.settings.seed)
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        trainer = Seq2SeqTrainer(
            model=model,
            args=_report_arguments(materials, folder),
            train_dataset=materials.tokenized.train.select([row for batch in order for row in batch]),
            data_collator=DataCollatorForSeq2Seq(tokenizer=materials.tokenizer, model=model),
            callbacks=[_TransformersLaps(watch)],
        )
        # Mean the loss over micro-batches as the report's transformers 4.41 did; later ones weight by tokens.
        trainer.model_accepts_loss_kwargs = False
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.examples_per_second(materials, warm_up), model


def _report_arguments(materials: Materials, folder: str) -> Seq2SeqTrainingArguments:
    """The report's section 4.2, for as many steps and without evaluating and saving in between."""
    settings, optim = materials.settings, materials.settings.optim
    return Seq2SeqTrainingArguments(
        output_dir=folder,
        max_steps=optim.max_steps or -1,  # -1 and 0 are what stands for "not set" here
        per_device_train_batch_size=optim.batch_size,
        gradient_accumulation_steps=optim.accumulate,
        learning_rate=optim.lr,
        warmup_steps=optim.warmup_ratio,  # below 1 it is a share of the steps
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm or 0.0,
        label_smoothing_factor=optim.label_smoothing,
        logging_steps=50,
        eval_strategy="no",
        save_strategy="no",
        seed=settings.seed,
        use_cpu=settings.trainer.accelerator == "cpu",
        bf16=settings.trainer.accelerator == "gpu",  # what medsql chooses there
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        train_sampling_strategy="sequential",  # the rows come in medsql's order already
        disable_tqdm=True,
        report_to="none",
    )


if __name__ == "__main__":  # one side alone: `SIDE PROMPT`
    logging.getLogger("medsql").setLevel(logging.ERROR)
    name, prompt = sys.argv[1:]
    {"timed": timed, "reported": reported}[name](prepared(prompt, STEPS[prompt], "data.validation_rows=1"))
