"""Scores a model on any split, fine-tuned or zero-shot: `python -m medsql.evaluate`."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsql.config import EvaluateSettings
from medsql.door import door
from medsql.runs.fingerprint import identity
from medsql.runs.folder import Run
from medsql.runs.predictions import write_predictions
from medsql.runs.table import print_scores

log = logging.getLogger(__name__)


@door("evaluate")
def main(settings: EvaluateSettings, folder: Path) -> float:
    """Generate SQL for a split and score it; returns the exact match."""
    with Run(folder, "evaluate", identity(settings), asdict(settings)) as run:
        if not run.finished:
            evaluate(settings, run)
        print_scores([folder])
        return float(run.record["scores"]["exact_match"]["value"])


def evaluate(settings: EvaluateSettings, run: Run) -> None:
    """Rows → model with its adapter → SQL → scores in the run's folder."""
    # Imported here, so that a mistake in the configuration is answered before these seconds are spent.
    from medsql.data.module import generation_loader
    from medsql.data.splits import load_splits, pairs_digest
    from medsql.data.tokenized import tokenize_splits
    from medsql.model.backbone import load_backbone
    from medsql.model.generation import output_bound, predict
    from medsql.model.lora import load_adapter
    from medsql.model.training import prepare_device

    splits = load_splits(settings.data)
    backbone = load_backbone(settings.model)
    data = tokenize_splits(splits, backbone.tokenizer, settings.data)
    model = load_adapter(backbone.model, Path(settings.adapter)) if settings.adapter else backbone.model
    pairs = getattr(splits, settings.split)[: settings.rows]
    tuned = settings.run or settings.adapter
    run.note(
        model=backbone.record(),
        data=splits.record,
        tokenized=data.record,
        scored=tuned or f"{settings.model.name}, zero-shot",
        tuned=bool(tuned),
        base=backbone.checkpoint,
        split=settings.split,
        data_sha256=pairs_digest(pairs),
        decode=asdict(settings.decode),
    )
    started = time.perf_counter()
    device = prepare_device(settings.trainer)
    loader = generation_loader(
        getattr(data, settings.split), len(pairs), settings.decode.batch_size, backbone.tokenizer.pad_token_id
    )
    bound = output_bound(data.longest_target, settings.decode)
    predictions = predict(model.to(device), backbone.tokenizer, loader, settings.decode, bound)
    seconds = time.perf_counter() - started
    facts = facts_of(settings.split, getattr(splits, settings.split), settings.decode, bound, seconds)
    scores = write_predictions(run.folder, pairs, predictions, facts)
    for pair, sql in zip(pairs[: settings.show], predictions, strict=False):
        log.info("question:  %s\n  gold:      %s\n  predicted: %s", pair.question, pair.sql, sql)
    run.finish(scores=facts | scores)


def facts_of(split: str, rows: list[Any], decode: Any, bound: int, seconds: float) -> dict[str, Any]:
    """What has to stand beside scores for them to mean something."""
    return {
        "split": split,
        "rows_in_split": len(rows),
        "decode": asdict(decode),
        "max_new_tokens": bound,
        "generation_seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    main()
