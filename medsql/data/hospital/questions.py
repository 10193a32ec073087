"""Question–SQL pairs over a cohort, every query in them a different one."""

from __future__ import annotations

import logging
import random

from medsql.config import SettingsError
from medsql.data.hospital.cohort import Tables
from medsql.data.hospital.queries import QuerySource
from medsql.data.hospital.wording import Wording
from medsql.data.pairs import Pair

logger = logging.getLogger(__name__)

PATIENCE = 500
"""Draws in a row that bring nothing new before the cohort counts as exhausted."""


def generate_pairs(tables: Tables, count: int, seed: int) -> list[Pair]:
    """`count` pairs, no question and no query twice.

    Raises `SettingsError` where the cohort is too small for so many different queries.
    """
    rng = random.Random(seed)
    source, wording = QuerySource(tables), Wording()
    pairs: dict[str, Pair] = {}
    questions: set[str] = set()
    misses = 0
    while len(pairs) < count:
        query = source.draw(rng)
        question = wording.question(rng, query) if query and query.sql not in pairs else None
        if query is None or question is None or question in questions:
            misses += 1
            if misses >= PATIENCE:
                stays = len(tables["DEMOGRAPHIC"])
                raise SettingsError(
                    f"data.pairs={count}: {stays} admissions give only about {len(pairs)} different queries; "
                    "ask for fewer pairs or raise data.admissions"
                )
            continue
        misses = 0
        questions.add(question)
        pairs[query.sql] = Pair(question, query.sql)
    return list(pairs.values())
