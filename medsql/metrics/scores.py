"""The scores of a set of predictions, each with its 95 % interval: what goes into metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsql.data.pairs import Pair
from medsql.metrics.estimate import Estimate
from medsql.metrics.execution import Execution, verdict
from medsql.metrics.intervals import mean, share
from medsql.metrics.logical import logical_form
from medsql.metrics.text import exact_match, token_overlap

Score = bool | float | None
"""A verdict, which adds up to a share, or a degree from 0 to 1; None where the gold query cannot judge."""


def row_scores(prediction: str, gold: str, execution: Execution) -> dict[str, Score]:
    """What one prediction scores, by the names in `medsql.config.SCORES`.

    `valid` and `execution` are None where the gold query itself does not run on the schema, as those of
    other databases do not.
    """
    overlap = token_overlap(prediction, gold)
    return {
        "exact_match": exact_match(prediction, gold),
        "logical_form": logical_form(prediction, gold),
        "execution": execution(prediction, gold),
        "valid": verdict(prediction) == "ok" if verdict(gold) == "ok" else None,
        "token_f1": overlap.f1,
        "token_precision": overlap.precision,
        "token_recall": overlap.recall,
    }


def score_rows(
    pairs: Sequence[Pair], predictions: Sequence[str], execution: Execution
) -> list[dict[str, Score]]:
    """What each of `predictions` scores against the SQL of its pair.

    Raises `ValueError` where the two differ in length or are empty.
    """
    if len(pairs) != len(predictions) or not pairs:
        raise ValueError(f"{len(predictions)} predictions for {len(pairs)} pairs")
    return [row_scores(sql, pair.sql, execution) for sql, pair in zip(predictions, pairs, strict=True)]


def score(rows: Sequence[dict[str, Score]]) -> dict[str, Any]:
    """The scores of a whole set from those of its rows, at least one.

    Returns `{"n": rows, "exact_match": {"value", "low", "high", "n"}, …}`, fractions from 0 to 1, ready for
    JSON. A score's own `n` is that of the rows that could be judged; without any it is left out.
    """
    columns = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    return {"n": len(rows)} | {
        name: _estimate(values)._asdict() for name, values in columns.items() if values
    }


def _estimate(values: Sequence[Score]) -> Estimate:
    if isinstance(values[0], bool):
        return share(sum(map(bool, values)), len(values))
    return mean([float(value or 0) for value in values])
