"""The LightningModule: what one step of training and one validation compute.

Nothing here depends on when a run was interrupted: dropout is seeded by the number of the
step, so no generator state has to be saved for a resumed run to equal an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from transformers import PreTrainedModel, get_scheduler

from medsql.config import SCORES, OptimSettings
from medsql.data.pairs import Pair
from medsql.errors import UserError
from medsql.metrics.execution import Execution
from medsql.metrics.scores import row_scores
from medsql.model import cpu
from medsql.model.decoder import Decoder
from medsql.model.generation import generate_sql, log_prediction
from medsql.model.graphs import GraphedLoss
from medsql.model.optimizers import build_optimizer

LOG_EVERY_STEPS = 10
"""Optimisation steps that one logged training loss is the mean over."""


class TrainingError(UserError):
    """Training cannot go on; the message says at which step, why, and what to change."""


class FineTuner(pl.LightningModule):
    """Fine-tunes a seq2seq model to write SQL.

    A batch holds `input_ids` and `attention_mask` (rows × input tokens), `labels` (rows × target
    tokens, padded with -100) and `index` (rows), the row's place in its split. A step of training
    gets a list of batches, each of one or more micro-batches of `optim.batch_size` rows. The validation
    loaders are, in this order, all rows for the loss and those that SQL is generated for;
    `validation_pairs` holds the latter's questions and gold queries by `index`.

    `total_steps` counts optimisation steps and sets the schedule's length; `decoder` makes SQL of what is
    generated; `show` predictions are logged as text after each validation; `cuda_graphs` matters on GPUs.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        optim: OptimSettings,
        decoder: Decoder,
        *,
        validation_pairs: Sequence[Pair],
        total_steps: int,
        seed: int,
        show: int = 3,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__()
        self.model = model.train()  # from_pretrained leaves dropout off
        self.optim = optim
        self.decoder = decoder
        self.validation_pairs = validation_pairs
        self.total_steps = total_steps
        self.seed = seed
        self.show = show
        self.cuda_graphs = cuda_graphs
        self.cuda_graphs_used: dict[str, int] | None = None
        self.training_loss: Callable[[Mapping[str, Tensor], int], Tensor] = self.loss
        self._predictions: dict[int, str] = {}  # of the validation at hand, by row
        self.strict_loading = False  # checkpoints leave the frozen weights out
        self.validation_loss = MeanMetric(nan_strategy="disable")
        self.scores = {name: MeanMetric(nan_strategy="ignore") for name in SCORES}  # NaN: cannot be judged
        self._execution = Execution()
        self._loss_sum, self._loss_count = 0.0, 0  # since the last training loss was logged
        self.passes = 0
        """How often the model was gone through in training: once a step, where all of its rows fit."""
        self._grad_norm: Tensor | None = None

    # ---- loss -------------------------------------------------------------------------------

    def loss(self, batch: Mapping[str, Tensor], micro_batches: int = 1) -> Tensor:
        """Label-smoothed cross-entropy (Szegedy et al. 2016), a mean over target tokens.

        The same formula as the Hugging Face Trainer's, and like there for validation too. Of a batch of
        several micro-batches, of equally many rows, it is the mean of their losses: they count alike, as in
        the published run's transformers 4.41; later ones weigh them by tokens.
        """
        labels = batch["labels"]
        logits = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # Passed in place of labels, so that the model computes no loss of its own beside this one.
            decoder_input_ids=self.model.prepare_decoder_input_ids_from_labels(labels=labels),
            use_cache=False,  # or keys and values are copied for tokens that nobody generates
        ).logits
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=-100,
            label_smoothing=self.optim.label_smoothing,
            reduction="none",
        )
        tokens = (labels != -100).view(micro_batches, -1).sum(1)
        return (losses.view(micro_batches, -1).sum(1) / tokens).mean()

    # ---- training ---------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Train the faster way that the device has: see `medsql.model.cpu` and `medsql.model.graphs`."""
        if self.device.type == "cpu":
            cpu.prepare(self.model)
        elif self.device.type == "cuda" and self.cuda_graphs:
            self.training_loss = GraphedLoss(self.loss, self.model)

    def on_train_end(self) -> None:
        """Give back the memory that graphs hold; `cuda_graphs_used` says what there was."""
        if isinstance(self.training_loss, GraphedLoss):
            self.cuda_graphs_used = self.training_loss.record()
            self.training_loss = self.loss

    def on_train_batch_start(self, batch: Sequence[Mapping[str, Tensor]], batch_idx: int) -> None:
        """Make dropout a function of (seed, step), whatever ran before."""
        entropy = np.random.SeedSequence([self.seed, batch_idx])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Sequence[Mapping[str, Tensor]], batch_idx: int) -> Tensor:
        """The step's loss, the mean over its micro-batches, with gradients accumulated batch by batch.

        Lightning goes backward through the last batch. Raises `TrainingError` where the loss is not finite,
        before it can reach a weight.
        """
        total = torch.zeros((), device=self.device)
        for part in batch:
            micro_batches = len(part["labels"]) // self.optim.batch_size
            loss = self.training_loss(part, micro_batches) * (micro_batches / self.optim.accumulate)
            total += loss.detach()
            if part is not batch[-1]:
                loss.backward()
        self.passes += len(batch)
        value = total.item()
        _check_finite(value, f"the loss became {value} at step {self.global_step + 1}")
        self._loss_sum += value
        self._loss_count += 1
        self.log("train/loss", value, prog_bar=True, logger=False)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to `optim.max_grad_norm` here, since clipping computes the norm that is logged."""
        limit = float("inf") if self.optim.max_grad_norm is None else self.optim.max_grad_norm
        self._grad_norm = nn.utils.clip_grad_norm_([p for p in self.parameters() if p.requires_grad], limit)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Take one optimisation step; every few of them, log the mean loss since the last time.

        Here and not when the batch ends: callbacks come first there, and one may end the run.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad(set_to_none=not isinstance(self.training_loss, GraphedLoss))
        step = self.global_step + 1  # counted by the trainer once this returns
        if step % LOG_EVERY_STEPS:
            return
        assert self._grad_norm is not None
        metrics = {
            "train/loss": self._loss_sum / self._loss_count,
            "train/grad_norm": self._grad_norm.item(),
            # Of the first group: with `scale_by_size`, the only case where they differ, the embeddings'.
            "train/lr": optimizer.param_groups[0]["lr"],
        }
        self._log_metrics(metrics, step)
        self._loss_sum, self._loss_count = 0.0, 0

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Nothing: Lightning would do it behind `training_step`, which has begun to accumulate by then."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, and its schedule over `total_steps`."""
        optimizer = build_optimizer(self.model, self.optim)
        scheduler = get_scheduler(
            {"constant": "constant_with_warmup"}.get(self.optim.schedule, self.optim.schedule),
            optimizer,
            num_warmup_steps=math.ceil(self.total_steps * self.optim.warmup_ratio),  # as the HF Trainer does
            num_training_steps=self.total_steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- validation -------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation's predictions."""
        self._predictions = {}

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loader 0: the loss, batches weighted by their rows as the HF Trainer does. Loader 1: SQL."""
        if dataloader_idx == 0:
            # One value a row: with its NaN checks off, torchmetrics 1.9 takes no notice of weights.
            self.validation_loss.update(self.loss(batch).expand(len(batch["labels"])))
            return
        rows = batch["index"].tolist()
        questions = [self.validation_pairs[row].question for row in rows]
        predictions = generate_sql(self.model, batch, self.decoder, questions)
        for row, prediction in zip(rows, predictions, strict=True):
            sql = prediction.sql
            for name, value in row_scores(sql, self.validation_pairs[row].sql, self._execution).items():
                self.scores[name].update(math.nan if value is None else float(value))
            self._predictions[row] = sql

    def on_validation_epoch_end(self) -> None:
        """Log `val/…`, to the loggers too, before any checkpoint is saved: a run killed in between
        goes on behind this validation, and its row must not be missing then."""
        loss = self.validation_loss.compute()
        _check_finite(float(loss), f"the validation loss became {loss} after step {self.global_step}")
        metrics = {"val/loss": loss}
        if self._predictions:
            computed = {f"val/{name}": metric.compute() for name, metric in self.scores.items()}
            metrics |= {name: value for name, value in computed.items() if not value.isnan()}
        for metric in (self.validation_loss, *self.scores.values()):
            metric.reset()
        self.log_dict(metrics, logger=False)
        self._log_metrics({name: float(value) for name, value in metrics.items()}, self.global_step)
        for row in sorted(self._predictions)[: self.show]:  # the same rows each time
            log_prediction(self.validation_pairs[row], self._predictions[row])

    def _log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Send to the loggers directly: Lightning's own step lags by one, and its training metrics
        repeat for every micro-batch of a step."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=step)
            logger.save()

    # ---- checkpoints ------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep trainable weights only: the frozen ones are a checkpoint of their own already."""
        state, trained = checkpoint["state_dict"], self._trainable_names()
        checkpoint["state_dict"] = {name: state[name] for name in trained}
        checkpoint["training_loss"] = (self._loss_sum, self._loss_count)
        checkpoint["passes"] = self.passes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, which `strict_loading = False` would let pass."""
        self.check_weights(checkpoint["state_dict"])
        self._loss_sum, self._loss_count = checkpoint["training_loss"]
        self.passes = checkpoint["passes"]

    def check_weights(self, state: Mapping[str, Tensor]) -> None:
        """Raises `TrainingError` unless `state` holds just the trainable weights of this model."""
        shapes = {name: p.shape for name, p in self.named_parameters() if p.requires_grad}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise TrainingError(
                f"the checkpoint's weights ({len(state)} tensors) are not those that this model trains "
                f"({len(shapes)}): it belongs to another model or lora configuration"
            )

    def _trainable_names(self) -> list[str]:
        return [name for name, parameter in self.named_parameters() if parameter.requires_grad]


def _check_finite(loss: float, what: str) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{what}: lower optim.lr or optim.max_grad_norm, or set model.dtype=float32 and "
            "trainer.precision=float32"
        )
