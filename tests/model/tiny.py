"""A T5 of a few thousand weights, rows it can be trained on, and a run of it that takes a second."""

from __future__ import annotations

import io
import logging
import string
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, T5Tokenizer

from medsql.config import (
    CheckpointSettings,
    DecodeSettings,
    LoraSettings,
    OptimSettings,
    TrainerSettings,
    ValidationSettings,
)
from medsql.data.pairs import Pair
from medsql.files import write_json
from medsql.model.checkpoints import Checkpoints
from medsql.model.decoder import Decoder
from medsql.model.lora import add_lora, save_model
from medsql.model.module import FineTuner
from medsql.model.training import build_trainer, fit

torch.set_num_threads(1)
warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

LORA = LoraSettings(targets=["q", "v"], r=2, alpha=4, dropout=0.1)
FULL = LoraSettings(targets=None, r=2, alpha=4, dropout=0.0)
T5_LACKS = "<{}~\\^`"
PAIRS = [Pair(f"how big is ward {i}?", f'SELECT SIZE FROM WARD WHERE NR < "{i}"') for i in range(9)]


def optim(**changes: Any) -> OptimSettings:
    settings: dict[str, Any] = {
        "name": "adamw",
        "lr": 1e-2,
        "weight_decay": 0.01,
        "schedule": "linear",
        "warmup_ratio": 0.1,
        "max_grad_norm": 0.5,
        "label_smoothing": 0.05,
        "epochs": 1,
        "batch_size": 2,
        "accumulate": 2,
    }
    return OptimSettings(**(settings | changes))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One piece a byte."""
    pieces = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))  # T5's kind
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def t5_tokenizer(folder: Path, lacks: str = T5_LACKS) -> T5Tokenizer:
    """A SentencePiece unigram vocabulary with T5's normalisation and, unless told otherwise, its gaps."""
    ascii_text = "".join(sorted({*string.printable.strip()} - {*lacks}))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(['SELECT A FROM B WHERE C = "d"', ascii_text] * 3),
        model_writer=model,
        vocab_size=200,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    return T5Tokenizer.from_pretrained(folder)


def tiny_t5(**changes: Any) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "d_model": 16,
        "d_kv": 8,
        "num_heads": 2,
        "d_ff": 32,
        "num_layers": 1,
        "dropout_rate": 0.1,
    }
    shape |= {"vocab_size": 260, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(**(shape | changes)))


def finished_run(parent: Path, settings: Callable[..., Any], name: str = "run") -> Path:
    """A finished run in `outputs/`: its adapter changes what is written, and its rows are gone; its folder.

    `settings` is the fixture; the base lies in `base/`.
    """
    base, folder = parent / "base", parent / "outputs" / name
    tiny_t5().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    model = add_lora(tiny_t5(), LORA)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=3)
    save_model(model, tiny_tokenizer(), folder / "adapter")
    rows = ["data=jsonl", f"data.path={parent / 'gone.jsonl'}", "data.prompt=schema"]
    trained = settings("train", f"model.checkpoint={base}", *rows)
    record = {"kind": "train", "state": "finished", "started": "2026-01-01", "settings": asdict(trained)}
    record |= {"model": {"checkpoint": str(base)}, "saved": "adapter", "tokenized": {"longest_target": 4}}
    write_json(folder / "run.json", record)
    return folder


class TinyData(pl.LightningDataModule):
    """As many steps as asked for over nine rows, starting where the trainer stands.

    `whole_steps` are computed at once, others micro-batch by micro-batch.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, optim: OptimSettings, steps: int, whole_steps: bool
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.optim = optim
        self.total_steps = steps
        self.whole_steps = whole_steps

    def train_dataloader(self) -> DataLoader[Any]:
        size = self.optim.batch_size * self.optim.accumulate
        steps = [[(i * size + j) * 5 % 9 for j in range(size)] for i in range(self.total_steps)]
        start = self.trainer.global_step if self.trainer else 0
        return self._loader(_Rest(steps, start), self._collate_step)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return [self._loader([[0, 1, 2, 3], [4, 5, 6, 7], [8]]), self._loader([[3, 2], [1]])]

    def _loader(self, batches: Any, collate: Any = None) -> DataLoader[Any]:
        collate = collate or self._collate
        return DataLoader(range(9), batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]

    def _collate_step(self, rows: list[int]) -> list[dict[str, torch.Tensor]]:
        size = len(rows) if self.whole_steps else self.optim.batch_size
        return [self._collate(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _collate(self, rows: list[int]) -> dict[str, torch.Tensor]:
        inputs = self.tokenizer([PAIRS[i].question for i in rows], padding=True, return_tensors="pt")
        labels = self.tokenizer([PAIRS[i].sql for i in rows], padding=True, return_tensors="pt")["input_ids"]
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "labels": labels.masked_fill(labels == 0, -100),
            "index": torch.tensor(rows),
        }


class _Rest:
    """The batches from `start` on, with the length of all of them."""

    def __init__(self, batches: list[list[int]], start: int) -> None:
        self.batches = batches
        self.start = start

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches[self.start :])


class TinyRun:
    """One run in a folder; making a second one of the same folder is what a restarted process does."""

    def __init__(
        self,
        folder: Path,
        *callbacks: pl.Callback,
        steps: int = 7,
        every_steps: int = 3,
        keep: int = 2,
        monitor: str = "val/loss",
        lora: LoraSettings = LORA,
        loggers: Any = (),
        accelerator: str = "cpu",
        cuda_graphs: bool = True,
        whole_steps: bool = False,
        t5: dict[str, Any] | None = None,
        **optimisation: Any,
    ) -> None:
        settings = optim(**optimisation)
        tokenizer = tiny_tokenizer()
        decode = DecodeSettings(num_beams=1, batch_size=2)
        self.data = TinyData(tokenizer, settings, steps, whole_steps)
        self.module = FineTuner(
            add_lora(tiny_t5(**(t5 or {})), lora),
            settings,
            Decoder(tokenizer, decode, max_new_tokens=4),
            validation_pairs=PAIRS,
            total_steps=steps,
            seed=1,
            cuda_graphs=cuda_graphs,
        )
        self.checkpoints = Checkpoints(folder, CheckpointSettings(monitor, keep))
        self.trainer = build_trainer(
            TrainerSettings(accelerator, precision="float32"),
            settings,
            ValidationSettings(every_steps, batch_size=4, generate_rows=3),
            self.checkpoints,
            loggers,
            callbacks,
        )

    def fit(self) -> TinyRun:
        fit(self.trainer, self.module, self.data, self.checkpoints)
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.module.named_parameters() if p.requires_grad}
