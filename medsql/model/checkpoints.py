"""Checkpoints that a run goes on from exactly, stopped at any moment.

One file a kept step, `step-000200.ckpt`, and nothing else in the folder: the newest is "the last",
and the best `keep` by the monitored metric stay beside it. Each file carries the metrics of those
kept when it was written, so there is no index that could disagree with the files.

Why not Lightning's own: its counters resume exactly only from a checkpoint saved right after a
validation, it stops on a signal in the middle of an optimisation step, and a run killed between
saving and tidying leaves files that nobody removes.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch

from medsql.config import LAST, CheckpointSettings
from medsql.model.module import FineTuner, TrainingError
from medsql.runs.labels import short

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that training answers between two steps."""


class TrainingInterrupted(SystemExit):
    """Training was asked to stop by a signal, and did with its state saved.

    A `SystemExit`, with the code of whoever handled the signal before, else the shell's for the signal:
    what survives the failure of one job does not survive this, and a process in which nobody catches
    it ends quietly.
    """

    def __init__(self, signum: int, step: int, code: Any = None) -> None:
        super().__init__(128 + signum if code is None else code)
        self.signum = signum
        self.step = step

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name} after step {self.step}, which is saved"


class Checkpoints(pl.Callback):
    """Saves after each validation and, on a signal to stop, once the current step is finished.

    SIGTERM and Ctrl-C are such signals, and SIGUSR1 and SIGUSR2 where somebody listens to them, as what
    runs jobs on a cluster does. Once the state is saved, whoever listened before decides what comes next:
    an exit ends training, which else goes on.

    The weights a run ends with do not depend on where it was stopped: a checkpoint is only written
    between two optimisation steps, and says whether that step's validation is still to come.
    Lightning validates at its interval only; this callback adds one at the end of training.
    """

    def __init__(self, folder: Path, settings: CheckpointSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.validations: dict[int, dict[str, float]] = {}
        """The validation metrics of the best `keep` steps."""
        self._validated = False
        self._listeners: dict[int, Any] = {}
        """What handled each signal before training, as `signal.getsignal` gives it."""
        self._signals: list[int] = []

    def path(self, step: int) -> Path:
        """Where the checkpoint of an optimisation step lies."""
        return self.folder / f"step-{step:06d}.ckpt"

    @property
    def best_step(self) -> int | None:
        """The step with the best score, the earliest of equals; None before the first validation."""
        return min(self.validations, key=self._rank, default=None)

    # ---- going on, and going back -----------------------------------------------------------

    def latest(self) -> Path | None:
        """The newest readable checkpoint, or None where the folder has none.

        A damaged one is passed over with a warning. Raises `TrainingError` where all are damaged.
        """
        damaged = []
        for step in sorted(self._saved_steps(), reverse=True):
            try:
                _read(self.path(step))
                return self.path(step)
            except Exception as error:  # torch, zipfile and pickle each raise their own
                damaged.append(self.path(step).name)
                log.warning(
                    "%s cannot be read (%s): going back to the one before", short(self.path(step)), error
                )
        if damaged:
            names = ", ".join(damaged)
            raise TrainingError(f"{short(self.folder)}: cannot read {names}: remove the folder to train anew")
        return None

    def restore_best(self, module: FineTuner) -> dict[str, float]:
        """Put the best checkpoint's trainable weights into `module`; returns its validation metrics.

        A damaged one is passed over with a warning. Raises `TrainingError` where none is left.
        """
        for step in sorted(self.validations, key=self._rank):
            try:
                load_weights(module, self.path(step))
                return self.validations[step]
            except TrainingError:
                raise
            except Exception as error:
                log.warning("%s cannot be read (%s): taking the next best", short(self.path(step)), error)
        raise TrainingError(f"no checkpoint in {short(self.folder)} can be restored")

    # ---- when to save -----------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note who listens to the signals, before Lightning does."""
        self._listeners = {signum: signal.getsignal(signum) for signum in STOPPING}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove what a killed run left, and take over the signals."""
        self._tidy(trainer)
        self._validate_at_the_end(trainer)
        if threading.current_thread() is threading.main_thread():
            # In place of Lightning's handler, which saves nothing.
            # Lightning puts back what was there before, for all signals, when fit is over.
            for signum, listener in self._listeners.items():
                taken = callable(listener) or (signum == signal.SIGTERM and listener == signal.SIG_DFL)
                if listener is not None:  # as one is that no Python code has set
                    signal.signal(signum, self._request_stop if taken else listener)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Whatever was validated before, the weights are about to change."""
        self._validated = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, where that is asked, behind a whole optimisation step."""
        self._validate_at_the_end(trainer)
        self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop, where that is asked, in a validation too; resuming starts it over."""
        if trainer.state.fn == "fit":
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and keep this step if it is among the best."""
        if trainer.state.fn != "fit":
            return
        self._validated = True
        metrics = trainer.callback_metrics.items()
        self.validations[trainer.global_step] = {
            name: value.item() for name, value in metrics if name.startswith("val/")
        }
        best = sorted(self.validations, key=self._rank)[: self.settings.keep]
        self.validations = {step: self.validations[step] for step in best}
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, where that was asked in the last validation."""
        self._stop_if_asked(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """A stop that was asked for just before something else ended training, as a pruner may."""
        while self._signals:
            self._hand_over(self._signals.pop(0), trainer.global_step)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._signals:
            self._save(trainer)
        while self._signals:
            self._hand_over(self._signals.pop(0), trainer.global_step)

    def _hand_over(self, signum: int, step: int) -> None:
        """Let whoever listened before act. Raises `TrainingInterrupted` where that is an exit."""
        listener = self._listeners[signum]
        if not callable(listener):
            raise TrainingInterrupted(signum, step)
        try:
            listener(signum, None)
        except KeyboardInterrupt:
            raise TrainingInterrupted(signum, step) from None
        except SystemExit as leaving:
            raise TrainingInterrupted(signum, step, leaving.code) from None
        log.warning("%s: saved after step %d, training goes on", signal.Signals(signum).name, step)

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        if self._signals and signum == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C: at once, back to the last checkpoint
        self._signals.append(signum)
        log.warning("%s: saving as soon as this step is finished", signal.Signals(signum).name)

    def _validate_at_the_end(self, trainer: pl.Trainer) -> None:
        """Make the last step a validation step, whether or not the interval falls on it."""
        if _batches(trainer) == trainer.num_training_batches:
            trainer.val_check_batch = trainer.num_training_batches

    # ---- how to save ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of this callback."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the kept validations; later ones may have displaced some before going back here."""
        known = state_dict["validations"].items()
        self.validations = {step: metrics for step, metrics in known if self.path(step).exists()}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write Lightning's counters as they stand between two steps, wherever the save happens.

        Its own depend on the hook that saved: from `on_train_batch_end` they make a resumed run
        skip a validation that was due. Two states are enough. Validated: all batches completed,
        which the loop takes for "go on behind this validation". Not yet: besides, one validation
        batch begun and not ended, which it takes for "validate first if that is due".
        """
        loops = checkpoint["loops"]["fit_loop"]
        done, begun = _batches(trainer), int(not self._validated)
        for count in ("total", "current"):
            loops["epoch_loop.batch_progress"][count] = {
                "ready": done, "started": done, "processed": done, "completed": done
            }  # fmt: skip
            loops["epoch_loop.val_loop.batch_progress"][count] = {
                "ready": begun, "started": begun, "processed": 0, "completed": 0
            }  # fmt: skip

    def _save(self, trainer: pl.Trainer) -> None:
        """Write the state after the current step, whole or not at all, and tidy up behind it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(trainer.global_step)
        temporary = path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary, weights_only=False)
        temporary.replace(path)
        self._tidy(trainer)

    def _tidy(self, trainer: pl.Trainer) -> None:
        """Remove all but the best and the last, leftovers of a killed run included."""
        kept = {self.path(step) for step in (*self.validations, trainer.global_step)}
        for path in (*self.folder.glob("step-*.ckpt"), *self.folder.glob("step-*.tmp")):
            if path not in kept:
                path.unlink()

    def _saved_steps(self) -> list[int]:
        names = (re.fullmatch(r"step-(\d+)\.ckpt", path.name) for path in self.folder.glob("step-*.ckpt"))
        return [int(name[1]) for name in names if name]

    def _rank(self, step: int) -> tuple[float, int]:
        """Sort key, best first: losses ascend, other metrics descend, and the earlier step wins.

        Where the last is to be taken, the later one.
        """
        if self.settings.monitor == LAST:
            return (-step, step)
        score = self.validations[step][self.settings.monitor]
        return (score if self.settings.monitor == "val/loss" else -score, step)


def load_weights(module: FineTuner, path: Path) -> None:
    """Put a checkpoint's trainable weights into `module`; the frozen ones stay as they are.

    Raises `TrainingError` where they do not fit, and what `torch.load` raises where it cannot read.
    """
    weights = _read(path)["state_dict"]
    module.check_weights(weights)
    module.load_state_dict(weights, strict=False)


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _batches(trainer: pl.Trainer) -> int:
    """Steps trained so far, those before a restart included."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready
