"""The cache of generation holds what transformers' own does, and beams of it too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import tiny_t5
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from medsql.model.key_values import ROOM, KeyValues, RoomyLayer


def test_a_layer_that_grows_and_is_reordered_holds_the_same() -> None:
    torch.manual_seed(0)
    ours: Any = RoomyLayer()
    theirs: Any = DynamicLayer()
    for tokens in [3, *[1] * (2 * ROOM)]:
        keys, values = torch.randn(2, 6, 2, tokens, 4)
        for expected, got in zip(theirs.update(keys, values), ours.update(keys, values), strict=True):
            assert torch.equal(got, expected)
        beams = torch.randint(6, (6,))
        ours.reorder_cache(beams)
        theirs.reorder_cache(beams)
    assert ours.get_seq_length() == 3 + 2 * ROOM
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_memory_is_made_once_for_many_tokens() -> None:
    layer, token = RoomyLayer(), torch.zeros(1, 1, 1, 4)
    places = {layer.update(token, token)[0].data_ptr() for _ in range(ROOM)}
    assert len(places) == 1


@pytest.mark.parametrize("num_beams", [1, 4])
def test_generation_with_it_writes_the_same_tokens(num_beams: int) -> None:
    torch.manual_seed(1)
    model: Any = tiny_t5(num_layers=2).eval()
    for parameter in model.parameters():  # or an untrained model repeats a token, whatever it read
        parameter.data.normal_(std=0.5)
    lengths = torch.tensor([[11], [7], [3]])
    inputs = {
        "input_ids": torch.randint(2, 260, (3, 11)),
        "attention_mask": (torch.arange(11) < lengths).long(),
    }
    found = [
        model.generate(**inputs, past_key_values=cache, num_beams=num_beams, max_new_tokens=ROOM + 10)
        for cache in (EncoderDecoderCache(DynamicCache(), DynamicCache()), KeyValues())
    ]
    assert torch.equal(*found)
    assert len(found[0].unique()) > 10
