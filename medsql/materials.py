"""What a job starts from: rows, their tokens and the base model, loaded once for all jobs of a process.

The jobs of a sweep follow one another in one process and mostly start from the same. So the last of each kind
is kept, and the next job gets it where everything that determines it is the same: of files the content, so
that one that has changed since is read again. Every reuse is logged, and recorded as `reused`.

No job may change what another gets. Rows and tokens are only ever read. Of the base every job gets modules
and a tokenizer of its own, around weights that all share: LoRA leaves them alone, and they take no further
memory. Training all weights does not, so it takes the base away, and the next job loads it afresh.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel

from medsql.config import DataSettings, DecodeSettings, ModelSettings
from medsql.data.hospital import vocabulary
from medsql.data.hospital.cohort import listed_values
from medsql.data.spelling import Spelling
from medsql.data.splits import Splits, load_splits
from medsql.data.tokenized import TokenizedSplits, tokenize_splits, tokenizer_digest
from medsql.model.backbone import Backbone, load_backbone
from medsql.model.guidance import Guidance
from medsql.runs.fingerprint import by_content
from medsql.sql.choice import Chooser
from medsql.sql.known_values import Values, merged, values_in_database, values_in_queries
from medsql.sql.parts import Column
from medsql.sql.repair import Repairer

log = logging.getLogger(__name__)

OF_TOKENS = ("prompt", "max_input_tokens", "max_target_tokens", "lossless", "cache_dir")
"""Data settings that the rows themselves do not depend on."""

T = TypeVar("T")

_kept: dict[str, tuple[Hashable, object]] = {}
"""Kind → what determines it, and the value: one of each, so that memory does not grow with a sweep."""


def shared_splits(settings: DataSettings) -> Splits:
    """The rows of `load_splits`, which also says what is raised."""
    rows = {name: value for name, value in asdict(settings).items() if name not in OF_TOKENS}
    key = (*rows.values(), *(path and by_content(path) for path in (settings.path, settings.templates)))
    splits, reused = _shared("rows", key, lambda: load_splits(settings))
    return replace(splits, record=splits.record | {"reused": reused})


def shared_tokens(
    splits: Splits, backbone: Backbone, settings: DataSettings, spelling: Spelling | None = None
) -> TokenizedSplits:
    """The token ids of `tokenize_splits`."""
    key = (
        tokenizer_digest(backbone.tokenizer),
        spelling and tuple(spelling.codes.items()),
        *splits.record["sha256"].values(),
        *(getattr(settings, name) for name in OF_TOKENS),
    )
    tokens, reused = _shared(
        "tokens", key, lambda: tokenize_splits(splits, backbone.tokenizer, settings, spelling)
    )
    return replace(tokens, record=tokens.record | {"reused": reused})


def shared_backbone(settings: ModelSettings, *, trained: bool = False) -> Backbone:
    """The model of `load_backbone`, which also says what is raised.

    Its weights must stay as they are, unless it is asked for as one whose own weights are `trained`.
    """
    checkpoints = (settings.checkpoint, *settings.fallbacks)
    key = (settings.dtype, settings.lacks, *checkpoints, *map(by_content, checkpoints))
    backbone, reused = _shared("base model", key, lambda: load_backbone(settings))
    model = backbone.model
    if trained:
        del _kept["base model"]
    else:
        model = _around_the_same_weights(model)
    return replace(backbone, model=model, tokenizer=copy.deepcopy(backbone.tokenizer), reused=reused)


def guidance_for(decode: DecodeSettings, splits: Splits) -> tuple[Guidance | None, dict[str, Any]]:
    """How beams are chosen and repaired, None where neither is asked for; and a record of what is known.

    Raises `UserError` where `decode.database` is no database.
    """
    if not (decode.guided or decode.repair):
        return None, {}
    chooser = Chooser(decode.database) if decode.guided else None
    if not decode.repair:
        return Guidance(chooser), {}
    digest = splits.record["sha256"]["train"]
    key = (digest, splits.further, *decode.known_values, decode.database and by_content(decode.database))
    (values, record), reused = _shared("known values", key, lambda: _known_values(decode, splits))
    abbreviations = {row["short"].casefold(): row["full"] for row in vocabulary.read("abbreviations")}
    repairer = Repairer(values, abbreviations, decode.repair_threshold)
    return Guidance(chooser, repairer), record | {"reused": reused}


def _known_values(decode: DecodeSettings, splits: Splits) -> tuple[Values, dict[str, Any]]:
    """The values for repair, from the user's database, the training rows and the lists, in this order.

    Gold queries of validation and test are none of these, nor are rows with invented values.
    """
    sources: dict[str, Values] = {}
    record: dict[str, Any] = {}
    if decode.database is not None:
        sources["database"], record["not_in_database"] = values_in_database(decode.database)
    if "train" in decode.known_values:
        sources["train"], record["unread_training_queries"] = values_in_queries(
            pair.sql for pair in splits.train[: len(splits.train) - splits.further]
        )
    if "lists" in decode.known_values:
        sources["lists"] = {Column(*name): values for name, values in listed_values().items()}
    for key, left_out in record.items():
        if left_out:
            log.warning("values known for repair: %s: %s", key.replace("_", " "), left_out)
    values = merged(sources.values())
    known = {name: sum(map(len, found.values())) for name, found in (sources | {"all": values}).items()}
    log.info("values known for repair: %s", ", ".join(f"{name} {count}" for name, count in known.items()))
    return values, record | {"values": known}


def _shared(kind: str, key: Hashable, load: Callable[[], T]) -> tuple[T, bool]:
    """What is kept under `key`, or else loaded and kept from now on; and whether it is reused."""
    if kind in _kept and _kept[kind][0] == key:
        log.info("%s: as loaded before in this process", kind)
        return _kept[kind][1], True  # type: ignore[return-value]  # a kind has one type
    _kept.pop(kind, None)  # first, so that two are never in memory at once
    value = load()
    _kept[kind] = key, value
    return value, False


def _around_the_same_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with modules, flags and settings of its own; its parameters are others over the same memory."""
    weights = {id(w): nn.Parameter(w.detach(), w.requires_grad) for w in model.parameters()}
    return copy.deepcopy(model, weights)
