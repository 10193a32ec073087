"""CUDA graphs: the forward and the backward pass of a batch as one launch each instead of thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Loss = Callable[..., Tensor]

MULTIPLES = {"input_ids": 64, "attention_mask": 64, "labels": 32}
"""What the tokens of a batch are padded to a multiple of, so that few shapes occur."""

PADDING = {"labels": -100}
"""0 for the others: what the mask leaves out may hold any token."""

MOST = 24
"""Graphs that are kept: capturing one takes about as long as thirty steps."""

MOST_TOKENS = 2**14
"""Of input, padding included, in a batch that is worth one: with more, kernels run for longer than launching
them takes, and a graph would only keep their memory."""


class GraphedLoss:
    """`loss` of a batch, replayed from CUDA graphs: one for each shape that batches have once padded.

    A small model's step is hundreds of kernels that each run for microseconds, so that launching them is what
    takes the time. Padding changes no loss but for rounding; dropout is drawn anew, as on any other device.
    Shapes beyond the first `MOST`, and batches of more than `MOST_TOKENS`, are computed without, and counted.

    Gradients have to be set to zero, not to None: a graph's own buffers would otherwise be the gradients, and
    the next batch's replay would overwrite what is accumulated in them.
    """

    def __init__(self, loss: Loss, model: nn.Module) -> None:
        self.loss = loss
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.pool = torch.cuda.graph_pool_handle()
        # Captured on another stream than replayed on: that costs nothing here, and would be warned of.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        self.graphs: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self.without = 0

    def __call__(self, batch: Batch, micro_batches: int = 1) -> Tensor:
        """The loss of a batch of so many micro-batches; its `backward` adds to the gradients of `model`."""
        padded = {name: pad(name, batch[name]) for name in MULTIPLES}
        kind = (micro_batches, *(tensor.shape for tensor in padded.values()))
        if kind not in self.graphs:
            if len(self.graphs) == MOST or padded["input_ids"].numel() > MOST_TOKENS:
                self.without += 1
                return self.loss(batch, micro_batches)
            self.graphs[kind] = self._capture(padded, micro_batches)
        return self.graphs[kind](*padded.values())

    def record(self) -> dict[str, int]:
        """How many graphs there are since the last start, and how many batches had none."""
        return {"captured": len(self.graphs), "batches_without": self.without}

    def _capture(self, batch: Batch, micro_batches: int) -> Callable[..., Any]:
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        samples = tuple(tensor.clone() for tensor in batch.values())
        device = samples[0].device
        # Graphs cannot see the cache of weights that autocast keeps; dropout goes on as if nothing had run.
        with (
            torch.random.fork_rng([device], device_type="cuda"),
            torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
        ):
            loss = _Positional(partial(self.loss, micro_batches=micro_batches), list(batch), self.trained)
            return torch.cuda.make_graphed_callables(loss, samples, pool=self.pool)


class _Positional(nn.Module):
    """`loss` as graphs want it: tensors by position, and the weights that it trains its own."""

    def __init__(self, loss: Loss, names: list[str], trained: list[Any]) -> None:
        super().__init__()
        self.loss = loss
        self.names = names
        self.trained = nn.ParameterList(trained)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.loss(dict(zip(self.names, tensors, strict=True)))


def pad(name: str, tokens: Tensor) -> Tensor:
    """`tokens`, (rows, tokens), made as long as the next of `MULTIPLES`."""
    return F.pad(tokens, (0, -tokens.shape[1] % MULTIPLES[name]), value=PADDING.get(name, 0))
