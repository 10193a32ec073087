"""A stand-in for the bundled model until one is pretrained: a small T5 that knows nothing yet.

Its weights are random and its tokenizer is trained on the synthetic hospital's pairs. It is built
once into the cache folder and then loaded like any other checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from medsql.data.hospital import synthetic_splits

log = logging.getLogger(__name__)

STANDIN = "standin"
"""What `model.checkpoint` says where it means this model."""

VERSION = 1
VOCABULARY = 1000
SEED = 42


def standin_folder() -> Path:
    """The stand-in's checkpoint folder, built on first use, by one process where several ask."""
    cache = Path(os.environ.get("MEDSQL_CACHE", "~/.cache/medsql")).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    texts = _texts()
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    folder = cache / f"standin-{VERSION}-{digest}"  # other pairs make another tokenizer
    log.warning("the bundled model is a stand-in: a small T5 with random weights that knows nothing yet")
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _build(folder, texts)
    return folder


def _texts() -> list[str]:
    pairs = synthetic_splits(admissions=100, pairs=2000, seed=SEED)["train"]
    return [text for pair in pairs for text in (pair.question, pair.sql)]


def _build(folder: Path, texts: list[str]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        tokenizer = _tokenizer(texts)
        tokenizer.save_pretrained(temporary)
        _model(tokenizer).save_pretrained(temporary)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level pieces: any text at all survives encoding and decoding unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>", "<unk>"],  # T5's, at T5's places
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def _model(tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """About a million weights: three layers a side, 128 wide."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        num_heads=4,
        d_ff=256,
        num_layers=3,
        num_decoder_layers=3,
        feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.decoder_start_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return T5ForConditionalGeneration(config)
