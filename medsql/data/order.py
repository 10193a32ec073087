"""The order of training rows: one stream for the whole run, so that a position in it is one integer."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def epoch_permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `range(rows)`, int64 of shape (rows,): a pure function of its arguments.

    NumPy's SeedSequence mixes the pair, so (seed 1, epoch 0) and (seed 0, epoch 1) are unrelated,
    which a sum of the two would not give.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


class TrainingOrder(Sampler[list[int]]):
    """Batches of row numbers cut from the run's stream, which is its epochs' permutations end to end.

    Batches are cut across the borders of epochs, so every batch is full, every epoch shows each row
    once, and batch number `b` holds positions `b * batch_size` and on of the stream. Since that
    depends on nothing but the arguments, a resumed run says `start` and needs no saved loader state.

    Args:
        rows: rows in the training data; the stream goes through `range(rows)` once an epoch.
        batch_size: rows in a batch.
        batches: batches in the whole run, those before `start` included.
        seed: of the permutations.
        start: the first batch to yield.
    """

    def __init__(self, rows: int, batch_size: int, batches: int, seed: int, start: int = 0) -> None:
        if rows < 1:
            raise ValueError(f"rows={rows}: an order needs at least one row")
        self.rows = rows
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.start = start

    def __len__(self) -> int:
        """All batches of the run, also when starting late: on resuming, Lightning restores how many
        batches it has seen and compares that count with this length, so a remainder would end
        the run early."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        stream = self._stream(self.start * self.batch_size)
        for _ in range(self.start, self.batches):
            yield [next(stream) for _ in range(self.batch_size)]

    def _stream(self, position: int) -> Iterator[int]:
        """The endless stream from `position` on."""
        epoch, offset = divmod(position, self.rows)
        while True:
            yield from epoch_permutation(self.rows, self.seed, epoch)[offset:].tolist()
            epoch, offset = epoch + 1, 0
