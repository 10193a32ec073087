"""Scores a model on any split, fine-tuned or zero-shot: `python -m medsql.evaluate`."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path

from medsql.composition import unnamed
from medsql.config import EvalSettings, EvaluateSettings, SettingsError, TrainSettings
from medsql.door import door
from medsql.runs.collect import base_of, codes_of, longest_target_of
from medsql.runs.fingerprint import identity
from medsql.runs.folder import Run, RunBusy
from medsql.runs.labels import short
from medsql.runs.predictions import write_predictions
from medsql.runs.table import print_folders
from medsql.wording import counted

log = logging.getLogger(__name__)


@door("evaluate")
def main(settings: EvaluateSettings, folder: Path) -> float:
    """Generate SQL for a split and score it; returns the exact match."""
    with Run(folder, "evaluate", identity(settings), asdict(settings)) as run:
        if not run.finished:
            evaluate(settings, run)
        print_folders([folder])
        return float(run.record["scores"]["exact_match"]["value"])


def score_baseline(settings: TrainSettings, parent: Path) -> None:
    """Score the model that `settings` fine-tune, zero-shot: the same test rows, decoded alike.

    It is the run that `python -m medsql.evaluate` would make, in a folder of the same name in `parent`, and
    the same one whatever else is trained on. The first who wants it makes it, and others find it finished.
    Where another process is at work on it, or it fails, they go on without, which is logged.
    """
    zero_shot = EvaluateSettings(
        model=settings.model,
        data=replace(settings.data.without_further_rows(), refit=False),
        decode=settings.decode,
        trainer=settings.trainer,
        eval=EvalSettings(),
        split="test",
        show=0,
    )
    folder = parent / unnamed(zero_shot)
    try:
        with Run(folder, "evaluate", identity(zero_shot), asdict(zero_shot)) as run:
            if not run.finished:
                log.info("scoring the baseline, zero-shot, in %s", short(folder))
                evaluate(zero_shot, run)
    except RunBusy:
        log.info("%s: the baseline is being scored in another process", short(folder))
    except Exception as error:  # whatever it is, out of memory included, it is not what was asked for
        log.warning("the baseline is not scored: %s: %s", type(error).__name__, error)


def evaluate(settings: EvaluateSettings, run: Run) -> None:
    """Rows → model with its adapter → SQL → scores in the run's folder."""
    # Imported here, so that a mistake in the configuration is answered before these seconds are spent.
    from medsql.data.module import generation_loader
    from medsql.data.pairs import pairs_digest
    from medsql.data.spelling import Spelling
    from medsql.materials import shared_backbone, shared_splits, shared_tokens
    from medsql.metrics.execution import Execution
    from medsql.model.decoder import load_decoder
    from medsql.model.generation import log_prediction, predict
    from medsql.model.hardware import autocast, prepare_device
    from medsql.model.lora import load_adapter
    from medsql.runs.trained_on import trained_on

    device = prepare_device(settings.trainer)
    execution = Execution(settings.eval.database, settings.eval.seconds)
    # What else a run was trained on is in its adapter; an adapter alone has only these rows to say how long
    # targets were, and how they were spelled.
    splits = shared_splits(settings.data.without_further_rows() if settings.run else settings.data)
    in_split = splits.own_training if settings.split == "train" else getattr(splits, settings.split)
    pairs = in_split[: settings.rows]
    if not pairs:
        raise SettingsError(f"split={settings.split}: data={settings.data.source} has no such rows to score")
    if settings.rows is not None and settings.rows > len(in_split):
        there = counted(len(in_split), "row")
        log.warning("rows=%d: the %s split has %s, all are scored", settings.rows, settings.split, there)
    if settings.run:
        known = trained_on(Path(settings.run), pairs)
    else:  # an adapter alone does not say
        known = None if settings.adapter else [False] * len(pairs)
    backbone = shared_backbone(settings.model)
    spelling = Spelling(codes_of(settings.run)) if settings.run else None  # the one it was trained in
    data = shared_tokens(splits, backbone, settings.data, spelling)
    longest = longest_target_of(settings.run) if settings.run else data.longest_target
    decoder, decoding = load_decoder(
        settings.decode, backbone.tokenizer, longest, data.spelling, splits.own_training
    )
    model = load_adapter(backbone.model, Path(settings.adapter)) if settings.adapter else backbone.model
    tuned = settings.run or settings.adapter
    run.note(
        model=backbone.record(),
        data=splits.record,
        tokenized=data.record,
        scored=tuned or f"{settings.model.name}, zero-shot",
        tuned=bool(tuned),
        base=base_of(settings.run) or backbone.checkpoint,
        split=settings.split,
        data_sha256=pairs_digest(pairs),
        decode=asdict(settings.decode),
        **decoding,
    )
    started = time.perf_counter()
    rows, pad_id = getattr(data, settings.split), backbone.tokenizer.pad_token_id
    loader = generation_loader(rows, len(pairs), settings.decode.batch_size, pad_id)
    model.to(device)  # type: ignore[arg-type]  # its decorator hides the signature
    beams = counted(settings.decode.num_beams, "beam")
    log.info("generating SQL for %s, %s", counted(len(pairs), f"{settings.split} row"), beams)
    with autocast(settings.trainer, device):
        predictions = predict(model, loader, decoder, [pair.question for pair in pairs])
    seconds = round(time.perf_counter() - started, 1)
    for pair, prediction in zip(pairs[: settings.show], predictions, strict=False):
        log_prediction(pair, prediction.sql)
    facts = {
        "split": settings.split,
        "rows_in_split": len(in_split),
        "max_new_tokens": decoder.max_new_tokens,
        "decode": asdict(settings.decode),
    }
    started = time.perf_counter()
    scores = write_predictions(run.folder, pairs, predictions, facts, execution, settings.eval.mutated, known)
    scoring = round(time.perf_counter() - started, 1)
    run.finish(scores=scores, seconds={"generation": seconds, "scoring": scoring})


if __name__ == "__main__":
    main()
