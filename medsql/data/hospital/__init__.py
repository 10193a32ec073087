"""The synthetic hospital: invented patients in MIMICSQL's five tables, and questions about them."""

from __future__ import annotations

import random

from medsql.data.hospital.cohort import generate_tables
from medsql.data.hospital.questions import generate_pairs
from medsql.data.pairs import Pair


def synthetic_splits(admissions: int, pairs: int, seed: int) -> dict[str, list[Pair]]:
    """Train, validation and test (80, 10 and 10 %) over one cohort; no two splits share a query.

    A function of its arguments alone: the same on every machine. Raises `SettingsError` where the
    cohort is too small for so many different queries.
    """
    drawn = generate_pairs(generate_tables(admissions, seed), pairs, seed)
    # As rare kinds of query run out, what is drawn late differs from what is drawn early.
    random.Random(seed).shuffle(drawn)
    held_out = pairs // 10
    train = pairs - 2 * held_out
    return {"train": drawn[:train], "validation": drawn[train:-held_out], "test": drawn[-held_out:]}
