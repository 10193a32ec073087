"""How sharp the execution score is: the share of mutated gold queries that it tells from the gold query."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from medsql.metrics.execution import same_result
from medsql.metrics.intervals import share
from medsql.sql.mutants import mutants
from medsql.sql.suite import suite


def sharpness(golds: Sequence[str], most: int, seed: int = 0) -> dict[str, Any] | None:
    """The share of mutants that give another result on some database of their gold query's suite.

    Mutants are those of `medsql.sql.mutants`, of at most `most` different gold queries drawn at random.
    Some mutants mean the same as their original (`AGE >= 32` beside `MAX ( AGE )`); unless no value of a
    column can tell them apart they are counted as not told apart. None where there are no mutants.

    Returns `{"queries", "mutants", "told_apart": {"value", "low", "high"}, "kinds": {kind: {"mutants",
    "told_apart"}}}`.
    """
    distinct = sorted(set(golds))
    chosen = random.Random(seed).sample(distinct, min(most, len(distinct)))
    made: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for gold in chosen:
        for kind, different in _verdicts(gold):
            made[kind] += 1
            told[kind] += different
    if not made:
        return None
    value, low, high, n = share(told.total(), made.total())
    kinds = {kind: {"mutants": count, "told_apart": told[kind] / count} for kind, count in made.items()}
    told_apart = {"value": value, "low": low, "high": high}
    return {"queries": len(chosen), "mutants": n, "told_apart": told_apart, "kinds": kinds}


def _verdicts(gold: str) -> list[tuple[str, bool]]:
    """The kind of each mutant, and whether it was told apart."""
    waiting = dict(enumerate(mutants(gold)))
    verdicts = {number: (mutant.kind, False) for number, mutant in waiting.items()}
    for database in suite(gold) if waiting else ():
        with closing(database):
            wanted = database.run(gold)
            for number, mutant in list(waiting.items()):
                if not same_result(database.run(mutant.sql), wanted, in_order=False):
                    verdicts[number] = (mutant.kind, True)
                    del waiting[number]
    return list(verdicts.values())
