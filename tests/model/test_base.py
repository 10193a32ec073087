"""A base model made from nothing: a function of its settings and seed, loaded like any checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from medsql.config import BaseSettings, ModelSettings
from medsql.data.corpus import corpus_splits
from medsql.model.backbone import load_backbone
from medsql.model.base import fresh_model, write_bundle, write_fresh_base
from medsql.model.pieces import train_tokenizer

TEXTS = [pair.sql for pair in corpus_splits(200, seed=3)["train"]]
TINY = BaseSettings(
    d_model=16,
    d_kv=8,
    d_ff=32,
    num_heads=2,
    num_layers=2,
    merges=50,
    tokenizer_pairs=200,
    seldom=2,
    likeness=0.8,
    copying=0.5,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, TINY.merges, TINY.seldom)


def test_weights_follow_from_the_seed_whatever_ran_before(tokenizer):
    torch.manual_seed(1)
    first = fresh_model(TINY, tokenizer, seed=5).state_dict()
    torch.manual_seed(2)
    second = fresh_model(TINY, tokenizer, seed=5).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first["shared.weight"], fresh_model(TINY, tokenizer, 6).shared.weight)


def test_cross_attention_begins_near_the_identity_as_asked(tokenizer):
    def values(copying):
        model = fresh_model(replace(TINY, copying=copying), tokenizer, seed=5)
        return model.decoder.block[1].layer[1].EncDecAttention.v.weight

    torch.testing.assert_close(values(1.0), torch.eye(16))
    torch.testing.assert_close(values(0.5), 0.5 * values(0.0) + 0.5 * torch.eye(16))


def test_it_loads_as_every_checkpoint_does(tmp_path):
    write_fresh_base(TINY, TEXTS, 5, tmp_path / "fresh")
    loaded = load_backbone(ModelSettings("fresh", str(tmp_path / "fresh")))
    ids = loaded.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    assert loaded.tokenizer.decode(ids[0], skip_special_tokens=True) == TEXTS[0]
    assert torch.isfinite(loaded.model(input_ids=ids, labels=ids).loss)


def test_a_bundle_holds_the_same_weights_in_bfloat16(tmp_path):
    write_fresh_base(TINY, TEXTS, 5, tmp_path / "fresh")
    write_bundle(tmp_path / "fresh", tmp_path / "bundle")
    with safe_open(tmp_path / "bundle" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    fresh, bundle = (load_backbone(ModelSettings("x", str(tmp_path / name))) for name in ("fresh", "bundle"))
    assert bundle.tokenizer.get_vocab() == fresh.tokenizer.get_vocab()
    for name, weight in bundle.model.state_dict().items():
        assert torch.equal(weight, fresh.model.state_dict()[name].bfloat16().float())
