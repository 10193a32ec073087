"""What both sides of a comparison work on: the same settings, rows, tokenizer and model."""

from __future__ import annotations

import copy
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medsql.composition import to_settings
from medsql.config import CONF, TrainSettings
from medsql.data.module import PairsModule
from medsql.data.splits import Splits, load_splits
from medsql.data.tokenized import TokenizedSplits, tokenize_splits
from medsql.loggers import CsvLogger
from medsql.model.backbone import load_backbone
from medsql.model.checkpoints import Checkpoints
from medsql.model.decoder import Decoder
from medsql.model.lora import add_lora
from medsql.model.module import FineTuner
from medsql.model.training import build_trainer, fit


@dataclass(frozen=True)
class Materials:
    """A composed configuration and what it loads."""

    settings: TrainSettings
    splits: Splits
    tokenized: TokenizedSplits
    tokenizer: PreTrainedTokenizerBase
    base: PreTrainedModel

    def model(self) -> PreTrainedModel | PeftModel:
        """The base model as a training finds it: fresh adapters in a copy, the same each time."""
        torch.manual_seed(self.settings.seed)
        return add_lora(copy.deepcopy(self.base), self.settings.lora)

    def data(self) -> PairsModule:
        """The data module of a training."""
        return PairsModule(
            self.tokenized,
            self.tokenizer.pad_token_id,
            self.settings.optim,
            self.settings.validation,
            self.settings.decode.batch_size,
            self.settings.seed,
            at_once=self.settings.trainer.tokens_at_once,
        )


def load(*overrides: str, trainer: str = "cpu") -> Materials:
    """What `python -m medsql.train OVERRIDES` would load, without generating in validation."""
    quiet = (f"trainer={trainer}", "validation.generate_rows=0", "objective=val/loss")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = to_settings(compose("train", [*quiet, *overrides]), TrainSettings)
    splits = load_splits(settings.data)
    backbone = load_backbone(settings.model)
    tokenized = tokenize_splits(splits, backbone.tokenizer, settings.data)
    return Materials(settings, splits, tokenized, backbone.tokenizer, backbone.model)


def train(
    materials: Materials, model: PreTrainedModel | PeftModel, folder: Path, *callbacks: pl.Callback
) -> None:
    """Train `model` as `medsql.train` does, metrics and checkpoints in `folder` included."""
    settings, data = materials.settings, materials.data()
    module = FineTuner(
        model,
        settings.optim,
        Decoder(materials.tokenizer, settings.decode, max_new_tokens=1),  # never used: nothing is generated
        validation_pairs=materials.splits.validation,
        total_steps=data.total_steps,
        seed=settings.seed,
        cuda_graphs=settings.trainer.cuda_graphs,
    )
    checkpoints = Checkpoints(folder / "checkpoints", settings.checkpoint)
    loggers = [CsvLogger(folder / "metrics.csv")]
    with redirect_stderr(StringIO()):  # no terminal, no progress bar
        trainer = build_trainer(
            settings.trainer, settings.optim, settings.validation, checkpoints, loggers, callbacks
        )
        fit(trainer, module, data, checkpoints)
