"""The cache of generation holds what transformers' own does, and beams of it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FULL, TinyRun, tiny_t5
from transformers import DynamicCache, EncoderDecoderCache

from medsql.model.generation import generate_sql
from medsql.model.key_values import ROOM, KeyValues, RoomyLayer


def test_what_grows_and_is_reordered_holds_the_same() -> None:
    torch.manual_seed(0)
    ours = KeyValues()
    theirs = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for tokens in [3, *[1] * (2 * ROOM)]:
        for layer in range(2):
            keys, values = torch.randn(2, 6, 2, tokens, 4)
            kept = [cache.self_attention_cache.update(keys, values, layer) for cache in (theirs, ours)]
            for expected, got in zip(*kept, strict=True):
                assert torch.equal(got, expected)
        beams: Any = torch.randint(6, (6,))
        ours.reorder_cache(beams)
        theirs.reorder_cache(beams)
    assert ours.get_seq_length() == 3 + 2 * ROOM


def test_memory_is_made_once_for_many_tokens() -> None:
    layer, token = RoomyLayer(), torch.zeros(1, 1, 1, 4)
    places = {layer.update(token, token)[0].data_ptr() for _ in range(ROOM)}
    assert len(places) == 1


def eager(model: Any) -> Any:
    """The model with large weights at random: an untrained one repeats a token, whatever it read."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model.eval()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_generation_with_it_writes_the_same_tokens(num_beams: int) -> None:
    model = eager(tiny_t5(num_layers=2))
    lengths = torch.tensor([[11], [7], [3]])
    inputs = {
        "input_ids": torch.randint(2, 260, (3, 11)),
        "attention_mask": (torch.arange(11) < lengths).long(),
    }
    bound = {"num_beams": num_beams, "max_new_tokens": ROOM + 10}
    expected = model.generate(**inputs, **bound)
    assert torch.equal(model.generate(**inputs, **bound, past_key_values=KeyValues()), expected)
    assert len(expected.unique()) > 5


def test_a_checkpoint_that_wants_no_cache_writes_the_same(tmp_path: Path) -> None:
    run = TinyRun(tmp_path, steps=1, lora=FULL)
    model = eager(run.module.model)
    batch = run.data.val_dataloader()[1].collate_fn([0, 1, 2])
    expected = generate_sql(model, batch, run.module.decoder)
    model.generation_config.use_cache = False
    assert generate_sql(model, batch, run.module.decoder) == expected
