"""Validation scores on their way to a study, which may end the run for them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import lightning.pytorch as pl

from medsql.runs.folder import Run, RunPruned

log = logging.getLogger(__name__)


class Reports(pl.Callback):
    """Hands each validation's `metric` to `report`, and ends the run where that returns True.

    It comes before the checkpoint is saved: a run killed in between validates and reports again, so
    that no report is ever missing. After its last step a run is whole and is not pruned.
    """

    def __init__(self, report: Callable[[int, float], bool], metric: str, run: Run) -> None:
        self.report = report
        self.metric = metric
        self.run = run

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raises `RunPruned`, with the scores so far in the run's record."""
        scores = {
            name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }
        if self.metric not in scores:
            log.warning(
                "no %s at step %d: nothing is reported to the study", self.metric, trainer.global_step
            )
        elif self.report(trainer.global_step, scores[self.metric]) and not _last(trainer):
            self.run.note(validation=scores, pruned_at_step=trainer.global_step)
            raise RunPruned(scores[self.metric])


def _last(trainer: pl.Trainer) -> bool:
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready >= trainer.num_training_batches
