"""What a run predicted and how it scored: `predictions.jsonl` and `metrics.json` in its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsql.data.pairs import Pair
from medsql.files import write_json, write_json_lines

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.jsonl"
METRICS = "metrics.json"


def write_predictions(
    folder: Path, pairs: Sequence[Pair], predictions: Sequence[str], facts: dict[str, Any]
) -> dict[str, Any]:
    """Score `predictions[i]` against `pairs[i]` and write both files; returns what `metrics.json` holds.

    `facts` (which split, of how many rows, how decoded) stand beside the scores there. Without rows,
    as where a data set has no test split, there are no scores, which is logged.
    """
    if not pairs:
        log.warning("the %s split is empty: nothing is scored", facts["split"])
        return facts | {"n": 0}
    # They import scipy and sqlglot, which a door must not wait for.
    from medsql.metrics.scores import score, score_rows

    scored = score_rows(pairs, predictions)
    metrics = facts | score(scored)
    rows = (
        {"index": index, **asdict(pair), "prediction": sql, **scores}
        for index, (pair, sql, scores) in enumerate(zip(pairs, predictions, scored, strict=True))
    )
    write_json_lines(folder / PREDICTIONS, rows)
    write_json(folder / METRICS, metrics)
    return metrics


def values_of(metrics: dict[str, Any]) -> dict[str, float]:
    """`{"split": "test", "exact_match": {"value": 0.3, …}, …}` → `{"test/exact_match": 0.3, …}`."""
    scores = {name: score for name, score in metrics.items() if isinstance(score, dict) and "value" in score}
    return {f"{metrics['split']}/{name}": score["value"] for name, score in scores.items()}


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of `predictions.jsonl`; none where nothing was scored."""
    path = folder / PREDICTIONS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
