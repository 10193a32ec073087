"""The pretrained seq2seq model that is fine-tuned, and its tokenizer."""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from huggingface_hub import HfApi
from tokenizers import Regex, decoders, normalizers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from medsql.assets import BUNDLED, checkpoint_folder
from medsql.config import ModelSettings, SettingsError

log = logging.getLogger(__name__)

NOWHERE = "\U0010fffd"
"""A character for private use, which no vocabulary has."""


@dataclass(frozen=True)
class Backbone:
    """A loaded model; `failures` says for each checkpoint tried before `checkpoint` why it did not load.

    `reused` is one that an earlier job loaded, see `medsql.materials`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    checkpoint: str
    failures: dict[str, str] = field(default_factory=dict)
    reused: bool = False

    def record(self) -> dict[str, Any]:
        """What a run's record says of its model."""
        return {"checkpoint": self.checkpoint, "failures": self.failures, "reused": self.reused}


def load_backbone(settings: ModelSettings) -> Backbone:
    """Load the first of `settings.checkpoint` and `settings.fallbacks` that loads.

    Raises `SettingsError`, one line with every candidate and its reason, where none does, and where its
    tokenizer cannot be made to lack `settings.lacks`.
    """
    transformers_logging.disable_progress_bar()  # for "Loading weights", over before it can be read
    failures: dict[str, str] = {}
    for checkpoint in (settings.checkpoint, *settings.fallbacks):
        log.info("loading %s", checkpoint)
        try:
            model, tokenizer = _load(checkpoint, getattr(torch, settings.dtype))
        except Exception as error:  # hub, disk, JSON and weight formats each raise their own
            failures[checkpoint] = _one_line(error)
            log.warning("model checkpoint %s does not load: %s", checkpoint, failures[checkpoint])
            continue
        if settings.lacks is not None:
            _take_away(tokenizer, settings.lacks)
        return Backbone(model, tokenizer, checkpoint, failures)
    reasons = "; ".join(f"{checkpoint}: {reason}" for checkpoint, reason in failures.items())
    cure = "; model=mini is bundled and needs no download" if settings.name != "mini" else ""
    raise SettingsError(f"model={settings.name}: no checkpoint loads; {reasons}{cure}")


def _load(checkpoint: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a folder, a cached hub checkpoint without asking the network, or one from the hub."""
    folder = checkpoint_folder(checkpoint)
    if folder.is_dir():
        if not any(folder.glob("*token*")) and not any(folder.glob("*.model")):
            # transformers would make up an empty tokenizer for it, and say nothing
            raise FileNotFoundError("the folder holds no tokenizer")
        return _from_pretrained(str(folder), dtype, local=True)
    if checkpoint.startswith((".", "/", "~", BUNDLED)):
        raise FileNotFoundError("no such folder")
    with contextlib.suppress(OSError, ValueError):
        return _from_pretrained(checkpoint, dtype, local=True)
    try:
        HfApi().model_info(checkpoint, timeout=10)  # answers at once where loading would retry for a minute
    except Exception as error:
        raise ConnectionError(
            f"not in the local cache, and asking the hub gave {_one_line(error)}"
        ) from error
    return _from_pretrained(checkpoint, dtype, local=False)


def _from_pretrained(
    source: str, dtype: torch.dtype, *, local: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    model = AutoModelForSeq2SeqLM.from_pretrained(
        source,
        dtype=dtype,
        trust_remote_code=False,
        local_files_only=local,
        # On CPUs, T5's bias costs PyTorch's fused attention more than it saves; training has its own there,
        # see medsql.model.cpu.
        attn_implementation=None if torch.cuda.is_available() else "eager",
    )
    return model, tokenizer


def _take_away(tokenizer: PreTrainedTokenizerBase, characters: str) -> None:
    """Make the tokenizer lack `characters`: each is encoded to `<unk>`, and no piece is decoded to one.

    So T5's does with `<`. Pieces keep their ids, for the model's embeddings have them; those with such a
    character are never chosen. What is done here is saved with the tokenizer.

    Raises `SettingsError` where a tokenizer takes no such step, or writes any character in bytes.
    """
    if not tokenizer.is_fast:
        raise SettingsError(f"model.lacks={characters}: {type(tokenizer).__name__} can write any character")
    backend = tokenizer.backend_tokenizer
    pattern = Regex(f"[{re.escape(characters)}]")
    to_nothing = normalizers.Replace(pattern, NOWHERE)
    backend.normalizer = normalizers.Sequence([*filter(None, [backend.normalizer]), to_nothing])
    backend.decoder = decoders.Sequence([*filter(None, [backend.decoder]), decoders.Replace(pattern, "")])
    for character in characters:
        if tokenizer.unk_token_id not in tokenizer(character)["input_ids"]:
            raise SettingsError(f"model.lacks={characters}: this model's tokenizer can write any character")


def _one_line(error: Exception) -> str:
    """The first line of a message that may run to twenty, without the full stop or colon it ends with."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:") if lines else type(error).__name__
