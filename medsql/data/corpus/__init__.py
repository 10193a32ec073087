"""What a base model is pretrained on: invented databases, one for each pair, and questions asked of them."""

import random

from medsql.data.corpus.databases import read_domains
from medsql.data.corpus.examples import make_pair
from medsql.data.pairs import Pair

HELD_OUT_DOMAINS = 4
"""The last of the list: their tables, and most of their columns, occur in validation and test rows only."""

HELD_OUT_ROWS = 500
"""Validation rows, and test rows."""


def corpus_splits(pairs: int, seed: int) -> dict[str, list[Pair]]:
    """`pairs` training pairs, and validation and test pairs of domains that training never sees.

    A longer corpus of the same seed begins with the shorter one.
    """
    known, unseen = read_domains()[:-HELD_OUT_DOMAINS], read_domains()[-HELD_OUT_DOMAINS:]
    wanted = {
        "train": (known, pairs),
        "validation": (unseen, HELD_OUT_ROWS),
        "test": (unseen, HELD_OUT_ROWS),
    }
    splits = {}
    for name, (domains, count) in wanted.items():
        rng = random.Random(f"{seed} {name}")
        splits[name] = [make_pair(rng, domains) for _ in range(count)]
    return splits
