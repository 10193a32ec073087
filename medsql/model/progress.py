"""How training is going: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

from medsql.model.generation import EVERY_SECONDS

log = logging.getLogger(__name__)


class TrainingBar(RichProgressBar):
    """Lightning's bar, without its count of epochs: a run is one pass, however often it sees a row."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"


class ProgressLines(pl.Callback):
    """Logs step, loss, learning rate, rows a second and time left, and every validation's scores.

    With `scores_only`, for beside a bar, just the latter.
    """

    def __init__(self, scores_only: bool = False) -> None:
        self.scores_only = scores_only
        self._since = 0.0
        self._paused = 0.0
        self._rows = 0
        self._batches = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; the model was loaded before."""
        self._restart()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line every few seconds."""
        self._rows += sum(len(part["labels"]) for part in batch)
        self._batches += 1
        seconds = time.monotonic() - self._since
        if self.scores_only or seconds < EVERY_SECONDS:
            return
        left = (trainer.num_training_batches - batch_idx - 1) * seconds / self._batches
        log.info(
            "step %d (%d %%): loss %.4f, learning rate %.2e, %.1f rows/s, %s left besides validation",
            trainer.global_step,
            100 * (batch_idx + 1) // trainer.num_training_batches,
            trainer.callback_metrics["train/loss"],
            trainer.optimizers[0].param_groups[0]["lr"],
            self._rows / seconds,
            timedelta(seconds=round(left)),
        )
        self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when training paused."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A line with the scores; the time it took does not count as training."""
        seconds = time.monotonic() - self._paused
        self._since += seconds
        scores = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        line = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        log.info("validation at step %d (%.1f s): %s", trainer.global_step, seconds, line)

    def _restart(self) -> None:
        self._since, self._rows, self._batches = time.monotonic(), 0, 0
