"""The order of training rows: one stream for the whole run, so that a position in it is one integer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from medsql.config import SettingsError

WINDOW = 100
"""Batches among which rows are sorted by length: twice those of the HF Trainer's `group_by_length`."""


def epoch_permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `range(rows)`, int64 of shape (rows,): a pure function of its arguments.

    NumPy's SeedSequence mixes the pair, so (seed 1, epoch 0) and (seed 0, epoch 1) are unrelated,
    which a sum of the two would not give.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


@dataclass(frozen=True)
class Mixture:
    """The last `rows` training rows are another source's.

    They are shown `epochs` times before all others, and in every epoch of the others `weight` times: with
    0.5, half of them, and the other half in the next one. Raises `SettingsError` for so small a weight that
    it is none.
    """

    rows: int = 0
    epochs: float = 0
    weight: float = 0

    def __post_init__(self) -> None:
        if self.rows and self.weight and not self.in_epoch:
            raise SettingsError(f"data.hospital_weight={self.weight}: not one of {self.rows} rows an epoch")

    @property
    def in_epoch(self) -> int:
        """How many of the rows an epoch of the others has."""
        return round(self.weight * self.rows)


NOTHING_MIXED = Mixture()


class TrainingOrder(Sampler[list[int]]):
    """Batches of row numbers cut from the run's stream, which is its epochs' permutations end to end.

    Batches are cut across the borders of epochs, so every batch is full, every epoch shows each row
    once, and batch number `b` holds positions `b * batch_size` and on of the stream. Since that
    depends on nothing but the arguments, a resumed run says `start` and needs no saved loader state.

    With `lengths`, the stream is cut into windows of `WINDOW` batches, and a window's rows are sorted by
    them before it is cut into batches, which are shuffled: rows of a batch then need little padding, at
    the price of batches that are alike within. Windows, too, run across the borders of epochs.

    Args:
        rows: rows that the stream goes through once an epoch.
        batch_size: rows in a batch.
        batches: batches in the whole run, those before `start` included.
        seed: of the permutations.
        start: the first batch to yield.
        lengths: what rows are sorted by, shape (all rows, 2), the second where the first is the same;
            None leaves the stream as it is.
        first: the number of the first of `rows`.
        others: rows that follow them, of which an epoch shows `in_epoch` too, each in its turn.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        batches: int,
        seed: int,
        start: int = 0,
        lengths: ArrayLike | None = None,
        first: int = 0,
        others: int = 0,
        in_epoch: int = 0,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows={rows}: an order needs at least one row")
        self.rows = rows
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.start = start
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.first = first
        self.others = others
        self.in_epoch = in_epoch

    def __len__(self) -> int:
        """All batches of the run, also when starting late: on resuming, Lightning restores how many
        batches it has seen and compares that count with this length, so a remainder would end
        the run early."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.start - self.start % WINDOW, self.batches, WINDOW):
            yield from self._window(first)[max(self.start - first, 0) :]

    def _window(self, first: int) -> list[list[int]]:
        """The batches from number `first` on, `WINDOW` of them or what the run has left."""
        count = min(WINDOW, self.batches - first)
        rows = self._stream(first * self.batch_size, count * self.batch_size)
        if self.lengths is None:
            return rows.reshape(count, self.batch_size).tolist()
        rows = rows[np.lexsort(self.lengths[rows].T[::-1])]
        batches = rows.reshape(count, self.batch_size)
        return np.random.default_rng([self.seed, first, WINDOW]).permutation(batches).tolist()

    def _stream(self, position: int, count: int) -> np.ndarray:
        """`count` rows of the endless stream, from `position` on."""
        epoch, offset = divmod(position, self.rows + self.in_epoch)
        parts = []
        while count > 0:
            parts.append(self._epoch(epoch)[offset : offset + count])
            count -= len(parts[-1])
            epoch, offset = epoch + 1, 0
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> np.ndarray:
        """The rows of an epoch; the others' turn goes on where that of the epoch before ended."""
        rows = np.arange(self.first, self.first + self.rows)
        if self.in_epoch:
            turn = list(islice(self._turns(epoch * self.in_epoch), self.in_epoch))
            rows = np.concatenate([rows, self.first + self.rows + np.array(turn)])
        return rows[epoch_permutation(len(rows), self.seed, epoch)]

    def _turns(self, position: int) -> Iterator[int]:
        """The others' permutations end to end, from `position` on."""
        turn, offset = divmod(position, self.others)
        while True:
            yield from epoch_permutation(self.others, self.seed, turn)[offset:].tolist()
            turn, offset = turn + 1, 0


class StagedOrder(Sampler[list[int]]):
    """The batches of several orders, one after the other; resuming, each has its own `start`."""

    def __init__(self, stages: Sequence[TrainingOrder]) -> None:
        self.stages = stages

    def __len__(self) -> int:
        return sum(map(len, self.stages))

    def __iter__(self) -> Iterator[list[int]]:
        return chain.from_iterable(self.stages)


class Steps(Sampler[list[int]]):
    """The rows of each optimisation step: `accumulate` batches of `order`, end to end."""

    def __init__(self, order: StagedOrder, accumulate: int) -> None:
        self.order = order
        self.accumulate = accumulate

    def __len__(self) -> int:
        return len(self.order) // self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        batches = iter(self.order)
        while step := list(chain.from_iterable(islice(batches, self.accumulate))):
            yield step
