"""A Trainer for the settings, and a fit that goes on where the last one stopped."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment

from medsql.config import OptimSettings, TrainerSettings, ValidationSettings
from medsql.model.checkpoints import Checkpoints
from medsql.model.hardware import precision, prepare_device
from medsql.model.module import FineTuner, TrainingError
from medsql.model.muon import ortho_precision
from medsql.model.progress import ProgressLines, TrainingBar
from medsql.runs import terminal
from medsql.runs.labels import short
from medsql.wording import counted

log = logging.getLogger(__name__)


def build_trainer(
    hardware: TrainerSettings,
    optim: OptimSettings,
    validation: ValidationSettings,
    checkpoints: Checkpoints,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """A Trainer for one pass over a train loader as long as the run: epochs are the loader's matter.

    Raises `SettingsError` where the accelerator asked for is not there.
    """
    prepare_device(hardware)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # hardware lists, tips and greetings
    on_terminal = sys.stderr.isatty() and not terminal.shared()
    progress = [TrainingBar(), ProgressLines(scores_only=True)] if on_terminal else [ProgressLines()]
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        precision=precision(hardware),
        plugins=[LightningEnvironment()],  # under Slurm Lightning would requeue the job by itself
        max_epochs=1,
        val_check_interval=validation.every_steps,  # a batch is a whole step: the module accumulates
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=list(loggers) or False,
        log_every_n_steps=1,  # unused: the module logs by itself; 50 would draw a warning in a short run
        callbacks=[*callbacks, *progress, checkpoints],  # last: what others keep is then in it
        enable_checkpointing=False,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
    )


def fit(
    trainer: pl.Trainer, module: FineTuner, data: pl.LightningDataModule, checkpoints: Checkpoints
) -> None:
    """Train from the latest checkpoint, or from the start where there is none, to the end.

    Leaves `module` on the device it was trained on, with the last weights.
    Raises `TrainingError` (a `UserError` of one line: out of memory, a loss that is not finite, no
    readable checkpoint) and `TrainingInterrupted` (SIGTERM or Ctrl-C; the state is saved).
    """
    latest = checkpoints.latest()
    if latest is not None:
        log.info("going on from %s", short(latest))
    try:
        with warnings.catch_warnings():
            # The loader starts at the step of the checkpoint by itself; Lightning cannot know that.
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
            warnings.filterwarnings("ignore", ".*does not have many workers.*")  # reading rows is no work
            warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning 2.6 calling what PyTorch renamed
            trainer.fit(module, datamodule=data, ckpt_path=latest, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise TrainingError(_out_of_memory(trainer)) from error
    module.to(trainer.strategy.root_device)  # Lightning takes it back to the CPU


def _out_of_memory(trainer: pl.Trainer) -> str:
    return (
        f"out of GPU memory after step {trainer.global_step}: lower trainer.tokens_at_once, or "
        "optim.batch_size and raise optim.accumulate by the same factor (less memory, same rows a step), or "
        "lower validation.batch_size, decode.batch_size or data.max_input_tokens, or set "
        "trainer.cuda_graphs=false"
    )


def hardware_record(trainer: pl.Trainer, optim: OptimSettings) -> dict[str, Any]:
    """What `auto` came to: the device, the precision, Muon's own, and PyTorch's threads."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    record = {"device": name, "precision": trainer.precision, "threads": torch.get_num_threads()}
    precision = str(record["precision"])
    if optim.name == "muon":
        record["muon"] = str(ortho_precision(device.type)).removeprefix("torch.")
        precision += f", in Muon {record['muon']}"
    log.info("on %s, precision %s, %s", name, precision, counted(torch.get_num_threads(), "thread"))
    return record
