"""Pairs in Arrow, on disk: however many rows a source has, few of them are Python objects at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import overload

import numpy as np
import pyarrow as pa

from medsql.data.pairs import Pair

BATCH = 10_000
"""Rows of a record batch: so many are Python objects at once while a source is read."""

BLOCK = 1_000
"""Rows that are Python objects at once while stored pairs are gone through."""

SCHEMA = pa.schema({"question": pa.large_string(), "sql": pa.large_string()})


class StoredPairs(Sequence[Pair]):
    """Rows of record batches, in any order: a part of them is other row numbers over the same batches.

    `rows` are numbers from 0 on through all batches, int64; by default all of them, in their order.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], rows: np.ndarray | None = None) -> None:
        self._batches = batches
        self._starts = np.cumsum([0, *map(len, batches)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Pair: ...

    @overload
    def __getitem__(self, place: slice) -> StoredPairs: ...

    def __getitem__(self, place: int | slice) -> Pair | StoredPairs:
        if isinstance(place, slice):
            return StoredPairs(self._batches, self._rows[place])
        return self._read(self._rows[[place]])[0]

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), BLOCK):
            yield from self._read(self._rows[start : start + BLOCK])

    def __add__(self, other: StoredPairs) -> StoredPairs:
        rows = np.concatenate([self._rows, self._starts[-1] + other._rows])
        return StoredPairs([*self._batches, *other._batches], rows)

    def __eq__(self, other: object) -> bool:
        """Whether they are the pairs of another sequence, of whatever kind."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other))

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def select(self, places: np.ndarray) -> StoredPairs:
        """The pairs at `places`, numbers from 0 on, in that order."""
        return StoredPairs(self._batches, self._rows[places])

    def _read(self, rows: np.ndarray) -> list[Pair]:
        """Batch by batch: Arrow's `take` of several would join them all, however few rows it takes."""
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order], self._starts)
        pairs: dict[int, Pair] = {}
        for number in np.flatnonzero(np.diff(ends)).tolist():
            places = order[ends[number] : ends[number + 1]]
            found = self._batches[number].take(pa.array(rows[places] - self._starts[number]))
            texts = (found[name].to_pylist() for name in SCHEMA.names)
            pairs.update(zip(places.tolist(), map(Pair, *texts), strict=True))
        return [pairs[place] for place in range(len(rows))]


def in_memory(pairs: Iterable[Pair]) -> StoredPairs:
    """`pairs` in Arrow, where no file can be had."""
    return StoredPairs(list(_batches(pairs)))


def on_disk(pairs: Iterable[Pair], folder: Path) -> StoredPairs:
    """`pairs` in a memory-mapped file in `folder`, which has no name and is gone with the process.

    Raises `OSError` where the folder cannot be made, or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        with pa.ipc.new_stream(file, SCHEMA) as writer:
            for batch in _batches(pairs):
                writer.write_batch(batch)
        file.flush()
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    return StoredPairs(list(pa.ipc.open_stream(pa.py_buffer(mapped))))


def _batches(pairs: Iterable[Pair]) -> Iterator[pa.RecordBatch]:
    rows = iter(pairs)
    while batch := list(islice(rows, BATCH)):
        columns = [[getattr(pair, name) for pair in batch] for name in SCHEMA.names]
        yield pa.record_batch(columns, schema=SCHEMA)
