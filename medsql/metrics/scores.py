"""The scores of a set of predictions, each with its 95 % interval: what goes into metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsql.data.pairs import Pair
from medsql.metrics.intervals import Estimate, mean, share
from medsql.metrics.text import exact_match, token_overlap


def score(pairs: Sequence[Pair], predictions: Sequence[str]) -> dict[str, Any]:
    """Score `predictions[i]` against `pairs[i].sql`.

    Returns `{"n": rows, "exact_match": {"value", "low", "high"}, "token_f1": …,
    "token_precision": …, "token_recall": …}`, fractions from 0 to 1, ready for JSON.
    Raises `ValueError` where the two differ in length or are empty.
    """
    if len(pairs) != len(predictions) or not pairs:
        raise ValueError(f"{len(predictions)} predictions for {len(pairs)} pairs")
    rows = list(zip(predictions, (pair.sql for pair in pairs), strict=True))
    matches = sum(exact_match(*row) for row in rows)
    overlaps = [token_overlap(*row) for row in rows]
    estimates = {
        "exact_match": share(matches, len(rows)),
        "token_f1": mean([overlap.f1 for overlap in overlaps]),
        "token_precision": mean([overlap.precision for overlap in overlaps]),
        "token_recall": mean([overlap.recall for overlap in overlaps]),
    }
    return {"n": len(rows), **{name: _as_json(estimate) for name, estimate in estimates.items()}}


def _as_json(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
