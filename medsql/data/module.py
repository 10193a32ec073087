"""The data module: what a training step, a validation and a test are fed, in which order."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from medsql.config import OptimSettings, ValidationSettings
from medsql.data.order import NOTHING_MIXED, Mixture, StagedOrder, Steps, TrainingOrder
from medsql.data.tokenized import TokenizedSplits
from medsql.wording import counted

if TYPE_CHECKING:  # takes a second to import, and is only named here
    import datasets

log = logging.getLogger(__name__)

FEW_STEPS = 10
"""Fewer optimisation steps than these hardly change a model."""

IGNORED = -100
"""The label that PyTorch's cross-entropy leaves out."""


def collate(rows: list[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """One batch of `rows`, each with `input_ids`, `labels` and `index`.

    Returns:
        `input_ids` and `attention_mask` (batch, longest input), padded with `pad_id` and 0;
        `labels` (batch, longest target), padded with -100 and nothing else replaced, so that a
        target that holds the pad token keeps it; `index` (batch,), the rows' numbers in their
        split. All int64.
    """
    inputs = [torch.tensor(row["input_ids"], dtype=torch.long) for row in rows]
    labels = [torch.tensor(row["labels"], dtype=torch.long) for row in rows]
    return {
        "input_ids": pad_sequence(inputs, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(ids) for ids in inputs], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        "index": torch.tensor([row["index"] for row in rows], dtype=torch.long),
    }


def collate_step(
    rows: list[dict[str, Any]], pad_id: int, batch_size: int, at_once: int
) -> list[dict[str, Tensor]]:
    """The batches that one optimisation step is computed in, each as `collate` makes it.

    Micro-batches of `batch_size` rows that follow one another share a batch as long as it has `at_once`
    tokens at most, those of input and target counted, and padding: their gradients are then computed
    in one go instead of being accumulated.
    """
    parts: list[list[dict[str, Any]]] = []
    for first in range(0, len(rows), batch_size):
        micro_batch = rows[first : first + batch_size]
        if parts and _padded_tokens(parts[-1] + micro_batch) <= at_once:
            parts[-1] += micro_batch
        else:
            parts.append(micro_batch)
    return [collate(part, pad_id) for part in parts]


def _padded_tokens(rows: list[dict[str, Any]]) -> int:
    return len(rows) * sum(max(len(row[name]) for row in rows) for name in ("input_ids", "labels"))


class PairsModule(LightningDataModule):
    """Serves tokenised splits to Lightning; the whole run is one Lightning epoch of `total_steps`.

    A batch of training is a whole optimisation step, as `collate_step` makes it.

    Args:
        data: the tokenised splits.
        pad_id: what inputs are padded with, the tokenizer's `pad_token_id`.
        optim: `batch_size`, `accumulate`, `epochs` and `max_steps` are read here.
        validation: `batch_size` and `generate_rows` are read here.
        decode_batch_size: rows for which SQL is generated at once.
        seed: of the training order.
        mixture: which of the training rows are another source's, and when they are shown.
        at_once: tokens of a step that are computed at once; with 0, one micro-batch whatever it has.
    """

    def __init__(
        self,
        data: TokenizedSplits,
        pad_id: int,
        optim: OptimSettings,
        validation: ValidationSettings,
        decode_batch_size: int,
        seed: int,
        mixture: Mixture = NOTHING_MIXED,
        at_once: int = 0,
    ) -> None:
        super().__init__()
        self.data = data
        self.pad_id = pad_id
        self.optim = optim
        self.validation = validation
        self.decode_batch_size = decode_batch_size
        self.seed = seed
        self.mixture = mixture
        self.at_once = at_once
        if self.total_steps < FEW_STEPS and self.total_steps != optim.max_steps:  # which was asked for
            log.warning(
                "this run takes only %s, with %s: more with a higher optim.epochs=%d or a lower "
                "optim.batch_size=%d or optim.accumulate=%d",
                counted(self.total_steps, "step"),
                counted(len(data.train), "training row"),
                optim.epochs,
                optim.batch_size,
                optim.accumulate,
            )

    @property
    def total_steps(self) -> int:
        """Optimisation steps of the whole run: the first that reach `epochs`, or `max_steps` if fewer."""
        rows = self.optim.epochs * (self._own_rows + self.mixture.in_epoch)
        return self._most(self._steps(self.mixture.epochs * self.mixture.rows) + self._steps(rows))

    @property
    def first_steps(self) -> int:
        """How many of them, the first ones, see the mixture's rows alone."""
        return self._most(self._steps(self.mixture.epochs * self.mixture.rows))

    @property
    def _own_rows(self) -> int:
        return len(self.data.train) - self.mixture.rows

    def _steps(self, rows: float) -> int:
        return math.ceil(rows / (self.optim.batch_size * self.optim.accumulate))

    def _most(self, steps: int) -> int:
        return steps if self.optim.max_steps is None else min(steps, self.optim.max_steps)

    @property
    def total_batches(self) -> int:
        """Micro-batches of the whole run; every step gets `accumulate` full ones, the last step too."""
        return self.total_steps * self.optim.accumulate

    def train_dataloader(self) -> DataLoader:
        """The rest of the run from the trainer's step on; a fresh run starts at step 0."""
        start = (self.trainer.global_step if self.trainer else 0) * self.optim.accumulate
        order = partial(
            TrainingOrder,
            batch_size=self.optim.batch_size,
            seed=self.seed,
            lengths=_lengths(self.data.train) if self.optim.group_by_length else None,
        )
        before, own, mixture = self.first_steps * self.optim.accumulate, self._own_rows, self.mixture
        stages = [
            order(
                rows=own,
                others=mixture.rows,
                in_epoch=mixture.in_epoch,
                batches=self.total_batches - before,
                start=max(start - before, 0),
            )
        ]
        if before:
            stages.insert(0, order(rows=mixture.rows, first=own, batches=before, start=start))
        steps = Steps(StagedOrder(stages), self.optim.accumulate)
        collate_fn = partial(
            collate_step, pad_id=self.pad_id, batch_size=self.optim.batch_size, at_once=self.at_once
        )
        return _loader(self.data.train, steps, collate_fn)

    def val_dataloader(self) -> list[DataLoader]:
        """[0] all validation rows, for the loss; [1] the first `generate_rows`, for generation, if any."""
        rows = self.data.validation
        batches = _batches(range(len(rows)), self.validation.batch_size)
        loss = _loader(rows, batches, partial(collate, pad_id=self.pad_id))
        wanted = self.validation.generate_rows
        first = len(rows) if wanted is None else min(wanted, len(rows))
        return [loss, self._generation_loader(rows, first)] if first else [loss]

    def test_dataloader(self) -> DataLoader:
        """All test rows, for generation."""
        return self._generation_loader(self.data.test, len(self.data.test))

    def _generation_loader(self, rows: datasets.Dataset, first: int) -> DataLoader:
        return generation_loader(rows, first, self.decode_batch_size, self.pad_id)


def generation_loader(rows: datasets.Dataset, first: int, batch_size: int, pad_id: int) -> DataLoader:
    """The `first` rows, longest input first: little padding, and what exceeds memory does so at once.

    Batches are those of `collate`; their `index` says which rows they hold.
    """
    lengths = pc.list_value_length(rows.data["input_ids"]).to_numpy()[:first]
    order = np.argsort(-lengths, kind="stable").tolist()
    return _loader(rows, _batches(order, batch_size), partial(collate, pad_id=pad_id))


def _lengths(rows: datasets.Dataset) -> np.ndarray:
    """Each row's input, in steps of 32 tokens, and target: sorted by these, neither needs much padding."""
    inputs, targets = (pc.list_value_length(rows.data[name]).to_numpy() for name in ("input_ids", "labels"))
    return np.stack([inputs // 32, targets], axis=1)


def _batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _loader(
    rows: datasets.Dataset, batches: Steps | list[Sequence[int]], collate_fn: Callable[..., Any]
) -> DataLoader:
    # No worker processes: rows are memory-mapped, and collating costs less than handing over.
    sampler: Any = batches  # a range of numbers is as good as a list
    return DataLoader(_NumberedRows(rows), batch_sampler=sampler, collate_fn=collate_fn)


class _NumberedRows(Dataset[dict[str, Any]]):
    """A split whose rows carry their number as `index`."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "index": index}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch in one read, which the DataLoader prefers where it exists."""
        columns = self.rows[indices]
        return [
            {"input_ids": ids, "labels": labels, "index": index}
            for ids, labels, index in zip(columns["input_ids"], columns["labels"], indices, strict=True)
        ]
