"""What a base model is pretrained on: invented databases, one for each pair, and questions asked of them."""

import random
from collections.abc import Iterator, Sequence

from medsql.data.corpus.databases import Domain, read_domains
from medsql.data.corpus.examples import make_pair
from medsql.data.pairs import Pair

HELD_OUT_DOMAINS = 4
"""The last of the list: their tables, and most of their columns, occur in validation and test rows only."""

HELD_OUT_ROWS = 500
"""Validation rows, and test rows."""


def corpus_splits(pairs: int, seed: int) -> dict[str, list[Pair]]:
    """As `corpus_rows`, all pairs at once."""
    return {name: list(rows) for name, rows in corpus_rows(pairs, seed).items()}


def corpus_rows(pairs: int, seed: int) -> dict[str, Iterator[Pair]]:
    """`pairs` training pairs, and validation and test pairs of domains that training never sees.

    A longer corpus of the same seed begins with the shorter one. Each pair is made when it is asked for.
    """
    known, unseen = read_domains()[:-HELD_OUT_DOMAINS], read_domains()[-HELD_OUT_DOMAINS:]
    wanted = {
        "train": (known, pairs),
        "validation": (unseen, HELD_OUT_ROWS),
        "test": (unseen, HELD_OUT_ROWS),
    }
    return {name: _made(f"{seed} {name}", *what) for name, what in wanted.items()}


def _made(seed: str, domains: Sequence[Domain], count: int) -> Iterator[Pair]:
    rng = random.Random(seed)
    return (make_pair(rng, domains) for _ in range(count))
