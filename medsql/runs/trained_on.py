"""Which queries a run was trained on, so that a score says how many of its rows the model had met before."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medsql.data.pairs import Pair
from medsql.data.splits import text_digests
from medsql.errors import UserError
from medsql.files import write_bytes
from medsql.runs.labels import short

log = logging.getLogger(__name__)

TRAINED_ON = "trained_on.bin"
"""In a run's folder: the digests of its training rows' queries, each once; 16 bytes a query."""


def write_trained_on(folder: Path, pairs: Iterable[Pair]) -> None:
    """Keep the queries of all rows that a run trains on, those of other sources included."""
    write_bytes(folder / TRAINED_ON, np.unique(_queries(pairs)).tobytes())


def trained_on(folder: Path, pairs: Sequence[Pair]) -> list[bool] | None:
    """Of each row, whether the run in `folder` was trained on its query, letter by letter.

    None, which is logged, where the run did not keep them. Raises `UserError` for a file that cannot be read
    or is not whole.
    """
    path = folder / TRAINED_ON
    if not path.exists():
        log.warning("%s has no %s: which rows it was trained on is not known", short(folder), TRAINED_ON)
        return None
    try:
        known = np.frombuffer(path.read_bytes(), "V16")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())})") from error
    return [bool(found) for found in np.isin(_queries(pairs), known)]


def _queries(pairs: Iterable[Pair]) -> np.ndarray:
    return text_digests(pair.sql for pair in pairs)
