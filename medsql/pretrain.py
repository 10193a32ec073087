"""Pretrains a small base model on invented databases: `python -m medsql.pretrain`."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

from medsql.config import LoraSettings, ModelSettings, PretrainSettings, TrainSettings
from medsql.door import door
from medsql.runs.fingerprint import identity
from medsql.runs.folder import Run
from medsql.train import train

log = logging.getLogger(__name__)

ALL_WEIGHTS = LoraSettings(targets=None, r=1, alpha=1, dropout=0.0)


@door("pretrain")
def main(settings: PretrainSettings, folder: Path) -> float | None:
    """A tokenizer and a fresh model → all its weights trained on the corpus → a bundle to ship."""
    with Run(folder, "pretrain", identity(settings), asdict(settings)) as run:
        if not run.finished:
            train(_training(settings, _fresh(settings, folder)), run)
        _bundle(folder)
        return run.objective


def _fresh(settings: PretrainSettings, folder: Path) -> Path:
    """The checkpoint that training begins with, made where it is not there yet."""
    from medsql.data.corpus import corpus_splits
    from medsql.model.base import write_fresh_base

    fresh, unfinished = folder / "fresh", folder / "fresh.tmp"
    if not fresh.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        pairs = corpus_splits(settings.base.tokenizer_pairs, settings.data.seed)["train"]
        texts = [text for pair in pairs for text in (pair.question, pair.sql)]
        write_fresh_base(settings.base, texts, settings.seed, unfinished)
        unfinished.replace(fresh)
    return fresh


def _training(settings: PretrainSettings, fresh: Path) -> TrainSettings:
    shared = {name: value for name, value in vars(settings).items() if name != "base"}
    return TrainSettings(model=ModelSettings("fresh", str(fresh)), lora=ALL_WEIGHTS, **shared)


def _bundle(folder: Path) -> None:
    from medsql.model.base import write_bundle

    bundle, unfinished = folder / "bundle", folder / "bundle.tmp"
    if not bundle.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        write_bundle(folder / "model", unfinished)
        unfinished.replace(bundle)
    log.info("in bfloat16, as it is bundled: %s", bundle)


if __name__ == "__main__":
    main()
