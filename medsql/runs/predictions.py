"""What a run predicted and how it scored: `predictions.jsonl`, `errors.jsonl` and `metrics.json`."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsql.config import MUTATED
from medsql.data.pairs import Pair, Prediction
from medsql.errors import UserError
from medsql.files import write_json, write_json_lines
from medsql.wording import counted

if TYPE_CHECKING:
    from medsql.metrics.execution import Execution

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.jsonl"
METRICS = "metrics.json"
ERRORS = "errors.jsonl"


def write_predictions(
    folder: Path,
    pairs: Sequence[Pair],
    predictions: Sequence[Prediction],
    facts: dict[str, Any],
    execution: Execution | None = None,
    mutated: int = MUTATED,
    trained_on: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Score `predictions[i]` against `pairs[i]` and write all three files; returns what `metrics.json` holds.

    `facts` (which split, of how many rows, how decoded) stand beside the scores there, and so do how many
    outputs were truncated, the gold queries that could not judge, by why, how sharp the execution score is,
    the error patterns, and what guidance and repair changed. `errors.jsonl` holds the rows of wrong
    predictions with their patterns. Without rows, as where a data set has no test split, there are no scores,
    which is logged.

    `execution` is where queries run, by default on databases made for each gold query; how sharp these are is
    measured on mutants of up to `mutated` gold queries. `trained_on` says of each row whether the model was
    trained on its query, where that is known. Raises `ValueError` where pairs and predictions differ in
    length.
    """
    if not pairs:
        log.warning("the %s split is empty: nothing is scored", facts["split"])
        return facts | {"n": 0}
    # They import scipy and sqlglot, which a door must not wait for.
    from medsql.metrics.errors import error_patterns, summarize
    from medsql.metrics.execution import Execution, verdict
    from medsql.metrics.scores import score, score_rows
    from medsql.metrics.sharpness import sharpness

    log.info("scoring %s", counted(len(pairs), "query", "queries"))
    execution = execution or Execution()
    scored = score_rows(pairs, [prediction.sql for prediction in predictions], execution)
    rows = [
        {
            "index": index,
            **asdict(pair),
            "prediction": prediction.sql,
            "truncated": prediction.truncated,
            **prediction.guidance(),
            "verdict": verdict(prediction.sql),
            **scores,
            "patterns": error_patterns(prediction.sql, pair.sql, prediction.truncated),
            "trained_on": trained_on and trained_on[index],
        }
        for index, (pair, prediction, scores) in enumerate(zip(pairs, predictions, scored, strict=True))
    ]
    wrong = [row for row in rows if row["patterns"]]
    mutants = None if execution.database else sharpness([pair.sql for pair in pairs], mutated)
    metrics = facts | score(scored)
    metrics |= {
        "truncated": sum(row["truncated"] for row in rows),
        "trained_on": trained_on and sum(trained_on),
        "gold": dict(execution.of_gold),
        "database": execution.database and str(execution.database),
        "mutants": mutants,
        "errors": summarize([row["patterns"] for row in wrong]),
        **_guidance_of_all(predictions),
    }
    _warn(metrics)
    write_json_lines(folder / PREDICTIONS, rows)
    write_json_lines(folder / ERRORS, wrong)
    write_json(folder / METRICS, metrics)
    return metrics


def _guidance_of_all(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The same of all rows: how many took another beam, had none that runs, or were repaired, by kind."""
    found: dict[str, Any] = {}
    if choices := [prediction.choice for prediction in predictions if prediction.choice is not None]:
        found["guided"] = {
            "other_beam": sum(choice.beam > 0 for choice in choices),
            "none_runs": sum(not choice.runs for choice in choices),
            "beams_tried": sum(len(choice.verdicts) for choice in choices),
            "timed_out": sum(choice.verdicts.count("timed out") for choice in choices),
            "taken_though": dict(
                Counter(choice.verdicts[choice.beam] for choice in choices if choice.runs)
                - Counter(ok=len(choices))
            ),
        }
    if to_repair := [prediction for prediction in predictions if prediction.written is not None]:
        kinds = Counter(repair.kind for prediction in to_repair for repair in prediction.repairs)
        rows = sum(bool(prediction.repairs) for prediction in to_repair)
        found["repaired"] = {"rows": rows, "repairs": dict(kinds.most_common())}
    return found


def _warn(metrics: dict[str, Any]) -> None:
    if metrics["truncated"]:
        bound = metrics.get("max_new_tokens")
        log.warning("%d of %d outputs were cut at %s tokens", metrics["truncated"], metrics["n"], bound)
    if metrics["trained_on"]:
        log.warning("the model was trained on %d of the %d queries", metrics["trained_on"], metrics["n"])
    guided = metrics.get("guided", {})
    if guided.get("none_runs"):
        log.warning("%d of %d rows have no beam that runs on the schema", guided["none_runs"], metrics["n"])
    if guided.get("timed_out"):
        log.warning("%d of %d beams timed out on the database", guided["timed_out"], guided["beams_tried"])
    for why, count in metrics["gold"].items():
        found = "find nothing" if why == "empty" else f"cannot judge execution: {why}"
        log.warning("%d of %d gold queries %s", count, metrics["n"], found)


def values_of(metrics: dict[str, Any]) -> dict[str, float]:
    """`{"split": "test", "exact_match": {"value": 0.3, …}, …}` → `{"test/exact_match": 0.3, …}`."""
    scores = {name: score for name, score in metrics.items() if isinstance(score, dict) and "value" in score}
    return {f"{metrics['split']}/{name}": score["value"] for name, score in scores.items()}


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of `predictions.jsonl`; none where nothing was scored. Raises what `read_rows` does."""
    return read_rows(folder / PREDICTIONS)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of `predictions.jsonl` or of a file like it; none where there is none.

    Raises `UserError` where they cannot be read, or are not rows with a question and its SQL.
    """
    try:
        rows = [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []
        if not all(isinstance(row, dict) and {"question", "sql"} <= row.keys() for row in rows):
            raise ValueError("not rows with a question and its SQL")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())})") from error
    return rows
