"""A small T5 made from nothing: its tokenizer, its shape, and first weights that make copying easy.

Copying values from question to SQL is what a small model learns last: it needs to find the place
in the question, and to write what stands there in another case. Both are made easier here and
learnt all the same: variants of a piece start with similar embeddings, and cross-attention starts
near the identity (compare mimetic initialisation, Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828).
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from medsql.config import BaseSettings
from medsql.model.pieces import similar_rows, train_tokenizer


def write_fresh_base(settings: BaseSettings, texts: list[str], seed: int, folder: Path) -> None:
    """Write an untrained checkpoint, float32, that `from_pretrained` reads; a function of its arguments."""
    tokenizer = train_tokenizer(texts, settings.merges, settings.seldom)
    model = fresh_model(settings, tokenizer, seed)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def fresh_model(
    settings: BaseSettings, tokenizer: PreTrainedTokenizerFast, seed: int
) -> T5ForConditionalGeneration:
    """T5 with tied embeddings and as many layers on either side."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=settings.d_model,
        d_kv=settings.d_kv,
        d_ff=settings.d_ff,
        num_heads=settings.num_heads,
        num_layers=settings.num_layers,
        feed_forward_proj="relu",
        dropout_rate=0.0,  # every pair of the corpus is seen once
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.decoder_start_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
        model.shared.weight.copy_(similar_rows(tokenizer, model.shared.weight, settings.likeness))
        for block in model.decoder.block:
            attention = block.layer[1].EncDecAttention  # type: ignore[index, union-attr]
            for matrix in (attention.v.weight, attention.o.weight):
                matrix.mul_(1 - settings.copying).add_(settings.copying * torch.eye(*matrix.shape))
    return model


def write_bundle(trained: Path, folder: Path) -> None:
    """Write the checkpoint in `trained` anew in bfloat16, the form it is bundled in."""
    model = T5ForConditionalGeneration.from_pretrained(trained, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(trained).save_pretrained(folder)
