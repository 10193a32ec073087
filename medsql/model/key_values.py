"""The keys and values of generation's earlier tokens, kept without copying them for every new one.

transformers' own cache makes longer tensors at each step, of all that is there and the new token's: with a
small model on a CPU that takes as long as its matrix products. Beams that change places are copied once more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

ROOM = 64
"""Tokens that there is room for beyond those at hand, whenever memory is made."""


class RoomyLayer(DynamicLayer):
    """A layer's keys and values, rows × heads × tokens × width, in front of the room for more of them.

    Greedy and beam search need no more of a layer than what is here.
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is kept yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys, self._values = key_states[..., :0, :], value_states[..., :0, :]
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep those of new tokens; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        self._keys = _put(self._keys, length, key_states)
        self._values = _put(self._values, length, value_states)
        return self._show(length + key_states.shape[-2])

    def move(self, sources: Tensor, places: Tensor) -> None:
        """Let the rows at `places` go on as those at `sources` did."""
        for room in (self._keys, self._values):
            states = room[..., : self.get_seq_length(), :]
            states.index_copy_(0, places, states.index_select(0, sources))

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` tokens, from now on those that count."""
        self.keys, self.values = found = self._keys[..., :length, :], self._values[..., :length, :]
        return found


def _put(room: Tensor, length: int, states: Tensor) -> Tensor:
    """`room` with `states` behind its first `length` tokens; a larger one where they do not fit."""
    rows, heads, new, width = states.shape
    if length + new > room.shape[-2]:
        larger = states.new_empty(rows, heads, length + new + ROOM, width)
        larger[..., :length, :] = room[..., :length, :]
        room = larger
    room[..., length : length + new, :] = states
    return room


class KeyValues(EncoderDecoderCache):
    """What `generate` takes as `past_key_values`. A row's beams share their input's, which stay in place."""

    def __init__(self) -> None:
        own = Cache(layer_class_to_replicate=RoomyLayer)
        super().__init__(own, Cache(layer_class_to_replicate=DynamicLayer))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Let beams go on as others of their row did; those that go on as themselves are not touched."""
        places = (beam_idx != torch.arange(len(beam_idx), device=beam_idx.device)).nonzero().squeeze(1)
        for layer in self.self_attention_cache.layers:
            assert isinstance(layer, RoomyLayer)
            layer.move(beam_idx[places], places)
