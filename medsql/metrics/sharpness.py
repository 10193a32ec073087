"""How sharp the execution score is: the share of mutated gold queries that it tells from the gold query."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

from medsql.metrics.execution import Gold, verdict
from medsql.metrics.intervals import share
from medsql.sql.mutants import mutants
from medsql.sql.suite import suite


def sharpness(golds: Sequence[str], most: int, seed: int = 0) -> dict[str, Any] | None:
    """The share of mutants that give another result on some database of their gold query's suite.

    Mutants are those of `medsql.sql.mutants` that run, of at most `most` different gold queries that can
    judge, drawn at random. Some mean the same as their original (`AGE <> 32` beside `MAX ( AGE )` of all
    over 32); unless no value of a column can tell them apart, they count as not told apart. None where
    there are no mutants.

    Returns `{"queries", "mutants", "told_apart": {"value", "low", "high"}, "kinds": {kind: {"mutants",
    "told_apart"}}}`.
    """
    distinct = sorted({gold for gold in golds if verdict(gold) == "ok"})
    chosen = random.Random(seed).sample(distinct, min(most, len(distinct)))
    queries, made, told = 0, Counter[str](), Counter[str]()
    for gold in chosen:
        verdicts = _verdicts(gold)
        queries += bool(verdicts)
        for kind, different in verdicts:
            made[kind] += 1
            told[kind] += different
    if not made:
        return None
    value, low, high, n = share(told.total(), made.total())
    kinds = {kind: {"mutants": count, "told_apart": told[kind] / count} for kind, count in made.items()}
    told_apart = {"value": value, "low": low, "high": high}
    return {"queries": queries, "mutants": n, "told_apart": told_apart, "kinds": kinds}


@lru_cache(maxsize=1024)  # seconds for a hundred queries, and the jobs of a sweep score the same ones
def _verdicts(gold: str) -> tuple[tuple[str, bool], ...]:
    """The kind of each mutant that runs, and whether it was told apart; none where gold finds nothing."""
    query, found = Gold(gold), False
    made = [mutant for mutant in mutants(gold) if verdict(mutant.sql) == "ok"]
    alike = made
    for database in suite(gold):
        with closing(database):
            wanted = database.run(gold)
            found = found or query.finds_something(wanted)
            alike = [mutant for mutant in alike if query.same_result(database.run(mutant.sql), wanted)]
    return tuple((mutant.kind, mutant not in alike) for mutant in made) if found else ()
