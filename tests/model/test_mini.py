"""The bundled model: small enough to ship, loaded like FLAN-T5, and able to spell any SQL."""

from __future__ import annotations

import string

import pytest
import torch
from safetensors import safe_open

from medsql.composition import ASSETS
from medsql.config import ModelSettings
from medsql.data.hospital import synthetic_splits
from medsql.model.backbone import load_backbone

MINI = ASSETS / "mini"


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(ModelSettings("mini", str(MINI)))


def test_it_is_what_the_configuration_means_by_mini(settings):
    model = settings("train").model
    assert (model.name, model.checkpoint, model.fallbacks) == ("mini", str(MINI), [])


def test_it_is_small_enough_to_ship(backbone):
    assert sum(weight.numel() for weight in backbone.model.parameters()) <= 12e6
    assert sum(file.stat().st_size for file in MINI.iterdir()) <= 25e6


def test_its_weights_lie_there_in_bfloat16_and_are_finite():
    with safe_open(MINI / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert all(tensor.isfinite().all() for tensor in tensors)


def test_all_of_printable_ascii_survives(backbone):
    text = "".join(character for character in string.printable if character.isprintable()).strip()
    tokenizer = backbone.tokenizer
    for piece in (text, *text):
        ids = tokenizer(piece)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == piece


def test_every_query_of_the_synthetic_hospital_survives(backbone):
    queries = [pair.sql for rows in synthetic_splits(100, 2000, seed=1).values() for pair in rows]
    ids = backbone.tokenizer(queries)["input_ids"]
    assert backbone.tokenizer.batch_decode(ids, skip_special_tokens=True) == queries


def test_its_card_says_what_it_is_and_what_it_is_not():
    card = (MINI / "README.md").read_text("utf-8")
    for subject in ("medsql.pretrain", "seed", "sha256", "never saw", "tried", "minutes"):
        assert subject in card
