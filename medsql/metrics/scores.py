"""The scores of a set of predictions, each with its 95 % interval: what goes into metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from medsql.data.pairs import Pair
from medsql.metrics.intervals import Estimate, mean, share
from medsql.metrics.logical import logical_form
from medsql.metrics.text import exact_match, token_overlap
from medsql.sql.database import Sandbox


@cache
def _schema() -> Sandbox:
    """MIMICSQL's tables without a row: what names only them and their columns runs there."""
    return Sandbox.empty()


def row_scores(prediction: str, gold: str) -> dict[str, bool | float]:
    """What one prediction scores: verdicts, which add up to shares, and degrees from 0 to 1."""
    overlap = token_overlap(prediction, gold)
    return {
        "exact_match": exact_match(prediction, gold),
        "logical_form": logical_form(prediction, gold),
        "valid": _schema().run(prediction).ok,
        "token_f1": overlap.f1,
        "token_precision": overlap.precision,
        "token_recall": overlap.recall,
    }


def score_rows(pairs: Sequence[Pair], predictions: Sequence[str]) -> list[dict[str, bool | float]]:
    """What each of `predictions` scores against the SQL of its pair.

    Raises `ValueError` where the two differ in length or are empty.
    """
    if len(pairs) != len(predictions) or not pairs:
        raise ValueError(f"{len(predictions)} predictions for {len(pairs)} pairs")
    return [row_scores(sql, pair.sql) for sql, pair in zip(predictions, pairs, strict=True)]


def score(rows: Sequence[dict[str, bool | float]]) -> dict[str, Any]:
    """The scores of a whole set from those of its rows, at least one.

    Returns `{"n": rows, "exact_match": {"value", "low", "high"}, "logical_form": …, "valid": …,
    "token_f1": …, "token_precision": …, "token_recall": …}`, fractions from 0 to 1, ready for JSON.
    """
    return {"n": len(rows)} | {name: _as_json(_estimate([row[name] for row in rows])) for name in rows[0]}


def _estimate(values: Sequence[bool | float]) -> Estimate:
    return share(sum(map(bool, values)), len(values)) if isinstance(values[0], bool) else mean(values)


def _as_json(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
