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
from dataclasses import asdict, replace

from torch import nn
from transformers import PreTrainedModel

from medsql.cache import cached, forget
from medsql.config import DataSettings, ModelSettings
from medsql.data.spelling import Spelling
from medsql.data.splits import Splits, load_splits
from medsql.data.tokenized import TokenizedSplits, tokenize_splits, tokenizer_digest
from medsql.model.backbone import Backbone, load_backbone
from medsql.runs.fingerprint import by_content

OF_TOKENS = ("prompt", "max_input_tokens", "max_target_tokens", "lossless", "cache_dir")
"""Data settings that the rows themselves do not depend on."""


def shared_splits(settings: DataSettings) -> Splits:
    """The rows of `load_splits`, which also says what is raised."""
    rows = {name: value for name, value in asdict(settings).items() if name not in OF_TOKENS}
    key = (*rows.values(), *(path and by_content(path) for path in (settings.path, settings.templates)))
    splits, again = cached("rows", key, lambda: load_splits(settings))
    return replace(splits, record=splits.record | {"reused": again})


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
    tokens, again = cached(
        "tokens", key, lambda: tokenize_splits(splits, backbone.tokenizer, settings, spelling)
    )
    return replace(tokens, record=tokens.record | {"reused": again})


def shared_backbone(settings: ModelSettings, *, trained: bool = False) -> Backbone:
    """The model of `load_backbone`, which also says what is raised.

    Its weights must stay as they are, unless it is asked for as one whose own weights are `trained`.
    """
    checkpoints = (settings.checkpoint, *settings.fallbacks)
    key = (settings.dtype, settings.lacks, *checkpoints, *map(by_content, checkpoints))
    backbone, again = cached("base model", key, lambda: load_backbone(settings))
    model = backbone.model
    if trained:
        forget("base model")
    else:
        model = _around_the_same_weights(model)
    return replace(backbone, model=model, tokenizer=copy.deepcopy(backbone.tokenizer), reused=again)


def _around_the_same_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with modules, flags and settings of its own; its parameters are others over the same memory."""
    weights = {id(w): nn.Parameter(w.detach(), w.requires_grad) for w in model.parameters()}
    return copy.deepcopy(model, weights)
